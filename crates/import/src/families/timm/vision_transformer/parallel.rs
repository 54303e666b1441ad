//! Blocks that do side by side what others do one after the other, in the form of usual blocks.
//!
//! `ParallelScalingBlock` (Dehghani et al. 2023): attention and MLP read the same normalised tokens.
//! `ParallelThingsBlock` (Touvron et al. 2022): several attentions, then several MLPs, each with a
//! normalisation of its own. With scale γ and shift β of that multiplied into the layer after it,
//!
//! ```text
//! (γ ⊙ n + β)·W + b  =  n·(diag γ · W) + (β·W + b)
//! ```
//!
//! all of a block read the same n; so they are one attention with the heads of all, and one MLP with
//! the width of all.

use patchlight_onnx::{
    tensor::Tensor,
    vit::{BlockWeight as B, VitSpec},
};

use crate::{
    ImportError,
    families::recipe::{Recipe, Recipes},
    tensor_file::TensorFile,
};

/// What shows in the names of the first block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    joined_bias: bool,
    fused_out: bool,
    layer_scale: bool,
    qkv_bias: bool,
}

impl Stored {
    pub(super) fn of(file: &dyn TensorFile) -> Self {
        let has = |name: &str| file.shape(&format!("blocks.0.{name}")).is_some();
        Self {
            joined_bias: has("in_proj.bias"),
            fused_out: has("out_proj.weight"),
            layer_scale: has("ls.gamma") || has("attns.0.ls.gamma"),
            qkv_bias: has("attns.0.attn.qkv.bias"),
        }
    }
}

/// The joined layer gives the MLP's values, queries, keys and values, in this order.
pub(super) fn scaling(recipes: &mut Recipes, spec: &VitSpec, layer: usize, stored: Stored) {
    let name = |part: &str| format!("blocks.{layer}.{part}");
    let (hidden, mlp) = (spec.hidden, spec.mlp);
    let total = mlp + 3 * hidden;
    for pair in [
        [B::AttentionNormScale, B::AttentionNormBias],
        [B::MlpNormScale, B::MlpNormBias],
    ] {
        recipes.block_pair(layer, pair, &name("in_norm"));
    }
    for (kernel, bias, first) in [
        (B::UpKernel, B::UpBias, 0),
        (B::QueryKernel, B::QueryBias, mlp),
        (B::KeyKernel, B::KeyBias, mlp + hidden),
        (B::ValueKernel, B::ValueBias, mlp + 2 * hidden),
    ] {
        recipes.block(
            layer,
            kernel,
            Recipe::torch_rows(name("in_proj.weight"), first, total),
        );
        let recipe = match (stored.joined_bias, bias) {
            (true, _) => Recipe::torch_rows(name("in_proj.bias"), first, total),
            (false, B::UpBias) => Recipe::torch(name("mlp_bias")),
            (false, _) => Recipe::fill(0.0),
        };
        recipes.block(layer, bias, recipe);
    }
    if spec.variant.qk_norm {
        recipes.block_pair(
            layer,
            [B::QueryNormScale, B::QueryNormBias],
            &name("q_norm"),
        );
        recipes.block_pair(layer, [B::KeyNormScale, B::KeyNormBias], &name("k_norm"));
    }
    let scale = stored.layer_scale.then(|| name("ls.gamma"));
    if !stored.fused_out {
        let pairs = [
            ([B::OutKernel, B::OutBias], "attn_out_proj"),
            ([B::DownKernel, B::DownBias], "mlp_out_proj"),
        ];
        for (pair, part) in pairs {
            recipes.scaled_pair(layer, pair, &name(part), scale.as_deref());
        }
        return;
    }
    // One kernel `[hidden, hidden + mlp]` and one bias for both.
    for (kernel, first) in [(B::OutKernel, 0), (B::DownKernel, hidden)] {
        let joined = name("out_proj.weight");
        let recipe = Recipe::of([joined.clone()], move |file, shape| {
            let [inputs, outputs] = [shape[0], shape[1]];
            let stored = file
                .tensor(&joined, &[outputs, hidden + mlp])?
                .transposed()
                .to_f32();
            let rows = &stored[first * outputs..][..inputs * outputs];
            Ok(Tensor::f32(shape.to_vec(), rows))
        });
        recipes.block(layer, kernel, recipe.scaled_by(scale.as_deref()));
    }
    let bias = Recipe::torch(name("out_proj.bias")).scaled_by(scale.as_deref());
    recipes.block(layer, B::OutBias, bias);
    recipes.block(layer, B::DownBias, Recipe::fill(0.0));
}

