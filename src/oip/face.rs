//! The names under which one served model is met, and what each takes and gives.
//!
//! Generic clients want a model with one float input and one vector output, so the map has a name
//! of its own, and so have encoded pictures:
//!
//! | name | input | outputs |
//! |---|---|---|
//! | `NAME` | `pixel_values` FP32 `[n, 3, height, width]`, preprocessed by the client | `logits` |
//! | `NAME_explain` | the same | `logits`, `rollout` |
//! | `NAME_image` | `image` BYTES `[n]`: JPEG, PNG, WebP or GIF | `logits`, `rollout` |

use patchlight_model::Manifest;

use super::Datatype;

/// The output with one value a class.
pub const LOGITS: &str = "logits";

/// The output with the rollout's weights of the patches.
pub const ROLLOUT: &str = "rollout";

/// The input of [`Face::Image`].
pub const IMAGE: &str = "image";

/// One of the names of a model.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Face {
    /// Tensor to logits.
    Plain,
    /// Tensor to logits and rollout.
    Explain,
    /// Encoded pictures to logits and rollout.
    Image,
}

impl Face {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Explain, Self::Image];

    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Explain => "_explain",
            Self::Image => "_image",
        }
    }

    /// What the model is called when it shows this face.
    pub fn name(self, model: &str) -> String {
        format!("{model}{}", self.suffix())
    }

    /// The model and face that a client means, where `is_served` knows the models. A model whose
    /// own name ends like a face comes first.
    pub fn resolve(name: &str, is_served: impl Fn(&str) -> bool) -> Option<(&str, Self)> {
        Self::ALL
            .into_iter()
            .filter_map(|face| Some((name.strip_suffix(face.suffix())?, face)))
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

    /// Lengths of an output's dimensions for one picture.
    pub fn output_shape(manifest: &Manifest, output: &str) -> Vec<usize> {
        match output {
            ROLLOUT => manifest.tokens.grid.to_vec(),
            _ => vec![manifest.task.classes],
        }
    }

    /// Lengths of the input's dimensions for one picture; empty for an encoded one.
    pub fn input_shape(self, manifest: &Manifest) -> Vec<usize> {
        let (height, width) = manifest.input_size();
        match self {
            Self::Plain | Self::Explain => vec![3, height, width],
            Self::Image => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve<'a>(served: &[&str], name: &'a str) -> Option<(&'a str, Face)> {
        Face::resolve(name, |model| served.contains(&model))
    }

    #[test]
    fn every_face_is_found_by_its_name() {
        for face in Face::ALL {
            assert_eq!(resolve(&["vit"], &face.name("vit")), Some(("vit", face)));
        }
        assert_eq!(resolve(&["vit"], "vit_other"), None);
        assert_eq!(resolve(&["vit"], ""), None);
    }

    #[test]
    fn a_model_whose_own_name_ends_like_a_face_comes_first() {
        let served = ["vit", "vit_image"];
        assert_eq!(
            resolve(&served, "vit_image"),
            Some(("vit_image", Face::Plain))
        );
        assert_eq!(
            resolve(&served, "vit_image_image"),
            Some(("vit_image", Face::Image))
        );
    }
}
