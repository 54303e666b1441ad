//! The pickle of a state dict, read by a machine that can call nothing.
//!
//! A pickle is a program for a stack machine whose instructions can import any function and call
//! it. This one has the instructions that state dicts are made of (Python's `pickletools` documents
//! them all) and resolves no name: `torch._utils._rebuild_tensor_v2`, `_rebuild_parameter`,
//! `collections.OrderedDict` and the storages' classes are recognised by name, and stand for what
//! is done here; any other name ends the reading.

mod machine;
mod program;
#[cfg(test)]
mod tests;
mod values;

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
};

use self::{
    machine::{Machine, damaged},
    values::{Id, Value},
};
use crate::onnx::tensor::Element;

/// A tensor as a part of a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) storage: Storage,
    /// Elements of the storage before the first.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    /// Elements from one index to the next, for each axis.
    pub(super) strides: Vec<u64>,
}

/// Where values lie.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    pub(super) element: StoredType,
    /// Name of the entry below `data/`.
    pub(super) key: String,
}

/// The type of a storage's elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StoredType {
    /// One that networks are imported from.
    Float(Element),
    /// Another; torch's name for it.
    Other(String),
}

impl StoredType {
    /// Bytes of an element, if the type is known.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Float(element) => Some(element.size()),
            Self::Other(name) => match name.as_str() {
                "Byte" | "Char" | "Bool" => Some(1),
                "Short" => Some(2),
                "Int" => Some(4),
                "Long" | "Double" => Some(8),
                _ => None,
            },
        }
    }
}

impl View {
    /// Elements of the storage up to the end of the last one that is read; `None` if there cannot
    /// be so many.
    pub(super) fn end(&self) -> Option<u64> {
        let elements = self
            .shape
            .iter()
            .try_fold(1_u64, |product, &n| product.checked_mul(n as u64))?;
        if elements == 0 {
            return Some(self.offset);
        }
        // A shape that repeats elements (stride 0) would be larger than what is stored.
        let axes = self.shape.iter().zip(&self.strides);
        let last = axes.clone().try_fold(self.offset, |at, (&n, &stride)| {
            at.checked_add((n as u64 - 1).checked_mul(stride)?)
        })?;
        let end = last.checked_add(1)?;
        (elements <= end - self.offset).then_some(end)
    }

    /// Whether elements follow each other in row-major order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        let mut axes = self.shape.iter().zip(&self.strides).rev();
        axes.all(|(&length, &stride)| {
            let fits = length <= 1 || stride == expected;
            // Beyond what fits only where another axis is empty.
            expected = expected.saturating_mul(length as u64);
            fits
        })
    }

    /// The elements in row-major order, out of a storage that begins at `start`. The view lies inside
    /// of it.
    pub(super) fn read(
        &self,
        reader: &mut (impl Read + Seek),
        start: u64,
        size: usize,
    ) -> io::Result<Vec<u8>> {
        let elements = self.end().unwrap_or(self.offset) - self.offset;
        let mut bytes = vec![0; elements as usize * size];
        reader.seek(SeekFrom::Start(start + self.offset * size as u64))?;
        reader.read_exact(&mut bytes)?;
        match self.is_contiguous() {
            true => Ok(bytes),
            false => Ok(self.gathered(&bytes, size)),
        }
    }

    /// The elements in row-major order, out of the storage's bytes from `offset` on.
    fn gathered(&self, stored: &[u8], size: usize) -> Vec<u8> {
        let elements = self.shape.iter().product::<usize>();
        let mut bytes = Vec::with_capacity(elements * size);
        for mut index in 0..elements {
            let mut at = 0;
            for (&length, &stride) in self.shape.iter().zip(&self.strides).rev() {
                at += (index % length) * stride as usize;
                index /= length;
            }
            bytes.extend_from_slice(&stored[at * size..][..size]);
        }
        bytes
    }
}

/// The tensors of a state dict by name. One that lies below `state_dict` or `model`, as training
/// programs save it, is found there.
///
/// # Errors
/// Why the program is not that of a state dict; "data.pkl" goes before it.
pub(super) fn state_dict(program: &[u8]) -> Result<BTreeMap<String, View>, String> {
    let (machine, top) = Machine::run(program)?;
    state_dict_in(&machine, top)
}

/// What a file from before torch 1.6 begins with: pickles one after the other.
#[derive(Debug)]
pub(super) struct Legacy {
    /// The tensors by name.
    pub(super) tensors: BTreeMap<String, View>,
    /// The storages that follow, in their order.
    pub(super) storages: Vec<Storage>,
    /// Bytes of the pickles.
    pub(super) length: u64,
}

/// A file from before torch 1.6: a number to know it by, a version, the writer's byte order, the
/// state dict, and the keys of the storages in the order in which they follow.
///
/// # Errors
/// Why it is not that.
pub(super) fn legacy(program: &[u8]) -> Result<Legacy, String> {
    let (machine, _) = Machine::run(program)?;
    let (machine, _) = machine.run_next()?;
    let (machine, system) = machine.run_next()?;
    let little = field(&machine, system, "little_endian").map(|id| machine.value(id));
    if little != Some(&Value::Bool(true)) {
        return Err("was written on a big-endian machine".to_owned());
    }
    let (machine, top) = machine.run_next()?;
    let tensors = state_dict_in(&machine, top)?;
    let named: BTreeMap<&str, &Storage> = machine
        .storages()
        .map(|storage| (storage.key.as_str(), storage))
        .collect();
    let (keys, list) = machine.run_next()?;
    let Value::List(ids) = keys.value(list) else {
        return Err(damaged());
    };
    let storage = |&id: &Id| match keys.value(id) {
        Value::Text(key) => named.get(key).copied().cloned(),
        _ => None,
    };
    let storages: Option<Vec<Storage>> = ids.iter().map(storage).collect();
    Ok(Legacy {
        tensors,
        storages: storages.ok_or_else(damaged)?,
        length: (program.len() - keys.rest().len()) as u64,
    })
}

fn state_dict_in(machine: &Machine<'_>, top: Id) -> Result<BTreeMap<String, View>, String> {
    let tensors = tensors(machine, top);
    if !tensors.is_empty() {
        return Ok(tensors);
    }
    for key in ["state_dict", "model"] {
        if let Some(inner) = field(machine, top, key) {
            let found = self::tensors(machine, inner);
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
    Err(
        "holds no dictionary of tensors; save one with torch.save(model.state_dict(), FILE)"
            .to_owned(),
    )
}

fn tensors(machine: &Machine<'_>, dict: Id) -> BTreeMap<String, View> {
    let Value::Dict(items) = machine.value(dict) else {
        return BTreeMap::new();
    };
    let tensor = |&(key, value): &(Id, Id)| match (machine.value(key), machine.value(value)) {
        (Value::Text(name), Value::Tensor(view)) => Some((*name, &**view)),
        _ => None,
    };
    // References first: a name that is set again and again is copied once.
    let named: BTreeMap<&str, &View> = items.iter().filter_map(tensor).collect();
    let owned = |(name, view): (&str, &View)| (name.to_owned(), view.clone());
    named.into_iter().map(owned).collect()
}

fn field(machine: &Machine<'_>, dict: Id, key: &str) -> Option<Id> {
    let Value::Dict(items) = machine.value(dict) else {
        return None;
    };
    items.iter().find_map(|&(name, value)| {
        matches!(machine.value(name), Value::Text(text) if *text == key).then_some(value)
    })
}
