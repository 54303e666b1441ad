//! The names of transformers' `ViTForImageClassification`, `DeiTForImageClassification` and
//! `DeiTForImageClassificationWithTeacher`.

use patchlight_onnx::vit::{BlockWeight as B, Pooling, WeightId};

use crate::{
    layout::{Interpolation, Layout, NOT_PLAIN, TensorSource},
    tensor_file::TensorFile,
};

/// Which of the three it is.
#[derive(Debug)]
pub(super) struct HuggingFaceLayout {
    /// Name of the network inside the classifier: `vit` or `deit`.
    root: &'static str,
    class_token: String,
    distillation_token: Option<String>,
    positions: String,
    /// Whether the distillation token has a classifier, too.
    teacher: bool,
    generation: Generation,
}

/// How the tensors of a block are called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Generation {
    /// As the Hub has them and `save_pretrained` writes them: `encoder.layer.0.…`.
    Saved,
    /// As the model's own `state_dict()` calls them since version 5: `layers.0.…`.
    Native,
}

/// A tensor by which a network is known.
pub(super) fn anchor(root: &str) -> String {
    format!("{root}.embeddings.patch_embeddings.projection.weight")
}

const TEACHER: &str = "distillation_classifier.weight";

impl HuggingFaceLayout {
    /// `root` is the model's type in `config.json`; the rest shows in the file.
    pub(super) fn new(root: &'static str, file: &dyn TensorFile) -> Self {
        let name = |part: &str| format!("{root}.embeddings.{part}");
        let native = format!("{root}.layers.0.layernorm_before.weight");
        Self {
            root,
            class_token: name("cls_token"),
            distillation_token: (root == "deit").then(|| name("distillation_token")),
            positions: name("position_embeddings"),
            teacher: file.shape(TEACHER).is_some(),
            generation: match file.shape(&native) {
                Some(_) => Generation::Native,
                None => Generation::Saved,
            },
        }
    }

    /// What the classifiers read.
    pub(super) fn pooling(&self) -> Pooling {
        match self.teacher {
            true => Pooling::ClassAndDistillation,
            false => Pooling::ClassToken,
        }
    }
}

impl Layout for HuggingFaceLayout {
    fn source(&self, weight: WeightId) -> TensorSource {
        let root = self.root;
        TensorSource::Torch(match weight {
            WeightId::PatchKernel => anchor(root),
            WeightId::PatchBias => format!("{root}.embeddings.patch_embeddings.projection.bias"),
            WeightId::Prefix => self.class_token.clone(),
            WeightId::Positions => self.positions.clone(),
            // Neither ViT nor DeiT has one.
            WeightId::PreNormScale => format!("{root}.pre_layernorm.weight"),
            WeightId::PreNormBias => format!("{root}.pre_layernorm.bias"),
            WeightId::FinalNormScale => format!("{root}.layernorm.weight"),
            WeightId::FinalNormBias => format!("{root}.layernorm.bias"),
            WeightId::HeadKernel => self.classifiers()[0][0].to_owned(),
            WeightId::HeadBias => self.classifiers()[0][1].to_owned(),
            WeightId::RotaryCosines
            | WeightId::RotarySines
            | WeightId::Pool(_)
            | WeightId::Projection => NOT_PLAIN.to_owned(),
            WeightId::Block(layer, weight) => match self.generation {
                Generation::Saved => format!("{root}.encoder.layer.{layer}.{}", saved(weight)),
                Generation::Native => format!("{root}.layers.{layer}.{}", native(weight)),
            },
        })
    }

    fn prefix(&self) -> Vec<&str> {
        std::iter::once(self.class_token.as_str())
            .chain(self.distillation_token.as_deref())
            .collect()
    }

    fn positions(&self) -> &str {
        &self.positions
    }

    fn classifiers(&self) -> Vec<[&str; 2]> {
        match self.teacher {
            true => vec![
                ["cls_classifier.weight", "cls_classifier.bias"],
                [TEACHER, "distillation_classifier.bias"],
            ],
            false => vec![["classifier.weight", "classifier.bias"]],
        }
    }

    fn is_unused(&self, name: &str) -> bool {
        // transformers drops them, too.
        name.starts_with("vit.pooler.") || name.starts_with("deit.pooler.")
    }

    fn interpolation(&self) -> Interpolation {
        Interpolation::Bicubic
    }
}

fn saved(weight: B) -> &'static str {
    match weight {
        B::AttentionNormScale => "layernorm_before.weight",
        B::AttentionNormBias => "layernorm_before.bias",
        B::QueryKernel => "attention.attention.query.weight",
        B::QueryBias => "attention.attention.query.bias",
        B::KeyKernel => "attention.attention.key.weight",
        B::KeyBias => "attention.attention.key.bias",
        B::ValueKernel => "attention.attention.value.weight",
        B::ValueBias => "attention.attention.value.bias",
        B::OutKernel => "attention.output.dense.weight",
        B::OutBias => "attention.output.dense.bias",
        B::MlpNormScale => "layernorm_after.weight",
        B::MlpNormBias => "layernorm_after.bias",
        B::UpKernel => "intermediate.dense.weight",
        B::UpBias => "intermediate.dense.bias",
        B::DownKernel => "output.dense.weight",
        B::DownBias => "output.dense.bias",
        _ => NOT_PLAIN,
    }
}

fn native(weight: B) -> &'static str {
    match weight {
        B::AttentionNormScale | B::AttentionNormBias | B::MlpNormScale | B::MlpNormBias => {
            saved(weight)
        }
        B::QueryKernel => "attention.q_proj.weight",
        B::QueryBias => "attention.q_proj.bias",
        B::KeyKernel => "attention.k_proj.weight",
        B::KeyBias => "attention.k_proj.bias",
        B::ValueKernel => "attention.v_proj.weight",
        B::ValueBias => "attention.v_proj.bias",
        B::OutKernel => "attention.o_proj.weight",
        B::OutBias => "attention.o_proj.bias",
        B::UpKernel => "mlp.fc1.weight",
        B::UpBias => "mlp.fc1.bias",
        B::DownKernel => "mlp.fc2.weight",
        B::DownBias => "mlp.fc2.bias",
        _ => NOT_PLAIN,
    }
}
