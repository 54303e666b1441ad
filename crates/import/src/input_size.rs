//! What `--image-size` makes of a network and its preprocessing.

use patchlight_imaging::preprocess::{Crop, Preprocess, Resize};
use patchlight_onnx::vit::VitSpec;

use super::{ImportError, ImportOptions};

/// The network as stored, then preprocessing and network for the size that was asked for; the
/// stored size if none was.
///
/// # Errors
/// If the preprocessing does not make images of the network's size, or patches do not divide the
/// size asked for.
pub(super) fn at_size(
    options: &ImportOptions,
    stored: VitSpec,
    preprocess: Preprocess,
) -> Result<(VitSpec, Preprocess, VitSpec), ImportError> {
    let [height, width] = stored.image;
    let made = of(&preprocess)?;
    let sides = made.map(|side| side as usize);
    if sides != [height, width] {
        return match options.image_size {
            // Then what was described is for the size asked for.
            Some(side) if sides == [side, side] => {
                let spec = at(&stored, side)?;
                Ok((stored, preprocess, spec))
            }
            _ => Err(ImportError::Preprocess(format!(
                "it makes images of {}×{}, but the network takes {height}×{width}; describe \
                 another with --preprocess, or give the network another size with --image-size",
                made[0], made[1]
            ))),
        };
    }
    let Some(side) = options.image_size else {
        return Ok((stored.clone(), preprocess, stored));
    };
    let spec = at(&stored, side)?;
    Ok((stored, scaled(preprocess, side as u32), spec))
}

/// Height and width of what the preprocessing makes.
///
/// # Errors
/// If they differ from image to image.
pub(super) fn of(preprocess: &Preprocess) -> Result<[u32; 2], ImportError> {
    let (height, width) = preprocess.input_size().ok_or_else(|| {
        ImportError::Preprocess(
            "it resizes the shortest edge and has no crop, so images differ in size, and the \
             model needs one size"
                .to_owned(),
        )
    })?;
    Ok([height, width])
}

fn at(stored: &VitSpec, side: usize) -> Result<VitSpec, ImportError> {
    if side == 0 || !side.is_multiple_of(stored.patch) {
        return Err(ImportError::Preprocess(format!(
            "--image-size {side} is not a multiple of the patch size {}",
            stored.patch
        )));
    }
    Ok(VitSpec {
        image: [side, side],
        ..stored.clone()
    })
}

/// The same steps for another size: what was resized to more than the crop still is, in
/// proportion, rounded down as timm does.
fn scaled(preprocess: Preprocess, side: u32) -> Preprocess {
    let Preprocess { resize, crop, .. } = &preprocess;
    let in_proportion = |length: u32, of: u32| {
        let scaled = u64::from(length) * u64::from(side) / u64::from(of.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    let resize = match (resize, crop) {
        (&Resize::ShortestEdge { size }, Some(crop)) => Resize::ShortestEdge {
            size: in_proportion(size, crop.height.min(crop.width)),
        },
        (&Resize::Squash { height, width }, Some(crop)) => Resize::Squash {
            height: in_proportion(height, crop.height),
            width: in_proportion(width, crop.width),
        },
        (&Resize::Cover { height, width }, Some(crop)) => Resize::Cover {
            height: in_proportion(height, crop.height),
            width: in_proportion(width, crop.width),
        },
        (&Resize::Contain { height, width }, Some(crop)) => Resize::Contain {
            height: in_proportion(height, crop.height),
            width: in_proportion(width, crop.width),
        },
        (_, None) => Resize::Squash {
            height: side,
            width: side,
        },
    };
    let crop = crop.as_ref().map(|crop| Crop {
        height: side,
        width: side,
        rounding: crop.rounding,
        fill: crop.fill,
    });
    Preprocess {
        resize,
        crop,
        ..preprocess
    }
}
