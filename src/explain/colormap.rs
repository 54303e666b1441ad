//! Colormaps: 256 colors from low to high.
//!
//! A new one is a variant of [`Colormap`] with its lines in [`Colormap::ALL`] and
//! [`Colormap::row`], and its name in `tests/goldens/colormaps/make.py`, which writes its table.
//! The query, the page and the OpenAPI document take it from here.

mod tables;

use utoipa::ToSchema;

/// A colormap. Viridis, magma and grey rise evenly in lightness; turbo is a rainbow without the
/// false edges of jet, and stays legible over photographs; coolwarm diverges from a neutral middle.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Colormap {
    /// Blue, green, yellow, red.
    Turbo,
    /// Violet to yellow.
    Viridis,
    /// Black over purple to cream.
    Magma,
    /// Black to white.
    Grey,
    /// Blue (against) over grey (neutral) to red (in favour).
    Coolwarm,
}

impl Colormap {
    /// All of them, as choices are listed.
    pub const ALL: [Self; 5] = [
        Self::Turbo,
        Self::Viridis,
        Self::Magma,
        Self::Grey,
        Self::Coolwarm,
    ];

    /// The sRGB color of step `index`: 0 is the lowest position, 255 the highest.
    pub fn step(self, index: u8) -> [u8; 3] {
        let [_, red, green, blue] = self.table()[usize::from(index)].to_be_bytes();
        [red, green, blue]
    }

    /// The sRGB color of a position 0…1; positions beyond are those of the ends.
    pub fn color(self, position: f32) -> [u8; 3] {
        // `as` saturates, and takes NaN to 0.
        self.step((position * 255.0 + 0.5) as u8)
    }

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    fn table(self) -> &'static [u32; 256] {
        self.row().1
    }

    /// Name and colors.
    fn row(self) -> (&'static str, &'static [u32; 256]) {
        match self {
            Self::Turbo => ("turbo", &tables::TURBO),
            Self::Viridis => ("viridis", &tables::VIRIDIS),
            Self::Magma => ("magma", &tables::MAGMA),
            Self::Grey => ("grey", &tables::GREY),
            Self::Coolwarm => ("coolwarm", &tables::COOLWARM),
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn every_table_is_matplotlibs() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/goldens/colormaps/colormaps.json"))
                .unwrap();
        assert_eq!(golden.as_object().unwrap().len(), Colormap::ALL.len());
        for colormap in Colormap::ALL {
            let name = colormap.name();
            let bytes: Vec<u8> = (0..=255).flat_map(|index| colormap.step(index)).collect();
            let digest = hex::encode(Sha256::digest(&bytes));
            assert_eq!(golden[name]["sha256"], digest, "{name}");
            for (index, color) in golden[name]["samples"].as_object().unwrap() {
                let expected: [u8; 3] = serde_json::from_value(color.clone()).unwrap();
                assert_eq!(colormap.step(index.parse().unwrap()), expected, "{name}");
            }
        }
    }

    #[test]
    fn lightness_rises_in_the_sequential_maps() {
        for colormap in [Colormap::Viridis, Colormap::Magma, Colormap::Grey] {
            for index in 1..=255 {
                let step = lightness(colormap.step(index)) - lightness(colormap.step(index - 1));
                // Rounding to bytes may take back a little.
                assert!(step > -0.25, "{colormap:?} {index}: {step}");
            }
        }
    }

    #[test]
    fn the_diverging_map_is_lightest_in_the_middle_and_alike_at_its_ends() {
        let light = |index| lightness(Colormap::Coolwarm.step(index));
        assert!((0..127).all(|index| light(index) < light(index + 1) + 0.25));
        assert!((128..255).all(|index| light(index) + 0.25 > light(index + 1)));
        assert!((light(0) - light(255)).abs() < 6.0);
    }

    #[test]
    fn positions_beyond_the_ends_take_the_color_of_the_end() {
        assert_eq!(Colormap::Grey.color(-3.0), [0; 3]);
        assert_eq!(Colormap::Grey.color(3.0), [255; 3]);
        assert_eq!(Colormap::Grey.color(f32::NAN), [0; 3]);
    }

    /// CIE L*, 0…100, of an sRGB color (IEC 61966-2-1, D65).
    fn lightness(color: [u8; 3]) -> f64 {
        let linear = color.map(|byte| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        });
        let luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        if luminance > 216.0 / 24389.0 {
            116.0 * luminance.cbrt() - 16.0
        } else {
            luminance * 24389.0 / 27.0
        }
    }
}
