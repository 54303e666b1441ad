//! Families that timm writes, by the class that an architecture's function makes.
//!
//! What a function passes to its class, and what of that a `config.json` overrides, decides what the
//! network is. `timm/architectures.json` has the former for every function, as timm itself calls
//! its classes (`tests/goldens/families/architectures.py` writes it).

mod arguments;
mod beit;
mod eva;
mod parts;
mod rotary;
mod vision_transformer;

use std::path::Path;

use patchlight_model::manifest::HeadFusion;
use serde_json::{Map, Value};

pub(super) use self::arguments::Arguments;
use super::{Description, Network};
use crate::{ImportError, tensor_file::TensorFile};

/// A family of timm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) description: Description,
    /// The class that its functions make.
    class: &'static str,
    /// Whether these arguments make a network of the family.
    takes: fn(&Arguments<'_>) -> bool,
    open: fn(&Arguments<'_>, &dyn TensorFile) -> Result<Network, ImportError>,
}

/// All of them.
pub(crate) const FAMILIES: [Family; 3] = [vision_transformer::FAMILY, eva::FAMILY, beit::FAMILY];

/// What a `config.json` of timm says, as far as a family needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described<'a> {
    pub(crate) path: &'a Path,
    /// The architecture's name, without the tag of the weights.
    pub(crate) architecture: &'a str,
    pub(crate) model_args: &'a Map<String, Value>,
    pub(crate) global_pool: Option<&'a str>,
    /// Height and width that `pretrained_cfg` tells.
    pub(crate) input_size: Option<[usize; 2]>,
    /// Heads from the command line.
    pub(crate) heads: Option<usize>,
    pub(crate) head_fusion: HeadFusion,
}

/// The network, if it is of one of the families; `None` if it is a plain Vision Transformer or none
/// that is known.
///
/// # Errors
/// If an argument or a tensor does not fit.
pub(crate) fn network(
    described: Described<'_>,
    file: &dyn TensorFile,
) -> Result<Option<Network>, ImportError> {
    let Some(arguments) = Arguments::of(described)? else {
        return Ok(None);
    };
    let fits = |family: &&Family| family.class == arguments.class() && (family.takes)(&arguments);
    match FAMILIES.iter().find(fits) {
        Some(family) => (family.open)(&arguments, file).map(Some),
        None => Ok(None),
    }
}
