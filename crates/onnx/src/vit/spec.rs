//! What one Vision Transformer looks like: all that tells its graph from another's.

use serde::{Deserialize, Serialize};

use super::{
    BlockWeight, PoolWeight, WeightId,
    activation::Activation,
    variant::{Rotation, UnitLength, Variant, relations},
};

/// How the heads' attention matrices become one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum HeadFusion {
    /// Their mean, as in the paper.
    Mean,
    /// The largest of them, rows normalised afterwards.
    Max,
    /// The smallest of them, rows normalised afterwards.
    Min,
}

/// Size, shape and conventions of one network.
#[derive(Clone, Debug, PartialEq)]
pub struct VitSpec {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads per block; divides `hidden`.
    pub heads: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the hidden layer of each MLP.
    pub mlp: usize,
    /// Height and width of the image in pixels.
    pub image: [usize; 2],
    /// Side of a square patch in pixels; divides both sides of the image.
    pub patch: usize,
    /// Tokens before the first patch. The class token comes first.
    pub prefix: usize,
    /// Number of classes.
    pub classes: usize,
    /// Added to the variance in every normalisation.
    pub norm_epsilon: f32,
    /// Between the two layers of each MLP.
    pub activation: Activation,
    /// Whether tokens are normalised before the first block, as in CLIP.
    pub pre_norm: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// What the classifier reads.
    pub pooling: Pooling,
    /// How the heads' attention matrices become one for the rollout.
    pub head_fusion: HeadFusion,
    /// What it has beside the parts of a plain Vision Transformer.
    pub variant: Variant,
}

/// What the classifier reads, and so where the rollout starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pooling {
    /// The first token.
    ClassToken,
    /// The first two tokens, each with a classifier of its own: the logits are the mean of both
    /// (DeiT with a distillation token; Touvron et al. 2021).
    ClassAndDistillation,
    /// The mean over the patches, without the prefix tokens.
    PatchMean(PoolNorm),
    /// The class token and, beside it, the mean over the patches (DINOv2; Oquab et al. 2023).
    ClassAndMean,
    /// What a learned query reads of all tokens.
    Attention,
}

/// Where the last normalisation stands when the classifier reads a mean of tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PoolNorm {
    /// Each token is normalised, then the mean taken.
    BeforeMean,
    /// The mean is normalised (timm's `fc_norm`).
    AfterMean,
    /// Nowhere.
    Absent,
}

impl Pooling {
    /// How many states of width `hidden` the classifier's kernel takes, joined.
    pub fn pooled_states(self) -> usize {
        match self {
            Self::ClassToken | Self::PatchMean(_) | Self::Attention => 1,
            Self::ClassAndDistillation | Self::ClassAndMean => 2,
        }
    }

    /// Whether the graph makes per-label attribution.
    ///
    /// # Errors
    /// Why it does not, to complete "… has no attribution, because".
    pub fn attribution_support(self) -> Result<(), &'static str> {
        match self {
            Self::ClassToken | Self::PatchMean(_) | Self::ClassAndMean | Self::Attention => Ok(()),
            Self::ClassAndDistillation => {
                Err("its classifier reads two tokens, and the account is kept for one")
            }
        }
    }

    /// Whether what every block wrote to the class token is part of the attribution, and the graph
    /// hands that token's attention out.
    pub fn follows_class_token(self) -> bool {
        matches!(self, Self::ClassToken | Self::ClassAndMean)
    }
}

