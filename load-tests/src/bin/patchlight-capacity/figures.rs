//! What is put in: measured where we could, published where we could not, each with its source.

/// A model on a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) engine: Engine,
}

/// What one image costs the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Engine {
    /// Core-seconds of processors.
    Cpu(f64),
    /// Seconds of one GPU, in full batches.
    Gpu(f64),
}

/// Images as clients send them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upload {
    pub(crate) name: &'static str,
    /// Bytes on the wire.
    pub(crate) bytes: f64,
    /// Core-seconds for everything but the model: HTTP, decoding, resizing, the copy for the
    /// overlay.
    pub(crate) core_seconds: f64,
}

/// CPUs: seconds per image times the two cores of an AMD EPYC with AVX-512 that took them, at batch
/// 1 with the rollout in the graph, measured before this program was written with the same graphs.
/// The GPU: 1,079 images a second of ViT-L/16 on one A100 in FP16, published for FasterTransformer
/// at batch 32, with 80 % of it left for ONNX Runtime and the maps: an assumption, not a
/// measurement.
pub(crate) const MODELS: [Model; 4] = [
    Model {
        name: "ViT-Ti/16 float32, CPU",
        engine: Engine::Cpu(0.0159 * 2.0),
    },
    Model {
        name: "ViT-L/16 float32, CPU",
        engine: Engine::Cpu(0.657 * 2.0),
    },
    Model {
        name: "ViT-L/16 int8, CPU",
        engine: Engine::Cpu(0.199 * 2.0),
    },
    Model {
        name: "ViT-L/16 float16, A100",
        engine: Engine::Gpu(1.0 / (1079.0 * 0.8)),
    },
];

/// Small: 88.96 images a second over HTTP on two cores where the bare session gave 98.46
/// (docs/performance/compare.json of commit 0f65668), so 2 · (1/88.96 − 1/98.46) core-seconds are
/// everything else, the load generator included. Large: 27.1 a second where the small one gave 89.6
/// in the same minute, with `--jpeg-scaling auto` and the copy for the overlay; a JPEG of quality
/// 90.
pub(crate) const UPLOADS: [Upload; 2] = [
    Upload {
        name: "500×375",
        bytes: 40e3,
        core_seconds: SMALL,
    },
    Upload {
        name: "4000×3000",
        bytes: 1.3e6,
        core_seconds: SMALL + 2.0 * (1.0 / 27.1 - 1.0 / 89.6),
    },
];

/// See [`UPLOADS`].
const SMALL: f64 = 2.0 * (1.0 / 88.96 - 1.0 / 98.46);

/// Images a second.
pub(crate) const RATES: [f64; 3] = [1.0, 100.0, 10_000.0];

/// How busy machines should be: above it, waiting grows faster than the load.
pub(crate) const BUSY: f64 = 0.7;

/// A machine for the processor's work, and a host's share of cores for each of its GPUs.
pub(crate) const CORES_A_MACHINE: f64 = 16.0;

/// Bits a second that a machine's network takes without trouble: 8 of 10 Gbit/s.
pub(crate) const NETWORK: f64 = 8e9;

/// Bytes kept for one image in Redis (docs/stores.md, ViT-L/16): the map with its evidence, and
/// the copy for the overlay.
pub(crate) const MAP_BYTES: f64 = 24e3;
/// See [`MAP_BYTES`].
pub(crate) const COPY_BYTES: f64 = 100e3;

/// Seconds that Redis keeps a map, the default of `--attention-ttl`.
pub(crate) const KEPT_FOR: f64 = 3600.0;

/// Bytes that one Redis holds comfortably.
pub(crate) const STORE_BYTES: f64 = 64e9;
