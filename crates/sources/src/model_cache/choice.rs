//! How a source is imported.

use std::{fmt, path::Path, str::FromStr};

use patchlight_import::CheckOptions;
use patchlight_model::manifest::Precision;

/// How a source is imported; everything else is as the checkpoint says.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportChoice {
    /// The precision that was asked for.
    pub precision: PrecisionChoice,
    /// Whether a GPU will compute, for [`PrecisionChoice::Auto`].
    pub gpu: bool,
    /// Images on which lower precision is compared with float32.
    pub check: Option<CheckOptions>,
}

/// A precision that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PrecisionChoice {
    /// Float16 on a GPU; on a CPU int8 where there are images to check it on, else float32.
    Auto,
    /// This one.
    Fixed(Precision),
}

impl ImportChoice {
    /// What the choice comes to.
    pub fn precision(&self) -> Precision {
        match self.precision {
            PrecisionChoice::Fixed(precision) => precision,
            PrecisionChoice::Auto if self.gpu => Precision::Fp16,
            PrecisionChoice::Auto if self.check.is_some() => Precision::Int8,
            PrecisionChoice::Auto => Precision::Fp32,
        }
    }

    /// The same for a file of weights: an exported graph stays in its own precision.
    pub(super) fn precision_of(&self, weights: &Path) -> Precision {
        match self.precision {
            PrecisionChoice::Auto if is_exported(weights) => Precision::Fp32,
            _ => self.precision(),
        }
    }

    /// What to compare on; nothing where the precision stays as it is.
    pub(super) fn check_of(&self, weights: &Path) -> Option<CheckOptions> {
        let lower = self.precision_of(weights) != Precision::Fp32;
        self.check.clone().filter(|_| lower)
    }
}

fn is_exported(weights: &Path) -> bool {
    let extension = weights.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

impl FromStr for PrecisionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let known = [
            Precision::Fp32,
            Precision::Bf16,
            Precision::Fp16,
            Precision::Int8,
        ];
        let found = known.into_iter().find(|known| known.to_string() == text);
        found.map(Self::Fixed).ok_or_else(|| {
            let known = known.map(|known| known.to_string()).join(", ");
            format!("`{text}` is not one of auto, {known}")
        })
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(precision) => write!(f, "{precision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(gpu: bool, with_images: bool) -> ImportChoice {
        ImportChoice {
            precision: PrecisionChoice::Auto,
            gpu,
            check: with_images.then(|| CheckOptions {
                images: vec!["a.jpg".into()],
                min_agreement: None,
            }),
        }
    }

    #[test]
    fn int8_is_never_taken_blindly_nor_on_a_gpu() {
        assert_eq!(choice(false, false).precision(), Precision::Fp32);
        assert_eq!(choice(false, true).precision(), Precision::Int8);
        assert_eq!(choice(true, false).precision(), Precision::Fp16);
        assert_eq!(choice(true, true).precision(), Precision::Fp16);
    }

    #[test]
    fn an_exported_graph_keeps_its_precision_unless_another_is_asked_for() {
        let graph = Path::new("model.ONNX");
        assert_eq!(choice(true, false).precision_of(graph), Precision::Fp32);
        let fixed = ImportChoice {
            precision: PrecisionChoice::Fixed(Precision::Fp16),
            ..choice(false, false)
        };
        assert_eq!(fixed.precision_of(graph), Precision::Fp16);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["auto", "fp32", "bf16", "fp16", "int8"] {
            assert_eq!(text.parse::<PrecisionChoice>().unwrap().to_string(), text);
        }
        assert!("fp8".parse::<PrecisionChoice>().is_err());
    }
}
