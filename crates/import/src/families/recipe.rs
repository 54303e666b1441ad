//! How a family's stored tensors become the constants of the graph, one recipe a constant.
//!
//! A [`Recipe`] knows which tensors it reads, so that nothing in a file is left over unseen, and
//! makes the constant in the graph's form: kernels `[in, out]`, layer scales multiplied in.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use patchlight_onnx::{
    tensor::Tensor,
    vit::{BlockWeight as B, PoolWeight, VitSpec, WeightId, Weights},
};

use crate::{
    ImportError,
    layout::{Interpolation, check_all_read, resampled, rows, scaled_columns},
    tensor_file::TensorFile,
};

type Make = dyn Fn(&mut dyn TensorFile, &[usize]) -> Result<Tensor, ImportError>;

/// How one constant is made.
pub(super) struct Recipe {
    reads: Vec<String>,
    make: Box<Make>,
}

/// All constants of a network.
#[derive(Debug, Default)]
pub(super) struct Recipes {
    by_weight: HashMap<WeightId, Recipe>,
}

/// Position embeddings as a file has them.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    pub(super) name: String,
    /// Those of prefix tokens, which come first.
    pub(super) leading: usize,
    /// Rows and columns of the others.
    pub(super) grid: [usize; 2],
    pub(super) interpolation: Interpolation,
}

/// Names of the parts of a usual block, without `.weight` and `.bias`.
pub(super) struct BlockNames {
    pub(super) attention_norm: String,
    pub(super) query: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) out: String,
    pub(super) mlp_norm: String,
    pub(super) up: String,
    pub(super) down: String,
    /// The tensors that what attention and MLP write is multiplied by.
    pub(super) layer_scales: Option<[String; 2]>,
}

impl Recipe {
    /// Made by a function of the file and the constant's shape.
    pub(super) fn of(
        reads: impl IntoIterator<Item = String>,
        make: impl Fn(&mut dyn TensorFile, &[usize]) -> Result<Tensor, ImportError> + 'static,
    ) -> Self {
        Self {
            reads: reads.into_iter().collect(),
            make: Box::new(make),
        }
    }

    /// A tensor as torch stores it: a kernel `[out, in]`, or any other shape as it is.
    pub(super) fn torch(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::of([name.clone()], move |file, shape| match *shape {
            [inputs, outputs] => Ok(file.tensor(&name, &[outputs, inputs])?.transposed()),
            _ => file.tensor(&name, shape),
        })
    }

    /// Part `part` of `parts` of equal length that are joined along the first axis.
    pub(super) fn torch_part(name: impl Into<String>, part: usize, parts: usize) -> Self {
        let name = name.into();
        Self::of([name.clone()], move |file, shape| match *shape {
            [inputs, outputs] => {
                let joined = file.tensor(&name, &[parts * outputs, inputs])?;
                Ok(rows(joined, part * outputs, outputs).transposed())
            }
            _ => {
                let length = shape.iter().product();
                let joined = file.tensor(&name, &[parts * length])?;
                Ok(rows(joined, part * length, length))
            }
        })
    }

    /// Rows from `first` on of a tensor with `total` rows.
    pub(super) fn torch_rows(name: impl Into<String>, first: usize, total: usize) -> Self {
        let name = name.into();
        Self::of([name.clone()], move |file, shape| match *shape {
            [inputs, outputs] => {
                let joined = file.tensor(&name, &[total, inputs])?;
                Ok(rows(joined, first, outputs).transposed())
            }
            _ => Ok(rows(file.tensor(&name, &[total])?, first, shape[0])),
        })
    }

    /// A constant, such as a bias that the network does not have.
    pub(super) fn fill(value: f32) -> Self {
        Self::of([], move |_, shape| {
            let count = shape.iter().product();
            Ok(Tensor::f32(shape.to_vec(), &vec![value; count]))
        })
    }

    /// Values that are known.
    pub(super) fn values(values: Vec<f32>) -> Self {
        Self::of([], move |_, shape| Ok(Tensor::f32(shape.to_vec(), &values)))
    }

    /// The same, each output multiplied by a value of another tensor: γ ⊙ (x·W + b) is
    /// x·(W·diag γ) + γ ⊙ b, so the graph needs no operator for it.
    pub(super) fn scaled_by(self, scale: Option<&str>) -> Self {
        let Some(scale) = scale.map(str::to_owned) else {
            return self;
        };
        let Self { mut reads, make } = self;
        reads.push(scale.clone());
        Self::of(reads, move |file, shape| {
            let tensor = make(file, shape)?;
            let width = shape.last().copied().unwrap_or_default();
            let scale = file.tensor(&scale, &[width])?.to_f32();
            Ok(scaled_columns(&tensor, &scale))
        })
    }

