//! Whether a processor runs on Pillow's images or on torchvision's tensors.
//!
//! transformers 4 goes by the name of the class in the file: one that ends in `Fast` resizes with
//! torchvision, any other with Pillow. transformers 5 resizes with torchvision wherever that is
//! installed, whatever the name, and writes names without `Fast`. Neither looks at `use_fast` in
//! the file. So a plain name is read as the version means it that wrote the checkpoint, which
//! `config.json` tells. `tests/goldens/processors` has what both versions run.

use std::path::Path;

use patchlight_imaging::preprocess::{Backend, CropRounding};
use serde::Deserialize;

use crate::{ImportError, small_file::json};

/// The version from which on every processor resizes with torchvision.
const ALWAYS_TORCHVISION: u32 = 5;

/// What decides, besides the name of the class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    given: Option<Backend>,
    /// Major version of the transformers that wrote the checkpoint.
    version: Option<u32>,
}

#[derive(Deserialize)]
struct Config {
    transformers_version: Option<String>,
}

impl Choice {
    /// What was asked for, and the `config.json` of the checkpoint if there is one.
    pub(crate) fn new(given: Option<Backend>, config: Option<&Path>) -> Result<Self, ImportError> {
        let version = config.map(json::<Config>).transpose()?;
        let version = version.and_then(|config| config.transformers_version);
        Ok(Self {
            given,
            version: version.and_then(|text| text.split('.').next()?.parse().ok()),
        })
    }

    /// The backend of a processor's class of this name.
    pub(super) fn backend(self, class: Option<&str>) -> Backend {
        let torchvision = is_fast(class) || self.is_always_torchvision();
        self.given.unwrap_or(match torchvision {
            true => Backend::Torchvision,
            false => Backend::Pillow,
        })
    }

    /// Where the crop starts that is a part of `ConvNextImageProcessorFast`'s resize: version 4 has
    /// torchvision's own there, and transformers' everywhere else.
    pub(super) fn rounding_of_convnext(self, class: Option<&str>) -> Option<CropRounding> {
        let torchvision = self.backend(class) == Backend::Torchvision;
        let old = is_fast(class) && !self.is_always_torchvision();
        (torchvision && old).then_some(CropRounding::HalfEven)
    }

    /// Whether version 5 or a later one wrote the checkpoint.
    pub(super) fn is_always_torchvision(self) -> bool {
        self.version
            .is_some_and(|found| found >= ALWAYS_TORCHVISION)
    }
}

fn is_fast(class: Option<&str>) -> bool {
    class.is_some_and(|name| name.ends_with("Fast"))
}