/// One attention and one MLP out of several.
pub(super) fn things(
    recipes: &mut Recipes,
    spec: &VitSpec,
    layer: usize,
    branches: usize,
    stored: Stored,
) {
    for (weight, value) in [
        (B::AttentionNormScale, 1.0),
        (B::AttentionNormBias, 0.0),
        (B::MlpNormScale, 1.0),
        (B::MlpNormBias, 0.0),
    ] {
        recipes.block(layer, weight, Recipe::fill(value));
    }
    let attention = |part: &str| names(layer, "attns", branches, part);
    let ffn = |part: &str| names(layer, "ffns", branches, part);
    for (third, (kernel, bias)) in [
        (B::QueryKernel, B::QueryBias),
        (B::KeyKernel, B::KeyBias),
        (B::ValueKernel, B::ValueBias),
    ]
    .into_iter()
    .enumerate()
    {
        let joined = Joined {
            norms: attention("norm"),
            layers: attention("attn.qkv"),
            has_bias: stored.qkv_bias,
            hidden: spec.hidden,
            part: (third, 3),
        };
        recipes.block(layer, kernel, joined.clone().kernel());
        recipes.block(layer, bias, joined.bias());
    }
    let up = Joined {
        norms: ffn("norm"),
        layers: ffn("mlp.fc1"),
        has_bias: true,
        hidden: spec.hidden,
        part: (0, 1),
    };
    recipes.block(layer, B::UpKernel, up.clone().kernel());
    recipes.block(layer, B::UpBias, up.bias());
    let scales = |names: Vec<String>| match stored.layer_scale {
        true => names.into_iter().map(Some).collect(),
        false => vec![None; branches],
    };
    let outs = [
        (
            [B::OutKernel, B::OutBias],
            attention("attn.proj"),
            scales(attention("ls.gamma")),
        ),
        (
            [B::DownKernel, B::DownBias],
            ffn("mlp.fc2"),
            scales(ffn("ls.gamma")),
        ),
    ];
    for ([kernel, bias], layers, scales) in outs {
        recipes.block(layer, kernel, stacked(&layers, &scales));
        recipes.block(layer, bias, summed(&layers, &scales));
    }
}

fn names(layer: usize, kind: &str, branches: usize, part: &str) -> Vec<String> {
    let name = |branch| format!("blocks.{layer}.{kind}.{branch}.{part}");
    (0..branches).map(name).collect()
}

/// Layers beside each other, each after a normalisation of its own.
#[derive(Clone)]
struct Joined {
    norms: Vec<String>,
    layers: Vec<String>,
    has_bias: bool,
    hidden: usize,
    /// Which of how many equal parts of the layers' outputs.
    part: (usize, usize),
}

impl Joined {
    fn reads(&self, kinds: &[&str]) -> Vec<String> {
        let of = |name: &String| {
            kinds
                .iter()
                .map(|kind| format!("{name}.{kind}"))
                .collect::<Vec<_>>()
        };
        self.layers.iter().flat_map(of).collect()
    }

    /// Kernel `[out, in]` of one branch's part, `outputs` rows.
    fn rows(
        &self,
        file: &mut dyn TensorFile,
        branch: usize,
        outputs: usize,
    ) -> Result<Vec<f32>, ImportError> {
        let (part, parts) = self.part;
        let name = format!("{}.weight", self.layers[branch]);
        let all = file
            .tensor(&name, &[parts * outputs, self.hidden])?
            .to_f32();
        Ok(all[part * outputs * self.hidden..][..outputs * self.hidden].to_vec())
    }

