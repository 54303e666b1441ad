//! BEiT (Bao et al. 2021), BEiT v2 (Peng et al. 2022) and Data2Vec-Vision (Baevski et al. 2022) with
//! a classifier: scores with a term for how two patches lie to each other, keys without a bias, and
//! either the normalised mean over the patches or the class token.

use patchlight_onnx::{
    tensor::Tensor,
    vit::{BlockWeight as B, PoolNorm, Pooling, Variant, VitSpec, WeightId},
};
use serde_json::json;

use super::{Config, Description, Family, Network, Recipe, Recipes, classifier, vit_block};
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
    if own_bias && shared_bias {
        let detail = "is true, beside use_relative_position_bias: two terms are not known here";
        return Err(config.error("use_shared_relative_position_bias", detail));
    }
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
        root,
        shared_bias,
        layer_scale,
    } = parts;
    let mut recipes = Recipes::default();
    recipes.patch_projection(
        &format!("{root}.embeddings.patch_embeddings.projection"),
        spec,
        true,
    );
    recipes.embeddings(&[format!("{root}.embeddings.cls_token")], positions, spec);
    for layer in 0..spec.layers {
        let before = format!("{root}.encoder.layer.{layer}");
        let mut names = vit_block(&before);
        if layer_scale {
            names.layer_scales =
                Some(["lambda_1", "lambda_2"].map(|name| format!("{before}.{name}")));
        }
        recipes.usual_block(layer, &names);
        recipes.block(layer, B::KeyBias, Recipe::fill(0.0));
        let table = match shared_bias {
            true => format!("{root}.encoder"),
            false => format!("{before}.attention.attention"),
        };
        let table = format!("{table}.relative_position_bias.relative_position_bias_table");
        recipes.block(layer, B::RelativeBias, relative_bias(table));
    }
    let norm = match spec.pooling {
        Pooling::PatchMean(_) => format!("{root}.pooler.layernorm"),
        _ => format!("{root}.layernorm"),
    };
    recipes.pair([WeightId::FinalNormScale, WeightId::FinalNormBias], &norm);
    classifier(&mut recipes);
    recipes
}

/// From `[relations, heads]`.
pub(in crate::families) fn relative_bias(name: String) -> Recipe {
    Recipe::of([name.clone()], move |file, shape| {
        let (heads, relations) = (shape[0], shape[1]);
        let stored: Tensor = file.tensor(&name, &[relations, heads])?;
        Ok(stored.transposed())
    })
}
