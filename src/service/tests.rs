//! A service in front of an engine that computes nothing, for tests of admission.

use std::{fs, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use patchlight_engine::{Device, Engine, EngineError, Input, Output};
use patchlight_imaging::{
    decode::{JpegScaling, Limits},
    preprocess::{Pipeline, TensorForm},
};
use patchlight_model::{ModelDescriptor, ModelInfo};

use super::*;
use crate::{
    batch::{Batcher, FatalSignal, Policy, WarmUp, policy::Batching},
    classify::{AbstainRule, Classifier},
    decode_budget::DecodeBudget,
    request_log::RequestLog,
    store::{Store, StoreKind, StoreOptions},
};

pub(super) const KEY: &str = "0123456789abcdef";

pub(super) const MIB: u64 = 1 << 20;

/// Answers at once; the first value of a tensor is the first logit, the others are 0.
struct FakeEngine {
    classes: usize,
}

impl Engine for FakeEngine {
    fn device(&self) -> Device {
        Device::Cpu
    }

    fn run(&mut self, inputs: &[Input<'_>]) -> std::result::Result<Vec<Output>, EngineError> {
        let output = |input: &Input<'_>| {
            let mut logits = vec![0.0; self.classes];
            logits[0] = input.tensor.normalized().expect("tests send float32")[0];
            Output {
                logits,
                rollout: Vec::new(),
                attribution: None,
                class_attention: None,
            }
        };
        Ok(inputs.iter().map(output).collect())
    }

    fn rebuild(&mut self) -> std::result::Result<(), EngineError> {
        Ok(())
    }
}

/// The demo model, whose engine has taken so long for an image. `keys` is a file of API keys,
/// `memory` what bodies may take.
pub(super) fn service(keys: &str, memory: u64, image_time: Duration) -> Service {
    let metrics = Arc::new(Metrics::new().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), keys).unwrap();
    let limits = RequestLimits {
        max_body: MIB,
        upload_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
    };
    let models = Registry::new("demo", Arc::new(classifier(image_time, &metrics)));
    let keys = KeyRing::load(file.path()).unwrap();
    Service::new(models, limits, Some(keys), memory, metrics)
}

fn classifier(image_time: Duration, metrics: &Arc<Metrics>) -> Classifier {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let model = ModelInfo::open(&folder).unwrap();
    let policy = Policy {
        batching: Batching::Greedy,
        max_batch: NonZeroUsize::new(4).unwrap(),
        max_waiting: NonZeroUsize::new(100).unwrap(),
    };
    let classes = model.manifest.task.classes;
    let engines = vec![FakeEngine { classes }];
    let warm_up = WarmUp {
        times: vec![(1, image_time)],
        largest: None,
    };
    let fatal = FatalSignal::default();
    let spawned = Batcher::spawn(engines, policy, &warm_up, Arc::clone(metrics), &fatal);
    let (batcher, _) = spawned.unwrap();
    let options = StoreOptions {
        kind: StoreKind::Memory,
        bytes: MIB,
        ttl: Duration::from_secs(60),
    };
    Classifier {
        descriptor: Arc::new(ModelDescriptor::of(&model)),
        pipeline: Arc::new(Pipeline::new(&model.manifest.preprocess).unwrap()),
        model: Arc::new(model),
        devices: Device::Cpu.into(),
        form: TensorForm::Normalized,
        batcher,
        limits: Limits::default(),
        jpeg_scaling: JpegScaling::Off,
        budget: DecodeBudget::new(100 * MIB, 1),
        store: Store::new(&options, Arc::clone(metrics)),
        keep_previews: false,
        results: None,
        abstain: AbstainRule::default(),
        request_log: RequestLog::default(),
        metrics: Arc::clone(metrics),
    }
}

impl Service {
    /// Admits a request of the one key.
    pub(super) fn admit_default(&self, timeout: Option<Duration>) -> Result<Admitted> {
        let caller = self.authenticate(Some(KEY.as_bytes())).unwrap();
        self.admit(RequestDescriptor {
            caller: &caller,
            address: None,
            classifier: &self.models.default_model(),
            timeout,
            content_length: Some(MIB),
        })
    }

    /// How often load was shed for this reason.
    pub(super) fn shed(&self, reason: &str) -> usize {
        let text = self.metrics.encode(&[], 0).unwrap();
        let line = format!("patchlight_shed_total{{reason=\"{reason}\"}} ");
        let count = text.lines().find_map(|found| found.strip_prefix(&line));
        count.map_or(0, |count| count.parse().unwrap())
    }
}
