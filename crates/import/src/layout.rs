//! How libraries name and store a network's weights, and how they are read in the graph's form.
//!
//! Layouts differ in names, in how kernels are stored and in what is joined in one tensor. A
//! [`Layout`] says so, and the rest is done once, here: [`Sizes`] reads the network's size off the
//! tensors' shapes, [`check_names`] refuses tensors that nothing would read, [`ParsedCheckpoint`]
//! puts the checkpoint together, and its weights read through the layout.

mod parsed_checkpoint;
mod resample;
mod sizes;

use std::{collections::BTreeSet, fmt};

use patchlight_onnx::{
    tensor::Tensor,
    vit::{BlockWeight as B, VitSpec, WeightId, Weights},
};

pub(super) use self::{
    parsed_checkpoint::ParsedCheckpoint,
    resample::Interpolation,
    sizes::{Hyperparameters, Sizes, square_grid},
};
use super::{ImportError, tensor_file::TensorFile};

/// Where a plain network has what only others have. No tensor is called so, and none is asked for.
pub(super) const NOT_PLAIN: &str = "(none of a plain network)";

/// How one library names and stores a network's tensors.
pub(super) trait Layout: fmt::Debug {
    /// Where a constant lies. Not asked for the prefix, the positions and the classifier.
    fn source(&self, weight: WeightId) -> TensorSource;

    /// The tensors of the prefix tokens, `[1, tokens, hidden]` each, in their order.
    fn prefix(&self) -> Vec<&str>;

    /// The tensor of position embeddings, `[1, tokens, hidden]`.
    fn positions(&self) -> &str;

    /// Whether prefix tokens have positions, too: then theirs come first.
    fn prefix_has_positions(&self) -> bool {
        true
    }

    /// Kernel and bias of each classifier; the logits are their mean.
    fn classifiers(&self) -> Vec<[&str; 2]>;

    /// LayerScale: the tensor that a kernel's outputs and its bias are multiplied by.
    fn layer_scale(&self, _layer: usize, _role: B) -> Option<String> {
        None
    }

    /// Whether the network has no such bias.
    fn is_absent(&self, _role: WeightId) -> bool {
        false
    }

    /// Whether a tensor is one that the library itself does not use when it classifies.
    fn is_unused(&self, _name: &str) -> bool {
        false
    }

    /// Parts of the names of tensors that are known, but whose networks cannot be imported, with
    /// the reason to give.
    fn unsupported(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// How the library resamples positions for another grid.
    fn interpolation(&self) -> Interpolation;
}

/// Where a constant lies and how it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum TensorSource {
    /// As torch stores it: kernels `[out, in]`, the patch projection `[out, channel, row, column]`.
    Torch(String),
    /// One third, counted from 0, of queries, keys and values joined along the first axis.
    TorchThird(String, usize),
    /// As flax stores it: kernels `[in, out]`, the patch projection `[row, column, channel, out]`,
    /// heads on an axis of their own.
    Flax(String),
}

impl TensorSource {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Torch(name) | Self::TorchThird(name, _) | Self::Flax(name) => name,
        }
    }
}

/// The constants of a network, read through its layout.
#[derive(Debug)]
struct LayoutWeights<L> {
    file: Box<dyn TensorFile>,
    layout: L,
    spec: VitSpec,
    /// Rows and columns of the positions in the file; they are resampled if the network's differ.
    stored_grid: [usize; 2],
}

impl<L: Layout> Weights for LayoutWeights<L> {
    type Error = ImportError;

    fn tensor(&mut self, weight: WeightId) -> Result<Tensor, ImportError> {
        if self.layout.is_absent(weight) {
            let shape = self.spec.shape(weight);
            let zeros = vec![0.0; shape.iter().product()];
            return Ok(Tensor::f32(shape, &zeros));
        }
        match weight {
            WeightId::Prefix => self.prefix(),
            WeightId::Positions => self.positions(),
            WeightId::HeadKernel => self.classifier_kernels(),
            WeightId::HeadBias => self.classifier_biases(),
            WeightId::Block(layer, block_weight) => {
                let tensor = self.read_source(weight)?;
                match self.layout.layer_scale(layer, block_weight) {
                    // γ ⊙ (x·W + b) = x·(W·diag γ) + γ ⊙ b, so the graph needs no operator for it.
                    Some(name) => {
                        let scale = self.file.tensor(&name, &[self.spec.hidden])?.to_f32();
                        Ok(scaled_columns(&tensor, &scale))
                    }
                    None => Ok(tensor),
                }
            }
            _ => self.read_source(weight),
        }
    }
}