impl VitSpec {
    /// Whether its numbers fit each other: heads divide their width, rotation and pooling theirs.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self) -> Result<(), String> {
        let (heads, hidden) = (self.heads, self.hidden);
        if heads == 0 || self.variant.head_size.is_none() && !hidden.is_multiple_of(heads) {
            return Err(format!(
                "has {heads} heads, which do not divide the width {hidden}"
            ));
        }
        let size = self.head_size();
        if self.variant.rotary != Rotation::None && !size.is_multiple_of(4) {
            return Err(format!(
                "has heads of width {size}, which rotary positions in two dimensions do not divide"
            ));
        }
        let pool = self.variant.attention_pool.heads;
        if self.pooling == Pooling::Attention && (pool == 0 || !hidden.is_multiple_of(pool)) {
            return Err(format!(
                "pools with {pool} heads, which do not divide the width {hidden}"
            ));
        }
        if self.variant.relative_bias && self.prefix != 1 {
            return Err(format!(
                "has {} tokens before the patches, where relative positions tell of one",
                self.prefix
            ));
        }
        if self.layers == 0 || self.mlp == 0 || self.classes == 0 {
            return Err("has a size of 0".to_owned());
        }
        Ok(())
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image.map(|side| side / self.patch)
    }

    /// Number of patches.
    pub fn patches(&self) -> usize {
        self.grid().iter().product()
    }

    /// Length of the token sequence.
    pub fn tokens(&self) -> usize {
        self.prefix + self.patches()
    }

    /// How many tokens, from the first, have to leave the last block for pooling.
    pub fn pooled_tokens(&self) -> usize {
        match self.pooling {
            Pooling::ClassToken => 1,
            Pooling::ClassAndDistillation => 2,
            Pooling::PatchMean(_) | Pooling::ClassAndMean | Pooling::Attention => self.tokens(),
        }
    }

    /// How many tokens, from the first, attention that pools leaves out.
    pub fn pool_skips(&self) -> usize {
        match self.variant.attention_pool.patches_only {
            true => self.prefix,
            false => 0,
        }
    }

    /// For how many labels attribution is made: the five best, or all if there are fewer.
    pub fn attribution_labels(&self) -> usize {
        self.classes.min(5)
    }

    /// Width of one head.
    pub fn head_size(&self) -> usize {
        self.variant.head_size.unwrap_or(self.hidden / self.heads)
    }

    /// Width of what all heads read together.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_size()
    }

    /// Whether there is a normalisation after the last block.
    pub fn has_final_norm(&self) -> bool {
        self.pooling != Pooling::PatchMean(PoolNorm::Absent)
    }

    /// Every constant of the network, in the order in which the graph takes them.
    pub fn weight_ids(&self) -> Vec<WeightId> {
        use BlockWeight as B;
        let mut block = vec![
            B::AttentionNormScale,
            B::AttentionNormBias,
            B::QueryKernel,
            B::KeyKernel,
            B::ValueKernel,
        ];
        let variant = &self.variant;
        if self.qkv_bias {
            block.extend([B::QueryBias, B::KeyBias, B::ValueBias]);
        }
        if variant.qk_norm {
            block.extend([B::QueryNormScale, B::QueryNormBias]);
            block.extend([B::KeyNormScale, B::KeyNormBias]);
        }
        if variant.relative_bias {
            block.push(B::RelativeBias);
        }
        if variant.rotary == Rotation::OfEachHead {
            block.extend([B::RotaryCosines, B::RotarySines]);
        }
        if variant.heads_norm {
            block.extend([B::HeadsNormScale, B::HeadsNormBias]);
        }
        block.extend([B::OutKernel, B::OutBias, B::MlpNormScale, B::MlpNormBias]);
        block.extend([B::UpKernel, B::UpBias]);
        if variant.mlp.is_gated() {
            block.extend([B::GateKernel, B::GateBias]);
        }
        if variant.mlp.has_norm() {
            block.extend([B::InnerNormScale, B::InnerNormBias]);
        }
        block.extend([B::DownKernel, B::DownBias]);

        let mut weight_ids = vec![
            WeightId::PatchKernel,
            WeightId::PatchBias,
            WeightId::Prefix,
            WeightId::Positions,
        ];
        if self.pre_norm {
            weight_ids.extend([WeightId::PreNormScale, WeightId::PreNormBias]);
        }
        if variant.rotary == Rotation::Shared {
            weight_ids.extend([WeightId::RotaryCosines, WeightId::RotarySines]);
        }
        for layer in 0..self.layers {
            weight_ids.extend(block.iter().map(|&weight| WeightId::Block(layer, weight)));
        }
        if self.has_final_norm() {
            weight_ids.extend([WeightId::FinalNormScale, WeightId::FinalNormBias]);
        }
        if self.pooling == Pooling::Attention {
            let pool = PoolWeight::ALL.into_iter();
            let pool = pool.filter(|weight| {
                variant.attention_pool.norm_after
                    || !matches!(
                        weight,
                        PoolWeight::NormAfterScale | PoolWeight::NormAfterBias
                    )
            });
            weight_ids.extend(pool.map(WeightId::Pool));
        }
        if let UnitLength::Projected(_) = variant.unit_length {
            weight_ids.push(WeightId::Projection);
        }
        weight_ids.extend([WeightId::HeadKernel, WeightId::HeadBias]);
        weight_ids
    }

    /// Shape of a constant; kernels are `[in, out]`.
    pub fn shape(&self, weight: WeightId) -> Vec<usize> {
        use BlockWeight as B;
        let (hidden, mlp, attention) = (self.hidden, self.mlp, self.attention_width());
        match weight {
            WeightId::PatchKernel => vec![3 * self.patch * self.patch, hidden],
            WeightId::Prefix => vec![self.prefix, hidden],
            WeightId::Positions => vec![self.patches(), hidden],
            WeightId::PatchBias
            | WeightId::PreNormScale
            | WeightId::PreNormBias
            | WeightId::FinalNormScale
            | WeightId::FinalNormBias => vec![hidden],
            WeightId::HeadKernel => vec![self.pooling.pooled_states() * hidden, self.classes],
            WeightId::HeadBias => vec![self.classes],
            WeightId::RotaryCosines | WeightId::RotarySines => {
                vec![self.patches(), self.head_size()]
            }
            WeightId::Projection => {
                let width = match self.variant.unit_length {
                    UnitLength::Projected(width) => width,
                    UnitLength::None | UnitLength::State => 0,
                };
                vec![hidden, width]
            }
            WeightId::Pool(weight) => weight.shape(hidden, self.variant.attention_pool.mlp),
            WeightId::Block(_, weight) => match weight {
                B::QueryKernel | B::KeyKernel | B::ValueKernel => vec![hidden, attention],
                B::OutKernel => vec![attention, hidden],
                B::QueryBias | B::KeyBias | B::ValueBias | B::HeadsNormScale | B::HeadsNormBias => {
                    vec![attention]
                }
                B::QueryNormScale | B::QueryNormBias | B::KeyNormScale | B::KeyNormBias => {
                    vec![self.head_size()]
                }
                B::RotaryCosines | B::RotarySines => {
                    vec![self.heads, self.patches(), self.head_size()]
                }
                B::RelativeBias => vec![self.heads, relations(self.grid())],
                B::UpKernel | B::GateKernel => vec![hidden, mlp],
                B::UpBias | B::GateBias | B::InnerNormScale | B::InnerNormBias => vec![mlp],
                B::DownKernel => vec![mlp, hidden],
                B::AttentionNormScale
                | B::AttentionNormBias
                | B::OutBias
                | B::MlpNormScale
                | B::MlpNormBias
                | B::DownBias => vec![hidden],
            },
        }
    }

    /// Number of trained values of a plain network: with a position for each prefix token (which
    /// the graph holds added up) and without LayerScale (which it holds multiplied in).
    pub fn parameters(&self) -> u64 {
        let count = |weight| self.shape(weight).iter().product::<usize>();
        let constants: usize = self.weight_ids().into_iter().map(count).sum();
        (constants + count(WeightId::Prefix)) as u64
    }

    /// Multiply–accumulate operations of the network as published, for one image: patch projection,
    /// linear layers and both attention products over all tokens. The graph needs fewer, as its
    /// last block leaves out what nothing reads.
    pub fn macs(&self) -> u64 {
        let tokens = self.tokens();
        let ups = 1 + usize::from(self.variant.mlp.is_gated());
        let linear = 4 * self.hidden * self.attention_width() + (ups + 1) * self.hidden * self.mlp;
        let attention = 2 * tokens * self.attention_width();
        let embedding = self.patches() * 3 * self.patch * self.patch * self.hidden;
        let head = self.pooling.pooled_states() * self.hidden * self.classes;
        (self.layers * tokens * (linear + attention) + embedding + head) as u64
    }

    /// The family's usual name, such as `ViT-L/16`; sizes that have none are spelled out.
    pub fn name(&self) -> String {
        let size = match (self.layers, self.hidden, self.heads, self.mlp) {
            (12, 192, 3, 768) => "Ti".to_owned(),
            (12, 384, 6, 1536) => "S".to_owned(),
            (12, 768, 12, 3072) => "B".to_owned(),
            (24, 1024, 16, 4096) => "L".to_owned(),
            (32, 1280, 16, 5120) => "H".to_owned(),
            (layers, hidden, ..) => format!("{hidden}×{layers}"),
        };
        format!("ViT-{size}/{}", self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large() -> VitSpec {
        VitSpec {
            layers: 24,
            heads: 16,
            hidden: 1024,
            mlp: 4096,
            image: [224, 224],
            patch: 16,
            prefix: 1,
            classes: 1000,
            norm_epsilon: 1e-6,
            activation: Activation::Gelu,
            pre_norm: false,
            qkv_bias: true,
            pooling: Pooling::ClassToken,
            head_fusion: HeadFusion::Mean,
            variant: Variant::default(),
        }
    }

    /// torchvision's `vit_l_16` states 304,326,632 parameters and 61.6 GMAC; its MAC count
    /// includes the attention products.
    #[test]
    fn large_16_has_the_published_size() {
        assert_eq!(large().parameters(), 304_326_632);
        assert_eq!(large().macs() / 100_000_000, 615);
        assert_eq!(large().name(), "ViT-L/16");
    }

    #[test]
    fn grid_need_not_be_square() {
        let spec = VitSpec {
            image: [64, 96],
            ..large()
        };
        assert_eq!((spec.grid(), spec.tokens()), ([4, 6], 25));
    }
}
