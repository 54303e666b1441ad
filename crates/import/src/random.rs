//! Random weights, for load tests at full size.

use std::{collections::BTreeMap, fmt, str::FromStr};

use patchlight_imaging::preprocess::{Backend, Filter, Normalize, Preprocess, Resize};
use patchlight_model::manifest::{HeadFusion, TaskKind};
use patchlight_onnx::{
    tensor::{DType, Tensor},
    vit::{Activation, BlockWeight as B, Pooling, Variant, VitSpec, WeightId, Weights},
};
use patchlight_splitmix::SplitMix64;

use super::{Checkpoint, ImportError};

/// A usual size of Vision Transformer, for images of 224 × 224 and 1000 classes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arch {
    /// 5.7 million parameters.
    VitTi16,
    /// 22 million.
    VitS16,
    /// 87 million.
    VitB16,
    /// 304 million.
    VitL16,
    /// 632 million.
    VitH14,
}

impl Arch {
    /// All of them, smallest first.
    pub const ALL: [Self; 5] = [
        Self::VitTi16,
        Self::VitS16,
        Self::VitB16,
        Self::VitL16,
        Self::VitH14,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::VitTi16 => "vit-ti-16",
            Self::VitS16 => "vit-s-16",
            Self::VitB16 => "vit-b-16",
            Self::VitL16 => "vit-l-16",
            Self::VitH14 => "vit-h-14",
        }
    }

    /// Size and shape of the network.
    pub fn spec(self, head_fusion: HeadFusion) -> VitSpec {
        let (layers, hidden, heads, patch) = match self {
            Self::VitTi16 => (12, 192, 3, 16),
            Self::VitS16 => (12, 384, 6, 16),
            Self::VitB16 => (12, 768, 12, 16),
            Self::VitL16 => (24, 1024, 16, 16),
            Self::VitH14 => (32, 1280, 16, 14),
        };
        VitSpec {
            layers,
            heads,
            hidden,
            mlp: 4 * hidden,
            image: [224, 224],
            patch,
            prefix: 1,
            classes: 1000,
            norm_epsilon: 1e-6,
            activation: Activation::Gelu,
            pre_norm: false,
            qkv_bias: true,
            pooling: Pooling::ClassToken,
            head_fusion,
            variant: Variant::default(),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                format!("no architecture is called `{name}`; known are {names}")
            })
    }
}

/// A checkpoint of this size whose weights are the same every time.
pub(super) fn checkpoint(arch: Arch, head_fusion: HeadFusion) -> Checkpoint {
    let spec = arch.spec(head_fusion);
    let [height, width] = [224, 224];
    Checkpoint {
        weights: Box::new(RandomWeights {
            spec: spec.clone(),
            random: SplitMix64::new(0),
        }),
        parameters: spec.parameters(),
        labels: None,
        spec,
        task: TaskKind::SingleLabel,
        stripped: None,
        caution: Some("The weights are random: labels, scores and maps mean nothing.".to_owned()),
        preprocess: Preprocess {
            resize: Resize::Squash { height, width },
            filter: Filter::Bilinear,
            backend: Backend::Pillow,
            crop: None,
            normalize: Normalize {
                scale: 1.0 / 255.0,
                mean: [0.5; 3],
                std: [0.5; 3],
                bgr: false,
            },
        },
        source: "random",
        source_files: BTreeMap::new(),
    }
}

/// Kernels and embeddings with a standard deviation of 0.02, as ViTs start their training;
/// normalisations that do nothing; biases of zero.
struct RandomWeights {
    spec: VitSpec,
    random: SplitMix64,
}

impl Weights for RandomWeights {
    type Error = ImportError;

    fn tensor(&mut self, weight: WeightId) -> Result<Tensor, ImportError> {
        let shape = self.spec.shape(weight);
        let elements = shape.iter().product();
        match weight {
            WeightId::FinalNormScale
            | WeightId::Block(_, B::AttentionNormScale | B::MlpNormScale) => {
                Ok(Tensor::f32(shape, &vec![1.0; elements]))
            }
            _ if shape.len() == 1 => Ok(Tensor::f32(shape, &vec![0.0; elements])),
            _ => Ok(Tensor::new(DType::F32, shape, self.uniform(elements))),
        }
    }
}

impl RandomWeights {
    /// Float32 values with mean 0 and standard deviation 0.02, as bytes.
    fn uniform(&mut self, elements: usize) -> Vec<u8> {
        let mut bytes = vec![0; elements * 4];
        let (pairs, rest) = bytes.as_chunks_mut::<8>();
        for pair in pairs {
            *pair = two_floats(self.random.next_u64());
        }
        rest.copy_from_slice(&two_floats(self.random.next_u64())[..rest.len()]);
        bytes
    }
}

fn two_floats(bits: u64) -> [u8; 8] {
    // A uniform distribution over ±√3·σ has the standard deviation σ.
    const LIMIT: f32 = 0.02 * 1.732_050_8;
    const STEP: f32 = LIMIT / (1_u32 << 23) as f32;
    let float = |bits: u64| {
        let signed = (bits & 0xff_ffff) as i32 - (1 << 23);
        (signed as f32 * STEP).to_le_bytes()
    };
    let ([a, b, c, d], [e, f, g, h]) = (float(bits), float(bits >> 32));
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_stated_mean_and_deviation_whatever_their_number() {
        let mut weights = RandomWeights {
            spec: Arch::VitTi16.spec(HeadFusion::Mean),
            random: SplitMix64::new(0),
        };
        let values = Tensor::new(DType::F32, vec![99_999], weights.uniform(99_999)).to_f32();
        let mean = values.iter().sum::<f32>() / 99_999.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 99_999.0;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((variance.sqrt() - 0.02).abs() < 3e-4, "{}", variance.sqrt());
    }

    #[test]
    fn names_are_read_back() {
        for arch in Arch::ALL {
            assert_eq!(arch.name().parse(), Ok(arch));
        }
        assert!(
            "vit-g-14"
                .parse::<Arch>()
                .is_err_and(|e| e.contains("vit-h-14"))
        );
    }
}
