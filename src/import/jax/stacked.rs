//! Blocks that `big_vision` keeps one on top of the other, in arrays with an axis for the layer.
//!
//! Its models loop over blocks with `nn.scan`, which gives each kind of constant one array below
//! `encoderblock`. They are shown here as if each block had its own, below `encoderblock_0` and so on.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    import::{ImportError, Stripped, tensor_file::TensorFile},
    onnx::tensor::Tensor,
};

/// Blocks of a stack: far above any network's. An array of no elements may claim any number.
const MAX_LAYERS: usize = 1 << 10;

const STACKED: &str = "Transformer/encoderblock/";

/// A file whose stacked arrays are shown layer by layer.
#[derive(Debug)]
pub(super) struct Unstacked {
    file: Box<dyn TensorFile>,
    layers: BTreeMap<String, Layer>,
    /// Stacks of which a layer was read and others are still to be: they come block by block, and
    /// an array in an archive can only be read whole.
    open: BTreeMap<String, Tensor>,
}

/// One layer of a stack.
#[derive(Debug)]
struct Layer {
    stack: String,
    at: usize,
    shape: Vec<usize>,
}

impl Unstacked {
    /// The file itself if it has no stacks.
    pub(super) fn over(file: Box<dyn TensorFile>) -> Box<dyn TensorFile> {
        let mut layers = BTreeMap::new();
        for stack in file.names() {
            let Some((root, rest)) = stack.split_once(STACKED) else {
                continue;
            };
            let Some((&count, shape)) = file.shape(&stack).and_then(<[usize]>::split_first) else {
                continue;
            };
            if count > MAX_LAYERS {
                continue;
            }
            for at in 0..count {
                let name = format!("{root}Transformer/encoderblock_{at}/{rest}");
                let layer = Layer {
                    stack: stack.clone(),
                    at,
                    shape: shape.to_vec(),
                };
                layers.insert(name, layer);
            }
        }
        match layers.is_empty() {
            true => file,
            false => Box::new(Self {
                file,
                layers,
                open: BTreeMap::new(),
            }),
        }
    }
}

impl TensorFile for Unstacked {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn stripped(&self) -> Option<&Stripped> {
        self.file.stripped()
    }

    fn names(&self) -> Vec<String> {
        let whole = self.file.names().into_iter();
        let whole = whole.filter(|name| !name.contains(STACKED));
        whole.chain(self.layers.keys().cloned()).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        match self.layers.get(name) {
            Some(layer) => Some(&layer.shape),
            None => self.file.shape(name),
        }
    }

    fn read(&mut self, name: &str) -> Result<Tensor, ImportError> {
        let Some(Layer { stack, at, shape }) = self.layers.get(name) else {
            return self.file.read(name);
        };
        let tensor = match self.open.remove(stack) {
            Some(tensor) => tensor,
            None => self.file.read(stack)?,
        };
        let count = tensor.shape().first().copied().unwrap_or_default();
        let size = shape.iter().product::<usize>() * tensor.element().size();
        let bytes = tensor.bytes()[at * size..][..size].to_vec();
        let layer = Tensor::new(tensor.element(), shape.clone(), bytes);
        if at + 1 < count {
            self.open.insert(stack.clone(), tensor);
        }
        Ok(layer)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.file.files()
    }
}
