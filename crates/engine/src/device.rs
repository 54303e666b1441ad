//! Devices and their execution providers.

use std::{fmt, path::Path, str::FromStr};

use ort::{ep::ExecutionProviderDispatch, session::builder::SessionBuilder};
use patchlight_model::manifest::Precision;

use super::EngineError;

/// A device as it is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Device {
    /// CUDA where it is built in and works, or else the CPU; falling back is said loudly. TensorRT
    /// has to be named: it builds its engines before the first answer, again for each model, device
    /// and version, and whoever starts a server has to expect that.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU through CUDA, by its index.
    Cuda(u32),
    /// An NVIDIA GPU through TensorRT, by its index.
    TensorRt(u32),
}

impl Device {
    /// The devices to try for a model of this precision, best first. All but the last may fail.
    pub(super) fn candidates(self, precision: Precision) -> Vec<Self> {
        match self {
            Self::Auto if precision == Precision::Int8 => vec![Self::Cpu],
            Self::Auto if cfg!(feature = "cuda") => vec![Self::Cuda(0), Self::Cpu],
            Self::Auto => vec![Self::Cpu],
            named => vec![named],
        }
    }

    /// What [`Auto`](Self::Auto) does not even try for a model of this precision, and why.
    pub(super) fn passed_over(self, precision: Precision) -> Vec<(Self, &'static str)> {
        if self != Self::Auto {
            return Vec::new();
        }
        let tensorrt = "it builds its engines before the first answer, so it has to be named";
        let mut passed = vec![(Self::TensorRt(0), tensorrt)];
        if precision == Precision::Int8 {
            passed.push((Self::Cuda(0), "the model is int8, which is for CPUs"));
        } else if !cfg!(feature = "cuda") {
            passed.push((Self::Cuda(0), "this program was built without it"));
        }
        passed
    }

    /// Whether a GPU will compute, as far as can be told before a model is there: for `Auto` the
    /// program has to be built for CUDA and NVIDIA's driver to have made its device.
    pub fn expects_gpu(self) -> bool {
        match self {
            Self::Cpu => false,
            Self::Cuda(_) | Self::TensorRt(_) => true,
            Self::Auto => cfg!(feature = "cuda") && Path::new("/dev/nvidiactl").exists(),
        }
    }

    /// Memory of the card, as its driver tells it now, whoever uses it; `None` for a device that is
    /// no card, and where the driver does not tell.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(
            clippy::missing_const_for_fn,
            reason = "it asks the driver where there is one"
        )
    )]
    pub fn card_memory(self) -> Option<CardMemory> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(card) | Self::TensorRt(card) => {
                let (free, total) = patchlight_kernels::cuda::card_memory(card as usize).ok()?;
                Some(CardMemory { free, total })
            }
            _ => None,
        }
    }

    /// Adds the execution provider of this device to a session.
    ///
    /// The CPU's is always there and is not added: naming it would switch its arena off.
    ///
    /// # Errors
    /// If the program was built without it, or it cannot be used, or the model is int8 and this is
    /// a GPU.
    pub(super) fn add_to(
        self,
        builder: SessionBuilder,
        precision: Precision,
    ) -> Result<SessionBuilder, EngineError> {
        let fail = |error: String| EngineError::Device {
            device: self,
            error,
        };
        if precision == Precision::Int8 && matches!(self, Self::Cuda(_) | Self::TensorRt(_)) {
            return Err(fail(
                "the model is int8, whose products of whole bytes the runtime has for CPUs only: \
                 every layer would go to the CPU and back. Import it with --precision fp16 for a \
                 GPU, or serve it with --device cpu"
                    .to_owned(),
            ));
        }
        match self.provider() {
            Ok(None) => Ok(builder),
            Ok(Some(provider)) => builder
                .with_execution_providers([provider.error_on_failure()])
                .map_err(|error| fail(error.to_string())),
            Err(feature) => Err(fail(format!(
                "this program was built without it; build with `--features {feature}`"
            ))),
        }
    }

    fn provider(self) -> Result<Option<ExecutionProviderDispatch>, &'static str> {
        match self {
            Self::Auto | Self::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Ok(Some(cuda(index).build())),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err("cuda"),
            // Its options are more than a device and a precision: see `OrtEngine::load`.
            Self::TensorRt(_) => Err("tensorrt"),
        }
    }
}

/// TF32 off: float32 answers stay those of the CPU. Heuristic search: the default tries every
/// convolution algorithm again for each new batch size.
#[cfg(feature = "cuda")]
pub(super) fn cuda(index: u32) -> ort::ep::CUDA {
    ort::ep::CUDA::default()
        .with_device_id(index as i32)
        .with_tf32(false)
        .with_conv_algorithm_search(ort::ep::cuda::ConvAlgorithmSearch::Heuristic)
}

/// Memory of a card, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CardMemory {
    /// What nobody uses.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::TensorRt(index) => write!(f, "tensorrt:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index)),
            None => (text, None),
        };
        let number = || match index {
            None => Ok(0),
            Some(digits) => digits
                .parse()
                .map_err(|_| format!("`{digits}` is not the index of a device, such as 0")),
        };
        match name {
            "auto" if index.is_none() => Ok(Self::Auto),
            "cpu" if index.is_none() => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(number()?)),
            "tensorrt" => Ok(Self::TensorRt(number()?)),
            _ => Err(format!(
                "`{text}` is not one of auto, cpu, cuda, cuda:N, tensorrt, tensorrt:N"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_reads_as_it_is_written() {
        for device in [
            Device::Auto,
            Device::Cpu,
            Device::Cuda(0),
            Device::Cuda(3),
            Device::TensorRt(1),
        ] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
    }

    #[test]
    fn int8_is_for_cpus() {
        assert_eq!(Device::Auto.candidates(Precision::Int8), [Device::Cpu]);
        let floating = Device::Auto.candidates(Precision::Fp16);
        assert_eq!(floating.last(), Some(&Device::Cpu));
        // A device that is named is meant: nothing else is tried.
        let named = Device::Cuda(1).candidates(Precision::Fp32);
        assert_eq!(named, [Device::Cuda(1)]);
    }

    /// As the help of `--device` says.
    #[test]
    fn auto_is_cuda_if_built_in_or_else_the_cpu() {
        let cuda = cfg!(feature = "cuda").then_some(Device::Cuda(0));
        let expected: Vec<Device> = cuda.into_iter().chain([Device::Cpu]).collect();
        for precision in [Precision::Fp32, Precision::Fp16] {
            assert_eq!(Device::Auto.candidates(precision), expected);
        }
    }

    #[test]
    fn auto_tries_each_device_or_says_why_not() {
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
            let tried = Device::Auto.candidates(precision);
            let passed = Device::Auto.passed_over(precision);
            for device in [Device::TensorRt(0), Device::Cuda(0), Device::Cpu] {
                let said = passed.iter().any(|(passed, _)| *passed == device);
                assert!(tried.contains(&device) != said, "{device} {precision}");
            }
        }
        assert!(Device::Cuda(0).passed_over(Precision::Fp16).is_empty());
    }

    #[test]
    fn index_defaults_to_the_first() {
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
    }

    #[test]
    fn a_cpu_has_no_memory_of_a_card() {
        assert_eq!(Device::Cpu.card_memory(), None);
    }

    #[test]
    fn nonsense_is_refused_with_the_list() {
        for text in ["gpu", "cpu:1", "cuda:x", "auto:0", ""] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
