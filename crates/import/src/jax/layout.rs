//! The names in the authors' `.npz` files. Three generations differ in a prefix, in where positions
//! are, and in how flax numbered the modules of a block.

use patchlight_onnx::vit::{BlockWeight as B, PoolNorm, Pooling, WeightId};

use crate::{
    ImportError,
    layout::{Interpolation, Layout, NOT_PLAIN, TensorSource},
    tensor_file::TensorFile,
};

/// One generation.
#[derive(Debug)]
pub(super) struct JaxLayout {
    /// `opt/target/`, `params/` or nothing.
    root: &'static str,
    class_token: Option<String>,
    positions: String,
    classifier: [String; 2],
    attention: &'static str,
    mlp: &'static str,
    mlp_norm: &'static str,
}

const ROOTS: [&str; 3] = ["", "opt/target/", "params/"];

/// A tensor by which a network is known.
pub(super) const ANCHOR: &str = "embedding/kernel";

/// What the authors' programs put before the network's names.
pub(super) fn root(file: &dyn TensorFile) -> Option<&'static str> {
    let has = |root: &&str| file.shape(&format!("{root}{ANCHOR}")).is_some();
    ROOTS.into_iter().find(has)
}

impl JaxLayout {
    /// Looks which generation it is.
    pub(super) fn new(file: &dyn TensorFile) -> Result<Self, ImportError> {
        let has = |name: &str| file.shape(name).is_some();
        let Some(root) = root(file) else {
            let expected = "also below opt/target/ and params/, so this is no Vision Transformer of its \
                            authors' JAX code";
            return Err(file.missing(ANCHOR, expected));
        };
        let old = has(&format!(
            "{root}Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"
        ));
        let (attention, mlp, mlp_norm) = match old {
            true => (
                "MultiHeadDotProductAttention_1",
                "MlpBlock_3",
                "LayerNorm_2",
            ),
            false => (
                "MultiHeadDotProductAttention_0",
                "MlpBlock_0",
                "LayerNorm_1",
            ),
        };
        let class_token = format!("{root}cls");
        let early = format!("{root}Transformer/posembed_input/pos_embedding");
        let late = format!("{root}pos_embedding");
        Ok(Self {
            root,
            class_token: has(&class_token).then_some(class_token),
            positions: if has(&early) { early } else { late },
            classifier: [format!("{root}head/kernel"), format!("{root}head/bias")],
            attention,
            mlp,
            mlp_norm,
        })
    }

    /// Without a class token the patches' mean is read.
    pub(super) fn pooling(&self) -> Pooling {
        match self.class_token {
            Some(_) => Pooling::ClassToken,
            None => Pooling::PatchMean(PoolNorm::BeforeMean),
        }
    }
}

impl Layout for JaxLayout {
    fn source(&self, weight: WeightId) -> TensorSource {
        let within = match weight {
            WeightId::PatchKernel => "embedding/kernel".to_owned(),
            WeightId::PatchBias => "embedding/bias".to_owned(),
            WeightId::Prefix => "cls".to_owned(),
            WeightId::Positions => return TensorSource::Flax(self.positions.clone()),
            // The authors have none.
            WeightId::PreNormScale => "Transformer/pre_norm/scale".to_owned(),
            WeightId::PreNormBias => "Transformer/pre_norm/bias".to_owned(),
            WeightId::FinalNormScale => "Transformer/encoder_norm/scale".to_owned(),
            WeightId::FinalNormBias => "Transformer/encoder_norm/bias".to_owned(),
            WeightId::HeadKernel => "head/kernel".to_owned(),
            WeightId::HeadBias => "head/bias".to_owned(),
            WeightId::RotaryCosines
            | WeightId::RotarySines
            | WeightId::Pool(_)
            | WeightId::Projection => NOT_PLAIN.to_owned(),
            WeightId::Block(layer, weight) => {
                let (module, tensor) = match weight {
                    B::AttentionNormScale => ("LayerNorm_0", "scale"),
                    B::AttentionNormBias => ("LayerNorm_0", "bias"),
                    B::QueryKernel => (self.attention, "query/kernel"),
                    B::QueryBias => (self.attention, "query/bias"),
                    B::KeyKernel => (self.attention, "key/kernel"),
                    B::KeyBias => (self.attention, "key/bias"),
                    B::ValueKernel => (self.attention, "value/kernel"),
                    B::ValueBias => (self.attention, "value/bias"),
                    B::OutKernel => (self.attention, "out/kernel"),
                    B::OutBias => (self.attention, "out/bias"),
                    B::MlpNormScale => (self.mlp_norm, "scale"),
                    B::MlpNormBias => (self.mlp_norm, "bias"),
                    B::UpKernel => (self.mlp, "Dense_0/kernel"),
                    B::UpBias => (self.mlp, "Dense_0/bias"),
                    B::DownKernel => (self.mlp, "Dense_1/kernel"),
                    B::DownBias => (self.mlp, "Dense_1/bias"),
                    _ => (NOT_PLAIN, ""),
                };
                format!("Transformer/encoderblock_{layer}/{module}/{tensor}")
            }
        };
        TensorSource::Flax(format!("{}{within}", self.root))
    }

    fn prefix(&self) -> Vec<&str> {
        self.class_token.as_deref().into_iter().collect()
    }

    fn positions(&self) -> &str {
        &self.positions
    }

    fn classifiers(&self) -> Vec<[&str; 2]> {
        let [kernel, bias] = &self.classifier;
        vec![[kernel, bias]]
    }

    fn is_unused(&self, name: &str) -> bool {
        // The state of the optimiser lies beside its target; others are counters of training.
        match self.root {
            "" => false,
            root => !name.starts_with(root),
        }
    }

    fn unsupported(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "pre_logits/",
                "is of the representation layer of pre-training, which is not imported; take a \
                 checkpoint fine-tuned for classification",
            ),
            (
                "MAPHead_0/",
                "pools by attention (MAP head), which is not imported",
            ),
        ]
    }

    fn interpolation(&self) -> Interpolation {
        Interpolation::LinearCorners
    }
}
