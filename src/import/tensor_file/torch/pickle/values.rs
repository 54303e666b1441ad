//! What the machine computes with, and the few names that it recognises.

use super::{Storage, StoredType, View};
use crate::{import::error::quoted, onnx::tensor::Element};

/// Letters of the name of a storage's class: torch's longest has fewer, and each storage keeps it.
const MAX_KIND: usize = 40;

/// Position of a value.
pub(super) type Id = usize;

/// What an instruction can leave on the stack. Texts stay in the program, so that one that is referred
/// to a million times is there once.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'p> {
    /// Numbers other than whole ones: nothing here asks for them.
    Opaque,
    None,
    Bool(bool),
    Int(i64),
    Text(&'p str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(Box<View>),
}

/// A name that is recognised.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageOf(StoredType),
}

/// What a name stands for.
pub(super) fn global(module: &str, name: &str) -> Result<Global, String> {
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Global::RebuildParameter),
        ("torch", "FloatStorage") => Ok(Global::StorageOf(StoredType::Float(Element::F32))),
        ("torch", "HalfStorage") => Ok(Global::StorageOf(StoredType::Float(Element::F16))),
        ("torch", "BFloat16Storage") => Ok(Global::StorageOf(StoredType::Float(Element::Bf16))),
        ("torch", other) if other.len() <= MAX_KIND && other.ends_with("Storage") => {
            let kind = other.trim_end_matches("Storage").to_owned();
            Ok(Global::StorageOf(StoredType::Other(kind)))
        }
        _ => Err(format!(
            "asks for `{}.{}`, which no state dict needs; nothing was executed. Save \
             tensors only: torch.save(model.state_dict(), FILE), or a .safetensors file",
            quoted(module),
            quoted(name)
        )),
    }
}
