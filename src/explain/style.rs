//! How a map is to be drawn: the query parameters of `GET /attention/{id}`.

use std::str::FromStr;

use utoipa::ToSchema;

use super::Colormap;
use crate::{Error, Result, escape::Excerpt};

/// What the picture shows.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, ToSchema)]
#[schema(rename_all = "lowercase", default = "overlay")]
pub enum View {
    /// The map's colours over the picture.
    #[default]
    Overlay,
    /// The map's colours alone.
    Heatmap,
    /// Lines of equal weight over the picture.
    Contour,
}

/// What is drawn between patch centres.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, ToSchema)]
#[schema(rename_all = "lowercase", default = "bilinear")]
pub enum Smooth {
    /// Every patch a rectangle of one colour: the numbers themselves.
    None,
    /// Bilinear interpolation between patch centres, constant beyond the outermost.
    #[default]
    Bilinear,
}

/// How much of the map an overlay shows: 0 is the picture alone, 1 the colours alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alpha(f32);

/// How a map is to be drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Style {
    /// What the picture shows.
    pub view: View,
    /// None takes the one that fits the map's scale: turbo for shares, coolwarm for signed
    /// evidence.
    pub colormap: Option<Colormap>,
    /// Used by [`View::Overlay`] alone.
    pub alpha: Alpha,
    /// What is drawn between patch centres.
    pub smooth: Smooth,
}

impl Alpha {
    /// # Errors
    ///
    /// When `value` is not within 0…1.
    pub fn new(value: f32) -> Result<Self> {
        if (0.0..=1.0).contains(&value) {
            return Ok(Self(value));
        }
        Err(alpha_error(&value.to_string()))
    }

    /// Within 0…1.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Default for Alpha {
    /// One half.
    fn default() -> Self {
        Self(0.5)
    }
}

impl FromStr for Alpha {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let value = text.parse().map_err(|_| alpha_error(text))?;
        Self::new(value)
    }
}

impl View {
    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Heatmap => "heatmap",
            Self::Contour => "contour",
        }
    }
}

impl FromStr for View {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        choose(
            "view",
            text,
            &[
                ("overlay", Self::Overlay),
                ("heatmap", Self::Heatmap),
                ("contour", Self::Contour),
            ],
        )
    }
}

impl FromStr for Smooth {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        choose(
            "smooth",
            text,
            &[("none", Self::None), ("bilinear", Self::Bilinear)],
        )
    }
}

impl FromStr for Colormap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        choose(
            "colormap",
            text,
            &[
                ("turbo", Self::Turbo),
                ("viridis", Self::Viridis),
                ("magma", Self::Magma),
                ("grey", Self::Grey),
                ("coolwarm", Self::Coolwarm),
            ],
        )
    }
}

fn alpha_error(text: &str) -> Error {
    Error::InvalidParameter {
        name: "alpha",
        detail: format_args!(
            "`{}` is not a number from 0 (the picture) to 1 (the map)",
            Excerpt(text)
        )
        .into(),
    }
}

fn choose<T: Copy>(name: &'static str, text: &str, choices: &[(&str, T)]) -> Result<T> {
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    Err(Error::InvalidParameter {
        name,
        detail: format_args!("`{}` is not one of {}", Excerpt(text), words.join(", ")).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_value_is_read() {
        assert_eq!("contour".parse(), Ok(View::Contour));
        assert_eq!("none".parse(), Ok(Smooth::None));
        assert_eq!("grey".parse(), Ok(Colormap::Grey));
        assert_eq!("0.25".parse::<Alpha>().map(Alpha::get), Ok(0.25));
    }

    #[test]
    fn a_wrong_value_names_the_parameter_and_what_is_allowed() {
        assert_eq!(
            "jet".parse::<Colormap>().unwrap_err().to_string(),
            "parameter `colormap`: `jet` is not one of turbo, viridis, magma, grey, coolwarm"
        );
        assert_eq!(
            "Overlay".parse::<View>().unwrap_err().to_string(),
            "parameter `view`: `Overlay` is not one of overlay, heatmap, contour"
        );
    }

    #[test]
    fn alpha_beyond_its_range_or_not_a_number_is_refused() {
        for text in ["-0.1", "1.0001", "NaN", "inf", "", "half"] {
            let error = text.parse::<Alpha>().unwrap_err();
            assert_eq!(error.code(), "invalid_parameter", "{text}");
        }
        assert!("0".parse::<Alpha>().is_ok());
        assert!("1".parse::<Alpha>().is_ok());
    }
}
