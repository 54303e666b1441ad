use proptest::prelude::*;

use super::*;

fn crop(height: u32, width: u32, rounding: CropRounding) -> Crop {
    Crop {
        height,
        width,
        rounding,
        fill: [0; 3],
    }
}

fn seen(resize: &Resize, crop: Option<&Crop>, width: u32, height: u32) -> (ExactRegion, Region) {
    let (horizontal, vertical) = sides(resize, crop, width, height);
    let exact = region(&horizontal, &vertical);
    (exact, exact.within(width, height))
}

#[test]
fn squashing_shows_the_whole_image() {
    let resize = Resize::Squash {
        height: 224,
        width: 224,
    };
    let (_, region) = seen(&resize, None, 640, 427);
    assert_eq!(
        region,
        Region {
            x: 0,
            y: 0,
            width: 640,
            height: 427
        }
    );
}

#[test]
fn a_crop_shows_the_middle() {
    let crop = crop(224, 224, CropRounding::HalfEven);
    let (exact, region) = seen(&Resize::ShortestEdge { size: 256 }, Some(&crop), 512, 1024);
    assert_eq!(
        region,
        Region {
            x: 32,
            y: 288,
            width: 448,
            height: 448
        }
    );
    assert_eq!(exact.x, 32.0);
}

#[test]
fn a_crop_larger_than_the_image_reaches_beyond_it() {
    let crop = crop(30, 30, CropRounding::HalfEven);
    let (exact, region) = seen(&Resize::ShortestEdge { size: 20 }, Some(&crop), 40, 40);
    assert_eq!((exact.x, exact.width), (-10.0, 60.0));
    assert_eq!(
        region,
        Region {
            x: 0,
            y: 0,
            width: 40,
            height: 40
        }
    );
}

#[test]
fn odd_margins_are_rounded_as_python_does() {
    // round(0.5) = 0, round(1.5) = 2, round(2.5) = 2, round(3.5) = 4
    let starts = [1, 3, 5, 7].map(|margin| margin_cut(margin, CropRounding::HalfEven));
    assert_eq!(starts, [0, 2, 2, 4]);
    let starts = [1, 3, 5, 7].map(|margin| margin_cut(margin, CropRounding::Floor));
    assert_eq!(starts, [0, 1, 2, 3]);
}

proptest! {
    #[test]
    fn the_region_lies_inside_the_image(
        width in 1u32..20_000,
        height in 1u32..20_000,
        size in 1u32..600,
        crop_width in 1u32..700,
        crop_height in 1u32..700,
        floor: bool,
    ) {
        let rounding = if floor { CropRounding::Floor } else { CropRounding::HalfEven };
        let crop = crop(crop_height, crop_width, rounding);
        let (_, region) = seen(&Resize::ShortestEdge { size }, Some(&crop), width, height);
        prop_assert!(region.width > 0 && region.height > 0);
        prop_assert!(region.x + region.width <= width);
        prop_assert!(region.y + region.height <= height);
    }

    #[test]
    fn the_kept_pixels_lie_inside_both_images(
        width in 1u32..20_000,
        height in 1u32..20_000,
        size in 1u32..600,
        side in 1u32..700,
        floor: bool,
    ) {
        let rounding = if floor { CropRounding::Floor } else { CropRounding::HalfEven };
        let crop = crop(side, side, rounding);
        let resize = Resize::ShortestEdge { size };
        let (horizontal, vertical) = sides(&resize, Some(&crop), width, height);
        for one in [horizontal, vertical] {
            prop_assert!(one.first + one.kept <= one.resized);
            prop_assert!(one.offset + one.kept <= one.input);
            prop_assert!(one.kept == one.resized || one.kept == one.input);
        }
    }
}

/// `ResizeKeepRatio((16, 24))` of timm: the side with the smaller ratio decides, or with `longest=1`
/// the other, and both are rounded with halves to even.
#[test]
fn ratios_are_kept_so_that_the_target_is_covered_or_not_left() {
    let cover = Resize::Cover {
        height: 16,
        width: 24,
    };
    let contain = Resize::Contain {
        height: 16,
        width: 24,
    };
    let resized = |resize: &Resize, width, height| {
        let (horizontal, vertical) = sides(resize, None, width, height);
        [horizontal.resized, vertical.resized]
    };
    assert_eq!(resized(&cover, 100, 50), [32, 16]);
    assert_eq!(resized(&contain, 100, 50), [24, 12]);
    assert_eq!(resized(&cover, 48, 57), [24, 28]); // 28.5
    assert_eq!(resized(&contain, 48, 96), [8, 16]);
}
