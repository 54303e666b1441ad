//! An engine that does what a test wants, and a batcher in front of it.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        mpsc::{self, Receiver, Sender},
    },
};

use patchlight_engine::EngineError;

use super::super::{policy::Batching, *};

/// Reports each batch's inputs, then waits for leave to answer. An input's first value is its
/// logit; a negative one fails its batch, an infinite one gives no number, a zero panics. Making it
/// anew is reported as an empty batch.
struct Puppet {
    started: Sender<Vec<f32>>,
    leave: Arc<Mutex<Receiver<()>>>,
}

impl Engine for Puppet {
    fn run(&mut self, inputs: &[Input<'_>]) -> std::result::Result<Vec<Output>, EngineError> {
        let tags: Vec<f32> = inputs.iter().map(|input| input.tensor[0]).collect();
        let _ = self.started.send(tags.clone());
        // A test that holds no more leave is over.
        let _ = self.leave.lock().expect("nobody panics holding it").recv();
        if tags.contains(&0.0) {
            panic!("asked for");
        }
        if tags.iter().any(|&tag| tag < 0.0) {
            return Err(EngineError::Graph("asked for".to_owned()));
        }
        let output = |tag: f32| Output {
            logits: vec![tag],
            rollout: Vec::new(),
            evidence: None,
            class_attention: None,
        };
        Ok(tags.into_iter().map(output).collect())
    }

    fn rebuild(&mut self) -> std::result::Result<(), EngineError> {
        let _ = self.started.send(Vec::new());
        Ok(())
    }
}

pub(super) struct Stage {
    pub(super) batcher: Batcher,
    pub(super) alarm: Alarm,
    started: Receiver<Vec<f32>>,
    pub(super) leave: Sender<()>,
}

pub(super) fn stage(max_batch: usize, max_waiting: usize) -> Stage {
    stage_and_workers(1, max_batch, max_waiting).0
}

/// The same with several engines, of which any answers who is given leave; and their threads to wait
/// for.
pub(super) fn stage_and_workers(
    engines: usize,
    max_batch: usize,
    max_waiting: usize,
) -> (Stage, Workers) {
    let (started, seen) = mpsc::channel();
    let (leave, allowed) = mpsc::channel();
    let policy = Policy {
        batching: Batching::Greedy,
        max_batch: NonZeroUsize::new(max_batch).unwrap(),
        max_waiting: NonZeroUsize::new(max_waiting).unwrap(),
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let allowed = Arc::new(Mutex::new(allowed));
    let puppet = || Puppet {
        started: started.clone(),
        leave: Arc::clone(&allowed),
    };
    let engines = (0..engines).map(|_| puppet()).collect();
    let alarm = Alarm::default();
    let (batcher, workers) = Batcher::spawn(engines, policy, &[], metrics, &alarm).unwrap();
    let stage = Stage {
        batcher,
        alarm,
        started: seen,
        leave,
    };
    (stage, workers)
}

impl Stage {
    /// Hands a request in and returns once it waits or runs.
    pub(super) async fn submit(&self, tag: f32) -> Asked {
        self.submit_with(tag, Priority::Foreground).await
    }

    /// The same with low priority.
    pub(super) async fn submit_in_background(&self, tag: f32) -> Asked {
        self.submit_with(tag, Priority::Background).await
    }

    async fn submit_with(&self, tag: f32, priority: Priority) -> Asked {
        let all = |load: Load| load.waiting + load.background + load.running;
        let before = all(self.batcher.load());
        let batcher = self.batcher.clone();
        let deadline = Deadline::after(Duration::from_secs(60));
        let task =
            tokio::spawn(
                async move { batcher.run_with(vec![tag].into(), deadline, priority).await },
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
            self.leave.send(()).unwrap();
        }
    }

    pub(super) fn scrape(&self) -> String {
        self.batcher.metrics.encode(&[], 0).unwrap()
    }
}

pub(super) type Asked = tokio::task::JoinHandle<Result<Inference>>;

pub(super) fn logit(
    outcome: std::result::Result<Result<Inference>, tokio::task::JoinError>,
) -> f32 {
    outcome.unwrap().unwrap().output.logits[0]
}
