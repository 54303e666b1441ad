//! From a rate to machines: divisions, rounded up.

use crate::figures::{
    BUSY, COPY_BYTES, CORES_A_MACHINE, Engine, KEPT_FOR, MAP_BYTES, Model, NETWORK, STORE_BYTES,
    Upload,
};

/// What a rate of images needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Busy cores that the model needs; 0 with GPUs.
    pub(crate) model_cores: f64,
    /// Busy cores for everything else.
    pub(crate) other_cores: f64,
    /// GPUs, none of them busier than planned.
    pub(crate) gpus: u64,
    /// Machines; with GPUs, hosts' shares with one each.
    pub(crate) machines: u64,
    /// Bits a second that arrive.
    pub(crate) network: f64,
    /// Bytes in Redis with images; the store `signed` keeps none.
    pub(crate) store: f64,
    /// What another machine would be bought for.
    pub(crate) bottleneck: Bottleneck,
}

/// Of what there is too little first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bottleneck {
    /// The model's own computing.
    Inference,
    /// Decoding, and the rest of the processor's work.
    Decode,
    /// Bytes that arrive.
    Network,
}

impl Bottleneck {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Decode => "decode",
            Self::Network => "network",
        }
    }
}

impl Plan {
    /// For `rate` images a second, and one machine more than needed wherever there are several.
    pub(crate) fn new(model: Model, upload: Upload, rate: f64) -> Self {
        let other_cores = rate * upload.core_seconds;
        let network = rate * upload.bytes * 8.0;
        let (model_cores, gpu_seconds) = match model.engine {
            Engine::Cpu(seconds) => (rate * seconds, 0.0),
            Engine::Gpu(seconds) => (0.0, rate * seconds),
        };
        let gpus = gpu_seconds / BUSY;
        let cores = (model_cores + other_cores) / BUSY / CORES_A_MACHINE;
        let wires = network / NETWORK;
        let bottleneck = if wires > gpus.max(cores) {
            Bottleneck::Network
        } else if cores > gpus && other_cores > model_cores {
            Bottleneck::Decode
        } else {
            Bottleneck::Inference
        };
        let needed = gpus.max(cores).max(wires).ceil() as u64;
        Self {
            model_cores,
            other_cores,
            gpus: gpus.ceil() as u64,
            machines: needed + 1,
            network,
            store: rate * KEPT_FOR * (MAP_BYTES + COPY_BYTES),
            bottleneck,
        }
    }

    /// Redis servers of a comfortable size.
    pub(crate) fn stores(&self) -> u64 {
        (self.store / STORE_BYTES).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Upload = Upload {
        name: "small",
        bytes: 100e3,
        core_seconds: 0.01,
    };

    fn plan(engine: Engine, rate: f64) -> Plan {
        let model = Model { name: "m", engine };
        Plan::new(model, SMALL, rate)
    }

    #[test]
    fn cores_add_up_and_leave_room_and_a_spare() {
        // (1 + 0.01) core-seconds · 100/s = 101 cores, at 70 % 144.3, at 16 a machine 9.02.
        let plan = plan(Engine::Cpu(1.0), 100.0);
        assert!((plan.model_cores - 100.0).abs() < 1e-9 && (plan.other_cores - 1.0).abs() < 1e-9);
        assert_eq!((plan.machines, plan.gpus), (11, 0));
        assert_eq!(plan.bottleneck, Bottleneck::Inference);
    }

    #[test]
    fn a_fast_engine_moves_the_bottleneck_to_decoding() {
        // 1000/s: 0.1 ms of a GPU are 0.14 of one, 10 cores at 70 % are 0.89 machines.
        let plan = plan(Engine::Gpu(1e-4), 1000.0);
        assert_eq!((plan.gpus, plan.machines), (1, 2));
        assert_eq!(plan.bottleneck, Bottleneck::Decode);
    }

    #[test]
    fn large_bodies_move_it_to_the_network() {
        // 100/s of 20 MB are 16 Gbit/s: two networks.
        let huge = Upload {
            bytes: 20e6,
            ..SMALL
        };
        let engine = Engine::Gpu(1e-3);
        let plan = Plan::new(Model { name: "m", engine }, huge, 100.0);
        assert_eq!((plan.machines, plan.bottleneck), (3, Bottleneck::Network));
    }

    #[test]
    fn a_store_holds_what_arrives_within_its_time() {
        // 10/s · 3600 s · 124 kB = 4.46 GB.
        let plan = plan(Engine::Cpu(0.1), 10.0);
        assert!((plan.store - 4.464e9).abs() < 1e3);
        assert_eq!(plan.stores(), 1);
    }
}
