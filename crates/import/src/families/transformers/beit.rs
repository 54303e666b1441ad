//! BEiT (Bao et al. 2021), BEiT v2 (Peng et al. 2022) and Data2Vec-Vision (Baevski et al. 2022) with
//! a classifier: scores with a term for how two patches lie to each other, keys without a bias, and
//! either the normalised mean over the patches or the class token.

use patchlight_onnx::{
    tensor::Tensor,
    vit::{BlockWeight as B, PoolNorm, Pooling, Variant, VitSpec, WeightId},
};
use serde_json::json;

use super::{Config, Description, Family, Generation, Network, Recipe, Recipes, classifier};
use crate::{
    ImportError,
    families::{Sizes, recipe::Positions},
    layout::Interpolation,
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "BEiT, BEiT v2, Data2Vec-Vision",
        checkpoints: "BeitForImageClassification, Data2VecVisionForImageClassification",
        reads: "mean over the patches, normalised afterwards; or class token",
        evidence: "last state of every patch, or attention of the class token",
    },
    model_types: &["beit", "data2vec-vision"],
    zero_shot: None,
    anchors: &[
        "beit.embeddings.patch_embeddings.projection.weight",
        "data2vec_vision.embeddings.patch_embeddings.projection.weight",
    ],
    open,
};

/// What a network of the family has.
#[derive(Clone, Copy, Debug)]
struct Parts {
    root: &'static str,
    generation: Generation,
    own_bias: bool,
    shared_bias: bool,
    layer_scale: bool,
}

fn open(config: &Config<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let root = match config
        .fields
        .get("model_type")
        .and_then(|kind| kind.as_str())
    {
        Some("data2vec-vision") => "data2vec_vision",
        _ => "beit",
    };
    let own_bias = config.flag("use_relative_position_bias", false);
    let shared_bias = config.flag("use_shared_relative_position_bias", false);
    let mean = config.flag("use_mean_pooling", true);
    let plain = config.spec(config.fields, &json!({}), file)?;
    let spec = VitSpec {
        qkv_bias: true,
        pooling: match mean {
            true => Pooling::PatchMean(PoolNorm::AfterMean),
            false => Pooling::ClassToken,
        },
        variant: Variant {
            relative_bias: own_bias || shared_bias,
            ..Variant::default()
        },
        ..plain
    };
    let [rows, columns] = spec.grid();
    if spec.variant.relative_bias && rows != columns {
        let detail = "is not square: the library resamples the table of relative positions there, \
                      rows and columns exchanged";
        return Err(config.error("image_size", detail));
    }
    let absolute = config.flag("use_absolute_position_embeddings", false);
    let positions = absolute.then(|| Positions {
        name: format!("{root}.embeddings.position_embeddings"),
        leading: 1,
        grid: spec.grid(),
        interpolation: Interpolation::Bicubic,
    });
    let scale = Config::number(config.fields, "layer_scale_init_value").unwrap_or(0.1);
    let parts = Parts {
        root,
        generation: Generation::of(root, file),
        own_bias,
        shared_bias,
        layer_scale: scale > 0.0,
    };
    Ok(Network {
        spec,
        sizes: Sizes::Fixed("its table of relative positions is of that size"),
        recipes: Box::new(move |spec| recipes(spec, positions.as_ref(), parts)),
        unused: |name| {
            name.ends_with(".embeddings.mask_token") || name.ends_with(".relative_position_index")
        },
    })
}

fn recipes(spec: &VitSpec, positions: Option<&Positions>, parts: Parts) -> Recipes {
    let Parts {
        root, layer_scale, ..
    } = parts;
    let mut recipes = Recipes::default();
    recipes.patch_projection(
        &format!("{root}.embeddings.patch_embeddings.projection"),
        spec,
        true,
    );
    recipes.embeddings(&[format!("{root}.embeddings.cls_token")], positions, spec);
    for layer in 0..spec.layers {
        let before = parts.block(layer);
        let mut names = parts.generation.block(&before);
        if layer_scale {
            names.layer_scales =
                Some(["lambda_1", "lambda_2"].map(|name| format!("{before}.{name}")));
        }
        recipes.usual_block(layer, &names);
        recipes.block(layer, B::KeyBias, Recipe::fill(0.0));
        recipes.block(layer, B::RelativeBias, relative_bias(parts.tables(layer)));
    }
    let norm = match spec.pooling {
        Pooling::PatchMean(_) => format!("{root}.pooler.layernorm"),
        _ => format!("{root}.layernorm"),
    };
    recipes.pair([WeightId::FinalNormScale, WeightId::FinalNormBias], &norm);
    classifier(&mut recipes);
    recipes
}

impl Parts {
    fn block(&self, layer: usize) -> String {
        let root = self.root;
        match self.generation {
            Generation::Saved => format!("{root}.encoder.layer.{layer}"),
            Generation::Native => format!("{root}.layers.{layer}"),
        }
    }

    /// Those of a block's terms: one that all blocks share, one of its own.
    fn tables(&self, layer: usize) -> Vec<String> {
        const TABLE: &str = "relative_position_bias.relative_position_bias_table";
        let (root, block) = (self.root, self.block(layer));
        let [shared, own] = match self.generation {
            Generation::Saved => [
                format!("{root}.encoder.{TABLE}"),
                format!("{block}.attention.attention.{TABLE}"),
            ],
            Generation::Native => [
                format!("{root}.shared_position_bias.relative_position_bias_table"),
                format!("{block}.{TABLE}"),
            ],
        };
        let shared = self.shared_bias.then_some(shared);
        let own = self.own_bias.then_some(own);
        shared.into_iter().chain(own).collect()
    }
}

/// The sum of tables `[relations, heads]`.
pub(in crate::families) fn relative_bias(names: Vec<String>) -> Recipe {
    Recipe::of(names.clone(), move |file, shape| {
        let (heads, relations) = (shape[0], shape[1]);
        let mut sum = vec![0.0; heads * relations];
        for name in &names {
            let values = file.tensor(name, &[relations, heads])?.to_f32();
            sum.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += value);
        }
        Ok(Tensor::f32(vec![relations, heads], &sum).transposed())
    })
}
