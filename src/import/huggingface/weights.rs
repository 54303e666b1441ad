//! Where `model.safetensors` holds the constants of the graph.

use std::collections::BTreeSet;

use crate::{
    import::{ImportError, tensor_file::SafetensorsFile},
    onnx::{
        tensor::Tensor,
        vit::{BlockRole as B, Role, VitSpec, Weights},
    },
};

const CLASS_TOKEN: &str = "vit.embeddings.cls_token";
const POSITIONS: &str = "vit.embeddings.position_embeddings";
const PATCH_KERNEL: &str = "vit.embeddings.patch_embeddings.projection.weight";
const HEAD_KERNEL: &str = "classifier.weight";

/// Tensors that a classifier does not use: transformers drops them, too.
const UNUSED: &str = "vit.pooler.";

/// The tensors of an open file, by role.
#[derive(Debug)]
pub(super) struct HuggingFaceWeights {
    file: SafetensorsFile,
    spec: VitSpec,
}

impl HuggingFaceWeights {
    pub(super) fn new(file: SafetensorsFile, spec: VitSpec) -> Self {
        Self { file, spec }
    }

    fn positions(&mut self) -> Result<Vec<f32>, ImportError> {
        let shape = [1, self.spec.tokens(), self.spec.hidden];
        Ok(self.file.tensor(POSITIONS, &shape)?.to_f32())
    }
}

impl Weights for HuggingFaceWeights {
    type Error = ImportError;

    fn tensor(&mut self, role: Role) -> Result<Tensor, ImportError> {
        let VitSpec { hidden, patch, .. } = self.spec;
        let shape = self.spec.shape(role);
        match role {
            Role::PatchKernel => {
                let tensor = self.file.tensor(PATCH_KERNEL, &[hidden, 3, patch, patch])?;
                Ok(tensor
                    .reshaped(vec![hidden, 3 * patch * patch])
                    .transposed())
            }
            Role::Prefix => {
                let mut token = self.file.tensor(CLASS_TOKEN, &[1, 1, hidden])?.to_f32();
                token
                    .iter_mut()
                    .zip(self.positions()?)
                    .for_each(|(value, at)| *value += at);
                Ok(Tensor::f32(shape, &token))
            }
            Role::Positions => Ok(Tensor::f32(shape, &self.positions()?[hidden..])),
            _ => match shape[..] {
                [inputs, outputs] => Ok(self
                    .file
                    .tensor(&name(role), &[outputs, inputs])?
                    .transposed()),
                _ => self.file.tensor(&name(role), &shape),
            },
        }
    }
}

/// Number of classes: rows of the classifier.
pub(super) fn classes(file: &SafetensorsFile) -> Result<usize, ImportError> {
    match file.shape(HEAD_KERNEL) {
        Some(&[classes, _]) if classes > 0 => Ok(classes),
        Some(shape) => {
            let detail = format!("has the shape {shape:?}, expected is [classes, hidden]");
            Err(ImportError::tensor(file.path(), HEAD_KERNEL, detail))
        }
        None => {
            let detail =
                "is missing: the checkpoint has no classifier; import a ViTForImageClassification";
            Err(ImportError::tensor(file.path(), HEAD_KERNEL, detail))
        }
    }
}

/// Refuses a file that lacks a tensor or has one that nobody would read: then the network is not
/// the one that its `config.json` tells of.
pub(super) fn check_names(file: &SafetensorsFile, spec: &VitSpec) -> Result<(), ImportError> {
    let mut expected: BTreeSet<String> = spec.roles().into_iter().map(name).collect();
    for found in file.names() {
        if !expected.remove(&found) && !found.starts_with(UNUSED) {
            let detail = "is unexpected: config.json tells of a network that has no such tensor";
            return Err(ImportError::tensor(file.path(), &found, detail));
        }
    }
    match expected.first() {
        Some(missing) => {
            let detail = "is missing: config.json tells of a network that has it";
            Err(ImportError::tensor(file.path(), missing, detail))
        }
        None => Ok(()),
    }
}

/// The tensor of a role; [`Role::Prefix`] adds a second one to the first.
fn name(role: Role) -> String {
    match role {
        Role::PatchKernel => PATCH_KERNEL.to_owned(),
        Role::PatchBias => "vit.embeddings.patch_embeddings.projection.bias".to_owned(),
        Role::Prefix => CLASS_TOKEN.to_owned(),
        Role::Positions => POSITIONS.to_owned(),
        Role::FinalNormScale => "vit.layernorm.weight".to_owned(),
        Role::FinalNormBias => "vit.layernorm.bias".to_owned(),
        Role::HeadKernel => HEAD_KERNEL.to_owned(),
        Role::HeadBias => "classifier.bias".to_owned(),
        Role::Block(layer, role) => {
            let within = match role {
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
            };
            format!("vit.encoder.layer.{layer}.{within}")
        }
    }
}
