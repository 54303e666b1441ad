//! How models that are named by an address are imported.

use std::path::Path;

use patchlight_import::CheckOptions;
use patchlight_model::manifest::Precision;
use patchlight_sources::PrecisionChoice;

use super::errors::ConfigErrors;
use crate::{args::SourceArgs, images, sources::SourceSettings};

pub(super) fn read(args: &SourceArgs, errors: &mut ConfigErrors) -> Option<SourceSettings> {
    let precision = errors.take("--precision", args.precision.parse::<PrecisionChoice>());
    if precision == Some(PrecisionChoice::Fixed(Precision::Int8)) && args.check.is_none() {
        errors.add(
            "--precision",
            "int8 needs --check DIR, a folder of images like those that will be asked about",
        );
    }
    if args.min_agreement.is_some() && args.check.is_none() {
        errors.add(
            "--min-agreement",
            "it needs images to agree on: add --check DIR",
        );
    }
    let min_agreement = match &args.min_agreement {
        None => Some(None),
        Some(text) => errors.take("--min-agreement", share(text)).map(Some),
    };
    let images = match args.check.as_deref() {
        None => Some(None),
        Some(folder) => errors.take("--check", images_in(folder)).map(Some),
    };
    let (min_agreement, images) = (min_agreement?, images?);
    Some(SourceSettings {
        cache_dir: args.cache_dir.clone(),
        precision: precision?,
        check: images.map(|images| CheckOptions {
            images,
            min_agreement,
        }),
    })
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a share from 0 to 1, such as 0.99"))
}

fn images_in(folder: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let images = images::find(&[folder.to_owned()])?;
    match images.is_empty() {
        true => Err(format!("{}: there is no image in it", folder.display())),
        false => Ok(images),
    }
}