impl<L: Layout> LayoutWeights<L> {
    /// A constant that is one tensor, or a third of one, in the graph's order.
    fn read_source(&mut self, weight: WeightId) -> Result<Tensor, ImportError> {
        let VitSpec {
            hidden,
            patch,
            heads,
            ..
        } = self.spec;
        let shape = self.spec.shape(weight);
        match (self.layout.source(weight), weight, &shape[..]) {
            (TensorSource::Torch(name), WeightId::PatchKernel, _) => {
                let tensor = self.file.tensor(&name, &[hidden, 3, patch, patch])?;
                let flat = tensor.reshaped(vec![hidden, 3 * patch * patch]);
                Ok(flat.transposed())
            }
            (TensorSource::Torch(name), _, &[inputs, outputs]) => {
                Ok(self.file.tensor(&name, &[outputs, inputs])?.transposed())
            }
            (TensorSource::Torch(name), ..) => self.file.tensor(&name, &shape),
            (TensorSource::TorchThird(name, third), _, &[inputs, outputs]) => {
                let joined = self.file.tensor(&name, &[3 * outputs, inputs])?;
                Ok(rows(joined, third * outputs, outputs).transposed())
            }
            (TensorSource::TorchThird(name, third), ..) => {
                let joined = self.file.tensor(&name, &[3 * hidden])?;
                Ok(rows(joined, third * hidden, hidden))
            }
            (TensorSource::Flax(name), WeightId::PatchKernel, _) => {
                // [row, column, channel, out] → [channel, row, column, out]
                let tensor = self.file.tensor(&name, &[patch, patch, 3, hidden])?;
                let values = tensor.to_f32();
                let mut ordered = Vec::with_capacity(values.len());
                for channel in 0..3 {
                    for pixel in 0..patch * patch {
                        ordered
                            .extend_from_slice(&values[(pixel * 3 + channel) * hidden..][..hidden]);
                    }
                }
                Ok(Tensor::f32(shape, &ordered))
            }
            (TensorSource::Flax(name), WeightId::Block(_, block_weight), _) => {
                let head = hidden / heads;
                let stored = match block_weight {
                    B::QueryKernel | B::KeyKernel | B::ValueKernel => vec![hidden, heads, head],
                    B::QueryBias | B::KeyBias | B::ValueBias => vec![heads, head],
                    B::OutKernel => vec![heads, head, hidden],
                    _ => shape.clone(),
                };
                Ok(self.file.tensor(&name, &stored)?.reshaped(shape))
            }
            (TensorSource::Flax(name), ..) => self.file.tensor(&name, &shape),
        }
    }

    /// The prefix tokens, each with its position added where it has one.
    fn prefix(&mut self) -> Result<Tensor, ImportError> {
        let hidden = self.spec.hidden;
        let mut values = Vec::with_capacity(self.spec.prefix * hidden);
        for name in self.layout.prefix() {
            let tokens = self.file.shape(name).map_or(1, |shape| shape[1]);
            values.extend(self.file.tensor(name, &[1, tokens, hidden])?.to_f32());
        }
        if self.layout.prefix_has_positions() {
            let positions = self.stored_positions()?;
            values
                .iter_mut()
                .zip(positions)
                .for_each(|(value, at)| *value += at);
        }
        Ok(Tensor::f32(vec![self.spec.prefix, hidden], &values))
    }

    fn positions(&mut self) -> Result<Tensor, ImportError> {
        let (stored, hidden) = (self.stored_positions()?, self.spec.hidden);
        let patches = &stored[self.positions_of_prefix() * hidden..];
        let grid = self.spec.grid();
        let shape = vec![self.spec.patches(), hidden];
        let values = resampled(patches, self.stored_grid, grid, self.layout.interpolation());
        Ok(Tensor::f32(shape, &values))
    }

    fn stored_positions(&mut self) -> Result<Vec<f32>, ImportError> {
        let [rows, columns] = self.stored_grid;
        let tokens = self.positions_of_prefix() + rows * columns;
        let shape = [1, tokens, self.spec.hidden];
        let positions = self.file.tensor(self.layout.positions(), &shape)?;
        Ok(positions.to_f32())
    }

    fn positions_of_prefix(&self) -> usize {
        match self.layout.prefix_has_positions() {
            true => self.spec.prefix,
            false => 0,
        }
    }

    /// Classifiers one below the other, each weighted so that their sum is their mean.
    fn classifier_kernels(&mut self) -> Result<Tensor, ImportError> {
        let VitSpec {
            hidden, classes, ..
        } = self.spec;
        let classifiers = self.layout.classifiers();
        let flax = matches!(
            self.layout.source(WeightId::PatchKernel),
            TensorSource::Flax(_)
        );
        let mut kernels = Vec::new();
        for [name, _] in &classifiers {
            kernels.push(match flax {
                true => self.file.tensor(name, &[hidden, classes])?,
                false => self.file.tensor(name, &[classes, hidden])?.transposed(),
            });
        }
        Ok(joined(kernels, self.spec.shape(WeightId::HeadKernel)))
    }

