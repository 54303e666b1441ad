//! The classes of processors, and what each does where its file is silent.

use patchlight_imaging::preprocess::{Filter, Resize};

/// A class, without what tells its generation (`Fast`, `Pil`, `FeatureExtractor`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    Vit,
    Deit,
    Beit,
    Siglip,
    Clip,
    Bit,
    /// Resizing and cropping are one step.
    ConvNext,
    MobileNet,
    MobileVit,
    EfficientNet,
    Levit,
    PoolFormer,
}

/// The values of a class's own fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Defaults {
    pub(super) resize: Resize,
    pub(super) filter: Filter,
    /// Whether the middle is cut out.
    pub(super) crops: bool,
    /// Side of what is cut out.
    pub(super) crop: Option<u32>,
    pub(super) normalizes: bool,
    pub(super) mean: [f64; 3],
    pub(super) std: [f64; 3],
}

const HALF: [[f64; 3]; 2] = [[0.5; 3], [0.5; 3]];
const IMAGENET: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
const OPENAI: [[f64; 3]; 2] = [
    [0.481_454_66, 0.457_827_5, 0.408_210_73],
    [0.268_629_54, 0.261_302_58, 0.275_777_11],
];

impl Class {
    /// For messages.
    pub(super) const NAMES: &str = "ViT, DeiT, Beit, Siglip, CLIP, Bit, ConvNext, MobileNetV1, MobileNetV2, \
                                    MobileViT, EfficientNet, Levit and PoolFormer";

    /// The class of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        let ends = [
            "ImageProcessorFast",
            "ImageProcessorPil",
            "ImageProcessor",
            "FeatureExtractor",
        ];
        let stem = ends.into_iter().find_map(|end| name.strip_suffix(end))?;
        Some(match stem {
            "ViT" => Self::Vit,
            "DeiT" => Self::Deit,
            "Beit" => Self::Beit,
            "Siglip" => Self::Siglip,
            "CLIP" => Self::Clip,
            "Bit" => Self::Bit,
            "ConvNext" => Self::ConvNext,
            "MobileNetV1" | "MobileNetV2" => Self::MobileNet,
            "MobileViT" => Self::MobileVit,
            "EfficientNet" => Self::EfficientNet,
            "Levit" => Self::Levit,
            "PoolFormer" => Self::PoolFormer,
            _ => return None,
        })
    }

    /// Whether a size that is a number is the shorter side, not that of a square.
    pub(super) fn number_is_shorter_side(self) -> bool {
        match self {
            Self::Vit | Self::Deit | Self::Beit | Self::Siglip | Self::EfficientNet => false,
            Self::Clip
            | Self::Bit
            | Self::ConvNext
            | Self::MobileNet
            | Self::MobileVit
            | Self::Levit
            | Self::PoolFormer => true,
        }
    }

    /// What version 5 has, or what those before it had.
    pub(super) fn defaults(self, version_5: bool) -> Defaults {
        let squash = |side| Resize::Squash {
            height: side,
            width: side,
        };
        let shortest = |size| Resize::ShortestEdge { size };
        let (resize, filter, crop, crops, [mean, std]) = match self {
            Self::Vit => (squash(224), Filter::Bilinear, None, false, HALF),
            Self::Deit => (squash(256), Filter::Bicubic, Some(224), true, HALF),
            Self::Beit if version_5 => (squash(224), Filter::Bicubic, Some(224), false, HALF),
            Self::Beit => (squash(256), Filter::Bicubic, Some(224), true, HALF),
            Self::Siglip => (squash(224), Filter::Bicubic, None, false, HALF),
            Self::Clip | Self::Bit => (shortest(224), Filter::Bicubic, Some(224), true, OPENAI),
            Self::ConvNext => (shortest(384), Filter::Bicubic, None, false, HALF),
            Self::MobileNet => (shortest(256), Filter::Bilinear, Some(224), true, HALF),
            Self::MobileVit if version_5 => (shortest(224), Filter::Bicubic, Some(256), true, HALF),
            Self::MobileVit => (shortest(224), Filter::Bilinear, Some(256), true, HALF),
            Self::EfficientNet if version_5 => {
                (squash(346), Filter::Bicubic, Some(289), false, HALF)
            }
            Self::EfficientNet => (squash(346), Filter::Nearest, Some(289), false, HALF),
            Self::Levit | Self::PoolFormer => {
                (shortest(224), Filter::Bicubic, Some(224), true, IMAGENET)
            }
        };
        Defaults {
            resize,
            filter,
            crops,
            crop,
            normalizes: self != Self::MobileVit,
            mean,
            std,
        }
    }
}