    fn kernel(self) -> Recipe {
        let mut reads = self.reads(&["weight"]);
        reads.extend(self.norms.iter().map(|norm| format!("{norm}.weight")));
        Recipe::of(reads, move |file, shape| {
            let (inputs, outputs) = (shape[0], shape[1] / self.layers.len());
            let mut values = vec![0.0; shape[0] * shape[1]];
            for branch in 0..self.layers.len() {
                let rows = self.rows(file, branch, outputs)?;
                let scale = file
                    .tensor(&format!("{}.weight", self.norms[branch]), &[inputs])?
                    .to_f32();
                for (out, row) in rows.chunks_exact(inputs).enumerate() {
                    for (input, (value, scale)) in row.iter().zip(&scale).enumerate() {
                        values[input * shape[1] + branch * outputs + out] = value * scale;
                    }
                }
            }
            Ok(Tensor::f32(shape.to_vec(), &values))
        })
    }

    fn bias(self) -> Recipe {
        let kinds: &[&str] = if self.has_bias {
            &["weight", "bias"]
        } else {
            &["weight"]
        };
        let mut reads = self.reads(kinds);
        reads.extend(self.norms.iter().map(|norm| format!("{norm}.bias")));
        Recipe::of(reads, move |file, shape| {
            let outputs = shape[0] / self.layers.len();
            let (part, parts) = self.part;
            let mut values = Vec::with_capacity(shape[0]);
            for branch in 0..self.layers.len() {
                let rows = self.rows(file, branch, outputs)?;
                let shift = file
                    .tensor(&format!("{}.bias", self.norms[branch]), &[self.hidden])?
                    .to_f32();
                let own = match self.has_bias {
                    true => {
                        let name = format!("{}.bias", self.layers[branch]);
                        let all = file.tensor(&name, &[parts * outputs])?.to_f32();
                        all[part * outputs..][..outputs].to_vec()
                    }
                    false => vec![0.0; outputs],
                };
                for (row, own) in rows.chunks_exact(self.hidden).zip(own) {
                    let terms = row
                        .iter()
                        .zip(&shift)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b));
                    values.push((terms.sum::<f64>() + f64::from(own)) as f32);
                }
            }
            Ok(Tensor::f32(shape.to_vec(), &values))
        })
    }
}

/// Kernels one below the other, `[branches · in, out]`.
fn stacked(layers: &[String], scales: &[Option<String>]) -> Recipe {
    let parts: Vec<(String, Option<String>)> = layers
        .iter()
        .map(|layer| format!("{layer}.weight"))
        .zip(scales.iter().cloned())
        .collect();
    Recipe::of(reads(&parts), move |file, shape| {
        let inputs = shape[0] / parts.len();
        let mut values = Vec::with_capacity(shape[0] * shape[1]);
        for (kernel, scale) in &parts {
            let stored = file.tensor(kernel, &[shape[1], inputs])?.transposed();
            values.extend(scaled(file, &stored, scale.as_deref(), shape[1])?);
        }
        Ok(Tensor::f32(shape.to_vec(), &values))
    })
}

/// The sum of biases.
fn summed(layers: &[String], scales: &[Option<String>]) -> Recipe {
    let parts: Vec<(String, Option<String>)> = layers
        .iter()
        .map(|layer| format!("{layer}.bias"))
        .zip(scales.iter().cloned())
        .collect();
    Recipe::of(reads(&parts), move |file, shape| {
        let mut sum = vec![0.0; shape[0]];
        for (bias, scale) in &parts {
            let stored = file.tensor(bias, shape)?;
            let values = scaled(file, &stored, scale.as_deref(), shape[0])?;
            sum.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += value);
        }
        Ok(Tensor::f32(shape.to_vec(), &sum))
    })
}

fn reads(parts: &[(String, Option<String>)]) -> Vec<String> {
    let both = |(name, scale): &(String, Option<String>)| [Some(name.clone()), scale.clone()];
    parts.iter().flat_map(both).flatten().collect()
}

fn scaled(
    file: &mut dyn TensorFile,
    tensor: &Tensor,
    scale: Option<&str>,
    width: usize,
) -> Result<Vec<f32>, ImportError> {
    let mut values = tensor.to_f32();
    if let Some(scale) = scale {
        let scale = file.tensor(scale, &[width])?.to_f32();
        for row in values.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(&scale)
                .for_each(|(value, scale)| *value *= scale);
        }
    }
    Ok(values)
}