    fn classifier_biases(&mut self) -> Result<Tensor, ImportError> {
        let classes = self.spec.classes;
        let mut biases = Vec::new();
        for [_, name] in self.layout.classifiers() {
            biases.push(self.file.tensor(name, &[classes])?);
        }
        let share = 1.0 / biases.len() as f32;
        if biases.len() == 1 {
            return Ok(biases.remove(0));
        }
        let mut sum = vec![0.0; classes];
        for bias in biases {
            let values = bias.to_f32();
            sum.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += share * value);
        }
        Ok(Tensor::f32(vec![classes], &sum))
    }
}

/// Refuses a file that lacks a tensor or has one that nothing would read: then the network is not
/// the one that its description tells of.
pub(super) fn check_names<L: Layout>(
    file: &dyn TensorFile,
    layout: &L,
    spec: &VitSpec,
) -> Result<(), ImportError> {
    let mut expected = BTreeSet::new();
    for weight in spec.weight_ids() {
        match weight {
            WeightId::Prefix => expected.extend(layout.prefix().into_iter().map(str::to_owned)),
            WeightId::Positions => drop(expected.insert(layout.positions().to_owned())),
            WeightId::HeadKernel | WeightId::HeadBias => {
                let names = layout.classifiers().into_iter().flatten();
                expected.extend(names.map(str::to_owned));
            }
            _ if layout.is_absent(weight) => {}
            _ => {
                expected.insert(layout.source(weight).name().to_owned());
                if let WeightId::Block(layer, block_weight) = weight {
                    expected.extend(layout.layer_scale(layer, block_weight));
                }
            }
        }
    }
    check_all_read(
        file,
        expected,
        |name| layout.is_unused(name),
        layout.unsupported(),
    )
}

/// Refuses a file that lacks one of the `expected` tensors, or has another that is not `unused`:
/// with the reason of the first part of a name in `unsupported`, if it has one.
pub(super) fn check_all_read(
    file: &dyn TensorFile,
    mut expected: BTreeSet<String>,
    unused: impl Fn(&str) -> bool,
    unsupported: &[(&str, &str)],
) -> Result<(), ImportError> {
    for found in file.names() {
        if !expected.remove(&found) && !unused(&found) {
            let mut unsupported = unsupported.iter();
            let known = unsupported.find(|(part, _)| found.contains(part));
            let detail = known.map_or(
                "is unexpected: what is known of the network tells of no such tensor; \
                 if config.json is there, compare it with the architecture",
                |(_, reason)| reason,
            );
            return Err(ImportError::tensor(file.path(), &found, detail));
        }
    }
    match expected.first() {
        Some(missing) => {
            let expected = "what is known of the network tells that it is there";
            Err(file.missing(missing, expected))
        }
        None => Ok(()),
    }
}

/// `[rows·columns, width]` from one grid to another; the same values where they are one.
pub(super) fn resampled(
    values: &[f32],
    from: [usize; 2],
    to: [usize; 2],
    interpolation: Interpolation,
) -> Vec<f32> {
    match from == to {
        true => values.to_vec(),
        false => resample::grid(values, from, to, interpolation),
    }
}

/// Number of trained values: all that are stored and used.
fn parameters<L: Layout>(file: &dyn TensorFile, layout: &L) -> u64 {
    let used = file
        .names()
        .into_iter()
        .filter(|name| !layout.is_unused(name));
    let values = used.map(|name| file.shape(&name).map_or(0, |shape| shape.iter().product()));
    values.sum::<usize>() as u64
}

/// Rows of a tensor, counted along its first axis.
pub(super) fn rows(tensor: Tensor, first: usize, count: usize) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    let row = shape[1..].iter().product::<usize>() * tensor.dtype().size();
    shape[0] = count;
    let bytes = tensor.bytes()[first * row..][..count * row].to_vec();
    Tensor::new(tensor.dtype(), shape, bytes)
}

/// Matrices one below the other, divided by their number; a single one stays as it is.
fn joined(mut kernels: Vec<Tensor>, shape: Vec<usize>) -> Tensor {
    if kernels.len() == 1 {
        return kernels.remove(0);
    }
    let share = 1.0 / kernels.len() as f32;
    let values: Vec<f32> = kernels
        .into_iter()
        .flat_map(|kernel| kernel.scaled(share).to_f32())
        .collect();
    Tensor::f32(shape, &values)
}

/// Every row, element by element, times `scale`.
pub(super) fn scaled_columns(tensor: &Tensor, scale: &[f32]) -> Tensor {
    let mut values = tensor.to_f32();
    for row in values.chunks_mut(scale.len()) {
        row.iter_mut()
            .zip(scale)
            .for_each(|(value, scale)| *value *= scale);
    }
    Tensor::f32(tensor.shape().to_vec(), &values)
}
