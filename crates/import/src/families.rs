//! The families of networks that are imported beside the plain Vision Transformers, one file each.
//!
//! A family says by what its checkpoints are known, what its network is ([`VitSpec`]), and from
//! which tensors each constant of the graph is made (`recipe`). All else is done once, here and in
//! the modules for a library. **Another family** is a file of its own beside the others, its line in
//! `transformers::FAMILIES` or `timm::FAMILIES`, and a golden.

mod list;
mod recipe;
pub(super) mod timm;
pub(super) mod transformers;

use patchlight_imaging::preprocess::Preprocess;
use patchlight_model::manifest::TaskKind;
use patchlight_onnx::vit::VitSpec;

pub use self::list::{FamilyRow, all as list_families, table as families_table};
use self::recipe::{RecipeWeights, Recipes};
use super::{Checkpoint, ImportError, ImportOptions, input_size, tensor_file::TensorFile};

/// One line of the list of families.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    /// What people call it.
    pub(crate) name: &'static str,
    /// The class, function or file that holds such a checkpoint.
    pub(crate) checkpoints: &'static str,
    /// What the classifier reads, and so where a rollout starts.
    pub(crate) reads: &'static str,
    /// What the evidence for a label is made of.
    pub(crate) evidence: &'static str,
}

/// What a classifier reads whose evidence follows the class token.
const CLASS_TOKEN: [&str; 2] = ["class token", "attention of the class token, all blocks"];
/// The same of a mean that is taken of normalised patches.
const PATCH_MEAN: [&str; 2] = ["mean over the patches", "last state of every patch, exact"];

/// A network that a family has read from a description and a file of tensors.
pub(super) struct Network {
    /// As it was trained.
    spec: VitSpec,
    sizes: Sizes,
    recipes: Box<dyn Fn(&VitSpec) -> Recipes>,
    /// Whether a tensor is one that the library itself does not use when it classifies.
    unused: fn(&str) -> bool,
}

/// Which sizes of images a network takes.
#[derive(Clone, Copy, Debug)]
enum Sizes {
    /// That of its training; another where `--image-size` asks for it.
    Resampled,
    /// That of the preprocessing, whatever it was trained with: the library itself resamples.
    OfPreprocessing,
    /// That of its training only, for a reason.
    Fixed(&'static str),
}

/// What is known of a checkpoint beside its network.
pub(super) struct Surroundings {
    pub(super) preprocess: Preprocess,
    pub(super) labels: Option<Vec<String>>,
    pub(super) task: TaskKind,
    pub(super) source: &'static str,
    pub(super) source_files: super::preprocessing::Digests,
}

impl Network {
    /// How many classes its classifier has.
    pub(super) fn classes(&self) -> usize {
        self.spec.classes
    }

    /// The checkpoint at the size that is asked for.
    ///
    /// # Errors
    /// If sizes do not fit, or a tensor is missing or left over.
    pub(super) fn checkpoint(
        self,
        file: Box<dyn TensorFile>,
        surroundings: Surroundings,
        options: &ImportOptions,
    ) -> Result<Checkpoint, ImportError> {
        let Surroundings {
            preprocess,
            labels,
            task,
            source,
            mut source_files,
        } = surroundings;
        let stored = match self.sizes {
            Sizes::OfPreprocessing => self.spec_of(&preprocess)?,
            Sizes::Resampled => self.spec.clone(),
            Sizes::Fixed(reason) => match options.image_size {
                Some(side) if [side, side] != self.spec.image => {
                    return Err(ImportError::Preprocess(format!(
                        "--image-size {side} cannot be made of a network of {}×{}: {reason}",
                        self.spec.image[0], self.spec.image[1]
                    )));
                }
                _ => self.spec.clone(),
            },
        };
        let (_, preprocess, spec) = input_size::at_size(options, stored, preprocess)?;
        let mut recipes = (self.recipes)(&spec);
        if spec.variant.rms_norm {
            recipes.without_shifts(&spec);
        }
        recipes.check(file.as_ref(), &spec, self.unused)?;
        source_files.extend(file.digests()?);
        let used = recipes.reads(&spec).into_iter();
        let values = used.map(|name| file.shape(&name).map_or(0, |shape| shape.iter().product()));
        let parameters = values.sum::<usize>() as u64;
        Ok(Checkpoint {
            stripped: file.stripped().cloned(),
            weights: Box::new(RecipeWeights {
                file,
                recipes,
                spec: spec.clone(),
            }),
            parameters,
            spec,
            labels,
            task,
            caution: None,
            preprocess,
            source,
            source_files,
        })
    }

    fn spec_of(&self, preprocess: &Preprocess) -> Result<VitSpec, ImportError> {
        let image = input_size::of(preprocess)?.map(|side| side as usize);
        let patch = self.spec.patch;
        if image.iter().any(|side| !side.is_multiple_of(patch)) {
            return Err(ImportError::Preprocess(format!(
                "it makes images of {}×{}, which patches of {patch} do not divide",
                image[0], image[1]
            )));
        }
        Ok(VitSpec {
            image,
            ..self.spec.clone()
        })
    }
}
