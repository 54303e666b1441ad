//! A fake engine under a test's control, with a batcher in front of it.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
};

use patchlight_engine::{Device, EngineError};

use super::super::{policy::Batching, *};

/// Reports each batch's inputs, then waits for leave to answer. An input's first value is its
/// logit; a negative one fails its batch, an infinite one gives no number, a zero panics. On a broken
/// device every run fails. Rebuilding it is reported as an empty batch.
struct FakeEngine {
    started: Sender<Vec<f32>>,
    permits: Arc<Mutex<Receiver<()>>>,
    device: FakeDevice,
}

/// What a fake engine computes on.
#[derive(Clone)]
pub(super) struct FakeDevice {
    pub(super) device: Device,
    /// How long a run of a single input is thought to take on a device that engines share.
    pub(super) shared: Option<Duration>,
    /// The largest batch that it has memory for.
    pub(super) memory: Arc<AtomicUsize>,
    pub(super) broken: Arc<AtomicBool>,
}

impl FakeDevice {
    pub(super) fn new(device: Device) -> Self {
        Self {
            device,
            shared: None,
            memory: Arc::new(AtomicUsize::new(usize::MAX)),
            broken: Arc::default(),
        }
    }
}

impl Engine for FakeEngine {
    fn device(&self) -> Device {
        self.device.device
    }

    fn shares_device(&self) -> bool {
        self.device.shared.is_some()
    }

    fn run(&mut self, inputs: &[Input<'_>]) -> std::result::Result<Vec<Output>, EngineError> {
        let tag = |input: &Input<'_>| input.tensor.normalized().expect("tests send float32")[0];
        let tags: Vec<f32> = inputs.iter().map(tag).collect();
        let _ = self.started.send(tags.clone());
        // A test that holds no more leave is over.
        let _ = self
            .permits
            .lock()
            .expect("no test panics holding it")
            .recv();
        let size = tags.len();
        if size > self.device.memory.load(Ordering::Relaxed) {
            let error = "asked for".to_owned();
            return Err(EngineError::OutOfMemory { size, error });
        }
        if self.device.broken.load(Ordering::Relaxed) {
            return Err(EngineError::Graph("broken".to_owned()));
        }
        if tags.contains(&0.0) {
            panic!("asked for");
        }
        if tags.iter().any(|&tag| tag < 0.0) {
            return Err(EngineError::Graph("asked for".to_owned()));
        }
        let output = |tag: f32| Output {
            logits: vec![tag],
            rollout: Vec::new(),
            attribution: None,
            class_attention: None,
        };
        Ok(tags.into_iter().map(output).collect())
    }

    fn rebuild(&mut self) -> std::result::Result<(), EngineError> {
        let _ = self.started.send(Vec::new());
        Ok(())
    }
}

pub(super) struct Harness {
    pub(super) batcher: Batcher,
    pub(super) fatal: FatalSignal,
    started: Receiver<Vec<f32>>,
    pub(super) permits: Sender<()>,
}

pub(super) fn harness(max_batch: usize, max_waiting: usize) -> Harness {
    harness_with_workers(1, max_batch, max_waiting).0
}

/// The same with several engines, of which any answers who is given leave; and their threads to
/// wait for.
pub(super) fn harness_with_workers(
    engines: usize,
    max_batch: usize,
    max_waiting: usize,
) -> (Harness, Workers) {
    let devices = vec![FakeDevice::new(Device::Cpu); engines];
    harness_of(&devices, max_batch, max_waiting)
}

/// Two engines in line on one device, a run of which is thought to take so long.
pub(super) fn harness_with_shared_device(max_batch: usize, run: Duration) -> Harness {
    let device = FakeDevice {
        shared: Some(run),
        ..FakeDevice::new(Device::Cuda(0))
    };
    harness_of(&[device.clone(), device], max_batch, 8).0
}

/// An engine on each of these.
pub(super) fn harness_of(
    devices: &[FakeDevice],
    max_batch: usize,
    max_waiting: usize,
) -> (Harness, Workers) {
    let (started, seen) = mpsc::channel();
    let (permits, allowed) = mpsc::channel();
    let policy = Policy {
        batching: Batching::Greedy,
        max_batch: NonZeroUsize::new(max_batch).unwrap(),
        max_waiting: NonZeroUsize::new(max_waiting).unwrap(),
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let allowed = Arc::new(Mutex::new(allowed));
    let engines = devices.iter().map(|device| FakeEngine {
        started: started.clone(),
        permits: Arc::clone(&allowed),
        device: device.clone(),
    });
    let engines = engines.collect();
    let fatal = FatalSignal::default();
    let runs = devices.iter().filter_map(|device| device.shared);
    let warm_up = WarmUp {
        times: runs.take(1).map(|run| (1, run)).collect(),
        largest: None,
    };
    let (batcher, workers) = Batcher::spawn(engines, policy, &warm_up, metrics, &fatal).unwrap();
    let harness = Harness {
        batcher,
        fatal,
        started: seen,
        permits,
    };
    (harness, workers)
}

impl Harness {
    /// Hands a request in and returns once it waits or runs.
    pub(super) async fn submit(&self, tag: f32) -> Submitted {
        self.submit_with(tag, Priority::Foreground).await
    }

    /// The same with low priority.
    pub(super) async fn submit_in_background(&self, tag: f32) -> Submitted {
        self.submit_with(tag, Priority::Background).await
    }

    async fn submit_with(&self, tag: f32, priority: Priority) -> Submitted {
        let all = |load: Load| load.waiting + load.background + load.running;
        let before = all(self.batcher.load());
        let batcher = self.batcher.clone();
        let request = batcher.new_request(Deadline::after(Duration::from_secs(60)));
        let task =
            tokio::spawn(
                async move { batcher.run_with(vec![tag].into(), request, priority).await },
            );
        while all(self.batcher.load()) <= before && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        task
    }

    pub(super) fn next_batch(&self) -> Vec<f32> {
        self.started
            .recv_timeout(Duration::from_secs(10))
            .expect("a batch starts")
    }

    pub(super) fn let_run(&self, batches: usize) {
        for _ in 0..batches {
            self.permits.send(()).unwrap();
        }
    }

    pub(super) fn scrape(&self) -> String {
        self.batcher.metrics.encode(&[], 0).unwrap()
    }
}

pub(super) type Submitted = tokio::task::JoinHandle<Result<Inference>>;

pub(super) fn logit(
    outcome: std::result::Result<Result<Inference>, tokio::task::JoinError>,
) -> f32 {
    outcome.unwrap().unwrap().output.logits[0]
}
