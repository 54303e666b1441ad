//! Whose arithmetic resizes and normalises.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The library that a processor computes with. Both take the same weights from the same filters, and
/// round them differently: results differ by one level of 255 in some per cent of the values.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Pillow's `Image.resize`, then NumPy: timm, torchvision on pictures, and the processors of
    /// transformers up to version 4 ("slow").
    #[default]
    Pillow,
    /// `torch.nn.functional.interpolate` with antialiasing on uint8 tensors, then float32 with scale and
    /// normalisation in one: the processors of transformers from version 5 on, and before that those
    /// whose names end in `Fast`.
    Torchvision,
}

impl Backend {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// As flags and files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pillow => "pillow",
            Self::Torchvision => "torchvision",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Pillow, Self::Torchvision]
            .into_iter()
            .find(|backend| backend.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not one of pillow, torchvision"))
    }
}