    /// The same, where pairs of a head's values lie beside each other in the file: the graph has
    /// them half a head apart. Queries and keys are reordered alike, so scores stay as they are.
    pub(super) fn pairs_apart(self, head_size: usize) -> Self {
        let Self { reads, make } = self;
        Self::of(reads, move |file, shape| {
            let tensor = make(file, shape)?;
            let width = shape.last().copied().unwrap_or_default();
            let source = |at: usize| {
                let (head, within) = (at / head_size, at % head_size);
                let half = head_size / 2;
                let pair = match within < half {
                    true => 2 * within,
                    false => 2 * (within - half) + 1,
                };
                head * head_size + pair
            };
            let values = tensor.to_f32();
            let reordered: Vec<f32> = values
                .chunks_exact(width)
                .flat_map(|row| (0..width).map(|at| row[source(at)]))
                .collect();
            Ok(Tensor::f32(shape.to_vec(), &reordered))
        })
    }
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipe").field(&self.reads).finish()
    }
}

impl Recipes {
    /// Sets that of a constant.
    pub(super) fn set(&mut self, weight: WeightId, recipe: Recipe) {
        self.by_weight.insert(weight, recipe);
    }

    /// Sets that of a constant of a block.
    pub(super) fn block(&mut self, layer: usize, weight: B, recipe: Recipe) {
        self.set(WeightId::Block(layer, weight), recipe);
    }

    /// A layer or normalisation: `NAME.weight` and `NAME.bias`.
    pub(super) fn pair(&mut self, [weight, bias]: [WeightId; 2], name: &str) {
        self.set(weight, Recipe::torch(format!("{name}.weight")));
        self.set(bias, Recipe::torch(format!("{name}.bias")));
    }

    /// The same of a block.
    pub(super) fn block_pair(&mut self, layer: usize, [weight, bias]: [B; 2], name: &str) {
        self.pair(
            [WeightId::Block(layer, weight), WeightId::Block(layer, bias)],
            name,
        );
    }

    /// Every normalisation without a shift, as RMSNorm is.
    pub(super) fn without_shifts(&mut self, spec: &VitSpec) {
        use PoolWeight as P;
        let is_shift = |weight: &WeightId| {
            matches!(
                weight,
                WeightId::PreNormBias
                    | WeightId::FinalNormBias
                    | WeightId::Pool(P::MlpNormBias | P::NormAfterBias)
                    | WeightId::Block(
                        _,
                        B::AttentionNormBias
                            | B::MlpNormBias
                            | B::QueryNormBias
                            | B::KeyNormBias
                            | B::HeadsNormBias
                            | B::InnerNormBias
                    )
            )
        };
        for weight in spec.weight_ids().into_iter().filter(is_shift) {
            self.set(weight, Recipe::fill(0.0));
        }
    }

    /// A usual block, with biases in all its layers.
    pub(super) fn usual_block(&mut self, layer: usize, names: &BlockNames) {
        let pairs = [
            (
                [B::AttentionNormScale, B::AttentionNormBias],
                &names.attention_norm,
            ),
            ([B::QueryKernel, B::QueryBias], &names.query),
            ([B::KeyKernel, B::KeyBias], &names.key),
            ([B::ValueKernel, B::ValueBias], &names.value),
            ([B::MlpNormScale, B::MlpNormBias], &names.mlp_norm),
            ([B::UpKernel, B::UpBias], &names.up),
        ];
        for (pair, name) in pairs {
            self.block_pair(layer, pair, name);
        }
        let scales = names.layer_scales.as_ref();
        let [attention, mlp] = [0, 1].map(|at| scales.map(|scales| scales[at].as_str()));
        self.scaled_pair(layer, [B::OutKernel, B::OutBias], &names.out, attention);
        self.scaled_pair(layer, [B::DownKernel, B::DownBias], &names.down, mlp);
    }

    /// A layer of a block whose outputs are multiplied.
    pub(super) fn scaled_pair(
        &mut self,
        layer: usize,
        [kernel, bias]: [B; 2],
        name: &str,
        scale: Option<&str>,
    ) {
        let part = |part: &str| Recipe::torch(format!("{name}.{part}")).scaled_by(scale);
        self.block(layer, kernel, part("weight"));
        self.block(layer, bias, part("bias"));
    }

    /// The patch projection, `[hidden, 3, row, column]` in `NAME.weight`.
    pub(super) fn patch_projection(&mut self, name: &str, spec: &VitSpec, has_bias: bool) {
        let (hidden, patch) = (spec.hidden, spec.patch);
        let kernel = format!("{name}.weight");
        let make = {
            let kernel = kernel.clone();
            move |file: &mut dyn TensorFile, _: &[usize]| {
                let tensor = file.tensor(&kernel, &[hidden, 3, patch, patch])?;
                let flat = tensor.reshaped(vec![hidden, 3 * patch * patch]);
                Ok(flat.transposed())
            }
        };
        self.set(WeightId::PatchKernel, Recipe::of([kernel], make));
        let bias = match has_bias {
            true => Recipe::torch(format!("{name}.bias")),
            false => Recipe::fill(0.0),
        };
        self.set(WeightId::PatchBias, bias);
    }

