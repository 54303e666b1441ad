//! The variants of a served model: under which names it is offered, and with which tensors.
//!
//! Generic clients want a model with one float input and one vector output, so the map has a name
//! of its own, and so have encoded images:
//!
//! | name | input | outputs |
//! |---|---|---|
//! | `NAME` | `pixel_values` FP32 `[n, 3, height, width]`, preprocessed by the client | `logits` |
//! | `NAME_explain` | the same | `logits`, `rollout` |
//! | `NAME_image` | `image` BYTES `[n]`: image files | `logits`, `rollout` |

use patchlight_model::{Manifest, ModelInfo};

use super::Datatype;

/// The output with one value a class.
pub const LOGITS: &str = "logits";

/// The output with the rollout's weights of the patches.
pub const ROLLOUT: &str = "rollout";

/// The input of [`ModelVariant::Image`].
pub const IMAGE: &str = "image";

/// A variant of a model, with a name of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ModelVariant {
    /// Tensor to logits.
    Plain,
    /// Tensor to logits and rollout.
    Explain,
    /// Encoded images to logits and rollout.
    Image,
}

impl ModelVariant {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Explain, Self::Image];

    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Explain => "_explain",
            Self::Image => "_image",
        }
    }

    /// The name of this variant of a model.
    pub fn name(self, model: &str) -> String {
        format!("{model}{}", self.suffix())
    }

    /// The model and variant that a client names, where `is_served` knows the models. A model whose
    /// own name ends like a variant's comes first.
    pub fn resolve(name: &str, is_served: impl Fn(&str) -> bool) -> Option<(&str, Self)> {
        Self::ALL
            .into_iter()
            .filter_map(|variant| Some((name.strip_suffix(variant.suffix())?, variant)))
            .find(|(model, _)| is_served(model))
    }

    /// The input's name.
    pub fn input(self, manifest: &Manifest) -> &str {
        match self {
            Self::Plain | Self::Explain => &manifest.graph.input,
            Self::Image => IMAGE,
        }
    }

    /// The input's datatype.
    pub fn datatype(self) -> Datatype {
        match self {
            Self::Plain | Self::Explain => Datatype::Fp32,
            Self::Image => Datatype::Bytes,
        }
    }

    /// The outputs' names, in their order.
    pub fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[LOGITS],
            Self::Explain | Self::Image => &[LOGITS, ROLLOUT],
        }
    }

    /// Lengths of an output's dimensions for one image.
    pub fn output_shape(manifest: &Manifest, output: &str) -> Vec<usize> {
        match output {
            // Of a model that makes none it is there, and empty.
            ROLLOUT if manifest.graph.rollout.is_none() => vec![0, 0],
            ROLLOUT => manifest.tokens.grid.to_vec(),
            _ => vec![manifest.task.classes],
        }
    }

    /// Lengths of the input's dimensions for one image; empty for an encoded one.
    pub fn input_shape(self, model: &ModelInfo) -> Vec<usize> {
        let (height, width) = model.input_size;
        match self {
            Self::Plain | Self::Explain => vec![3, height, width],
            Self::Image => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve<'a>(served: &[&str], name: &'a str) -> Option<(&'a str, ModelVariant)> {
        ModelVariant::resolve(name, |model| served.contains(&model))
    }

    #[test]
    fn every_variant_is_found_by_its_name() {
        for variant in ModelVariant::ALL {
            assert_eq!(
                resolve(&["vit"], &variant.name("vit")),
                Some(("vit", variant))
            );
        }
        assert_eq!(resolve(&["vit"], "vit_other"), None);
        assert_eq!(resolve(&["vit"], ""), None);
    }

    #[test]
    fn a_model_whose_own_name_ends_like_a_variant_comes_first() {
        let served = ["vit", "vit_image"];
        assert_eq!(
            resolve(&served, "vit_image"),
            Some(("vit_image", ModelVariant::Plain))
        );
        assert_eq!(
            resolve(&served, "vit_image_image"),
            Some(("vit_image", ModelVariant::Image))
        );
    }
}
