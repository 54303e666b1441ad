//! The names of transformers' `ViTForImageClassification`, `DeiTForImageClassification` and
//! `DeiTForImageClassificationWithTeacher`.

use crate::{
    import::{
        layout::{Interpolation, Layout, Place},
        tensor_file::TensorFile,
    },
    onnx::vit::{BlockRole as B, Readout, Role},
};

/// Which of the three it is.
#[derive(Debug)]
pub(super) struct Names {
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

impl Names {
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
    pub(super) fn readout(&self) -> Readout {
        match self.teacher {
            true => Readout::ClassAndDistillation,
            false => Readout::ClassToken,
        }
    }
}

impl Layout for Names {
    fn place(&self, role: Role) -> Place {
        let root = self.root;
        Place::Torch(match role {
            Role::PatchKernel => anchor(root),
            Role::PatchBias => format!("{root}.embeddings.patch_embeddings.projection.bias"),
            Role::Prefix => self.class_token.clone(),
            Role::Positions => self.positions.clone(),
            // Neither ViT nor DeiT has one.
            Role::PreNormScale => format!("{root}.pre_layernorm.weight"),
            Role::PreNormBias => format!("{root}.pre_layernorm.bias"),
            Role::FinalNormScale => format!("{root}.layernorm.weight"),
            Role::FinalNormBias => format!("{root}.layernorm.bias"),
            Role::HeadKernel => self.classifiers()[0][0].to_owned(),
            Role::HeadBias => self.classifiers()[0][1].to_owned(),
            Role::Block(layer, role) => match self.generation {
                Generation::Saved => format!("{root}.encoder.layer.{layer}.{}", saved(role)),
                Generation::Native => format!("{root}.layers.{layer}.{}", native(role)),
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

fn saved(role: B) -> &'static str {
    match role {
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
    }
}

fn native(role: B) -> &'static str {
    match role {
        B::AttentionNormScale | B::AttentionNormBias | B::MlpNormScale | B::MlpNormBias => {
            saved(role)
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
    }
}