    /// Prefix tokens, each of these tensors some, and positions.
    pub(super) fn embeddings(
        &mut self,
        prefix: &[String],
        positions: Option<&Positions>,
        spec: &VitSpec,
    ) {
        let hidden = spec.hidden;
        let (tokens, leading) = (prefix.to_vec(), positions.cloned());
        let reads = prefix.iter().cloned();
        let reads = reads.chain(positions.map(|positions| positions.name.clone()));
        self.set(
            WeightId::Prefix,
            Recipe::of(reads, move |file, shape| {
                let mut values = Vec::new();
                for name in &tokens {
                    values.extend(table(file, name, hidden)?);
                }
                if values.len() != shape.iter().product::<usize>() {
                    let detail = format!(
                        "has not the {} values expected of prefix tokens",
                        shape[0] * hidden
                    );
                    let name = tokens.first().map_or("", String::as_str);
                    return Err(ImportError::tensor(file.path(), name, detail));
                }
                if let Some(positions) = &leading {
                    let stored = positions.read(file, hidden)?;
                    let own = &stored[..positions.leading * hidden];
                    let pairs = values.iter_mut().zip(own);
                    pairs.for_each(|(value, position)| *value += position);
                }
                Ok(Tensor::f32(shape.to_vec(), &values))
            }),
        );
        let Some(positions) = positions.cloned() else {
            self.set(WeightId::Positions, Recipe::fill(0.0));
            return;
        };
        let grid = spec.grid();
        self.set(
            WeightId::Positions,
            Recipe::of([positions.name.clone()], move |file, shape| {
                let stored = positions.read(file, hidden)?;
                let patches = &stored[positions.leading * hidden..];
                let values = resampled(patches, positions.grid, grid, positions.interpolation);
                Ok(Tensor::f32(shape.to_vec(), &values))
            }),
        );
    }

    /// Refuses a file that lacks a tensor or has one that nothing would read.
    pub(super) fn check(
        &self,
        file: &dyn TensorFile,
        spec: &VitSpec,
        unused: fn(&str) -> bool,
    ) -> Result<(), ImportError> {
        check_all_read(file, self.reads(spec), unused, &[])
    }

    /// Names of all tensors that are read.
    pub(super) fn reads(&self, spec: &VitSpec) -> BTreeSet<String> {
        let ids = spec.weight_ids().into_iter();
        let recipes = ids.filter_map(|weight| self.by_weight.get(&weight));
        recipes
            .flat_map(|recipe| recipe.reads.iter().cloned())
            .collect()
    }
}

impl Positions {
    /// All of them, `[leading + rows · columns, hidden]`.
    fn read(&self, file: &mut dyn TensorFile, hidden: usize) -> Result<Vec<f32>, ImportError> {
        let values = table(file, &self.name, hidden)?;
        let count = self.leading + self.grid[0] * self.grid[1];
        match values.len() == count * hidden {
            true => Ok(values),
            false => {
                let detail = format!("has not the {count} positions of width {hidden} expected");
                Err(ImportError::tensor(file.path(), &self.name, detail))
            }
        }
    }
}

/// The values of a tensor whose last axis is `hidden`, whatever comes before.
fn table(file: &mut dyn TensorFile, name: &str, hidden: usize) -> Result<Vec<f32>, ImportError> {
    let Some(shape) = file.shape(name).map(<[usize]>::to_vec) else {
        return Err(file.missing(name, "a table of tokens or positions is expected"));
    };
    if shape.last() != Some(&hidden) {
        let detail = format!("has the shape {shape:?}; the last axis should be {hidden}");
        return Err(ImportError::tensor(file.path(), name, detail));
    }
    Ok(file.tensor(name, &shape)?.to_f32())
}

/// `kernel` `[out, in]` · `x` + `bias`.
pub(super) fn projected(x: &[f32], kernel: &[f32], bias: &[f32]) -> Vec<f32> {
    let rows = kernel.chunks_exact(x.len()).zip(bias);
    rows.map(|(row, &bias)| {
        let terms = row
            .iter()
            .zip(x)
            .map(|(a, b)| f64::from(*a) * f64::from(*b));
        (terms.sum::<f64>() + f64::from(bias)) as f32
    })
    .collect()
}

/// The constants of a network, made by its recipes.
pub(super) struct RecipeWeights {
    pub(super) file: Box<dyn TensorFile>,
    pub(super) recipes: Recipes,
    pub(super) spec: VitSpec,
}

impl Weights for RecipeWeights {
    type Error = ImportError;

    fn tensor(&mut self, weight: WeightId) -> Result<Tensor, ImportError> {
        let Some(recipe) = self.recipes.by_weight.get(&weight) else {
            let detail = format!("has no tensor for {weight:?}, which its family should name");
            return Err(ImportError::malformed(self.file.path(), detail));
        };
        (recipe.make)(self.file.as_mut(), &self.spec.shape(weight))
    }
}
