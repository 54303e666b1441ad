//! What a drawn map must satisfy, checked pixel by pixel.

use super::*;
use crate::explain::{Alpha, Colormap, Grid, Rect, Smooth};

const GRID: Grid = Grid { rows: 14, cols: 14 };

/// A different weight for every patch.
fn ramp(grid: Grid) -> PatchMap {
    let values = (0..grid.patches()).map(|patch| patch as f32 / 10.0);
    PatchMap::new(grid, values.collect()).unwrap()
}

fn placement(image: (u32, u32), x: f64, y: f64, width: f64, height: f64) -> Placement {
    let region = Rect {
        x,
        y,
        width,
        height,
    };
    Placement::new(image, region).unwrap()
}

fn whole(image: (u32, u32)) -> Placement {
    placement(image, 0.0, 0.0, image.0.into(), image.1.into())
}

fn photo(width: u32, height: u32) -> Raster {
    let pixels = (0..width * height * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    Raster::new(width, height, pixels.collect()).unwrap()
}

fn heatmap(smooth: Smooth) -> Style {
    Style {
        view: View::Heatmap,
        colormap: Some(Colormap::Viridis),
        smooth,
        ..Style::default()
    }
}

fn overlay(alpha: f32) -> Style {
    Style {
        colormap: Some(Colormap::Viridis),
        alpha: Alpha::new(alpha).unwrap(),
        ..Style::default()
    }
}

fn pixel(raster: &Raster, x: u32, y: u32) -> [u8; 3] {
    let at = (y * raster.size().0 + x) as usize * 3;
    raster.pixels()[at..at + 3].try_into().unwrap()
}

/// Every pixel whose centre lies in a patch has the patch's color; every other is grey.
fn assert_exact_patches(image: (u32, u32), placement: &Placement) {
    let map = ramp(GRID);
    let scale = Scale::share(&map);
    let drawn = render(&map, scale, placement, None, &heatmap(Smooth::None));
    assert_eq!(drawn.size(), image);
    for y in 0..image.1 {
        for x in 0..image.0 {
            let (cx, cy) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
            let patch = (0..GRID.patches()).find(|patch| {
                let rect = placement.patch(GRID, patch / GRID.cols, patch % GRID.cols);
                (rect.x..rect.x + rect.width).contains(&cx)
                    && (rect.y..rect.y + rect.height).contains(&cy)
            });
            let found = pixel(&drawn, x, y);
            match patch {
                Some(patch) => {
                    let position = scale.position(map.values()[patch]);
                    assert_eq!(found, Colormap::Viridis.color(position), "{x}, {y}");
                }
                None => assert!(found[0] == found[1] && found[1] == found[2], "{x}, {y}"),
            }
        }
    }
}

#[test]
fn patches_of_a_squashed_image_are_exact() {
    assert_exact_patches((140, 84), &whole((140, 84)));
}

#[test]
fn patches_of_a_centre_crop_are_exact_in_landscape_and_portrait() {
    assert_exact_patches((160, 90), &placement((160, 90), 38.5, 3.5, 83.0, 83.0));
    assert_exact_patches((90, 160), &placement((90, 160), 3.5, 38.5, 83.0, 83.0));
}

#[test]
fn patches_of_an_upscaled_image_smaller_than_the_grid_are_exact() {
    assert_exact_patches((10, 6), &whole((10, 6)));
}

#[test]
fn a_region_beyond_the_image_is_cut_at_its_edge() {
    assert_exact_patches((40, 20), &placement((40, 20), 0.0, -10.0, 40.0, 40.0));
}

#[test]
fn an_oblong_grid_is_drawn_as_it_is() {
    let grid = Grid { rows: 2, cols: 3 };
    let map = ramp(grid);
    let scale = Scale::share(&map);
    let drawn = render(&map, scale, &whole((6, 2)), None, &heatmap(Smooth::None));
    for patch in 0..grid.patches() {
        let (row, col) = ((patch / 3) as u32, (patch % 3) as u32);
        let color = Colormap::Viridis.color(scale.position(map.values()[patch]));
        assert_eq!(pixel(&drawn, 2 * col, row), color);
        assert_eq!(pixel(&drawn, 2 * col + 1, row), color);
    }
}

#[test]
fn bilinear_keeps_patch_centres_and_is_constant_beyond_the_outermost() {
    let map = ramp(GRID);
    let scale = Scale::share(&map);
    // Patches of 5 × 5 pixels have a pixel at their centre.
    let drawn = render(
        &map,
        scale,
        &whole((70, 70)),
        None,
        &heatmap(Smooth::Bilinear),
    );
    for (patch, &value) in map.values().iter().enumerate() {
        let (row, col) = ((patch / 14) as u32, (patch % 14) as u32);
        let color = Colormap::Viridis.color(scale.position(value));
        assert_eq!(pixel(&drawn, col * 5 + 2, row * 5 + 2), color);
    }
    assert_eq!(pixel(&drawn, 0, 0), pixel(&drawn, 2, 2));
    assert_eq!(pixel(&drawn, 69, 69), pixel(&drawn, 67, 67));
}

#[test]
fn alpha_zero_is_the_image_and_one_the_colors() {
    let map = ramp(GRID);
    let scale = Scale::share(&map);
    let photo = photo(64, 48);
    let placement = whole((640, 480));
    let draw = |style: Style| render(&map, scale, &placement, Some(photo.view()), &style);
    assert_eq!(draw(overlay(0.0)), photo);
    assert_eq!(draw(overlay(1.0)), draw(heatmap(Smooth::Bilinear)));
}

#[test]
fn alpha_zero_still_shows_what_was_not_seen() {
    let map = ramp(GRID);
    let photo = photo(60, 40);
    let placement = placement((600, 400), 100.0, 0.0, 400.0, 400.0);
    let drawn = render(
        &map,
        Scale::share(&map),
        &placement,
        Some(photo.view()),
        &overlay(0.0),
    );
    for y in 0..40 {
        for x in 0..60 {
            let seen = (10..50).contains(&x);
            let [red, green, blue] = pixel(&drawn, x, y);
            if seen {
                assert_eq!([red, green, blue], pixel(&photo, x, y));
            } else {
                assert!(red == green && green == blue && red < 140, "{x}, {y}");
            }
        }
    }
}

#[test]
fn the_preview_decides_the_size_and_without_it_the_bounded_original() {
    let map = ramp(GRID);
    let scale = Scale::share(&map);
    let placement = whole((4000, 3000));
    let photo = photo(64, 48);
    for view in [View::Overlay, View::Heatmap, View::Contour] {
        let style = Style {
            view,
            ..Style::default()
        };
        let with = render(&map, scale, &placement, Some(photo.view()), &style);
        assert_eq!(with.size(), (64, 48));
        let without = render(&map, scale, &placement, None, &style);
        assert_eq!(without.size(), (1024, 768));
    }
}

#[test]
fn an_overlay_without_an_image_is_the_heat_map() {
    let map = ramp(GRID);
    let scale = Scale::share(&map);
    let placement = placement((100, 60), 20.0, 0.0, 60.0, 60.0);
    assert_eq!(
        render(&map, scale, &placement, None, &overlay(0.3)),
        render(&map, scale, &placement, None, &heatmap(Smooth::Bilinear))
    );
}

#[test]
fn a_uniform_map_has_one_color_and_no_contours() {
    let map = PatchMap::new(GRID, vec![0.004; 196]).unwrap();
    let scale = Scale::share(&map);
    let photo = photo(80, 60);
    let draw = |view| {
        let style = Style {
            view,
            ..Style::default()
        };
        render(&map, scale, &whole((80, 60)), Some(photo.view()), &style)
    };
    let color = Colormap::Turbo.color(1.0 / 3.0);
    assert_eq!(draw(View::Heatmap), Raster::filled((80, 60), color));
    assert_eq!(draw(View::Contour), photo);
}

#[test]
fn neutral_attribution_leaves_the_colormaps_middle() {
    let map = PatchMap::new(GRID, vec![0.0; 196]).unwrap();
    let style = Style {
        view: View::Heatmap,
        ..Style::default()
    };
    let drawn = render(&map, Scale::signed(&map), &whole((4, 4)), None, &style);
    assert_eq!(drawn, Raster::filled((4, 4), Colormap::Coolwarm.color(0.5)));
}

/// The middle patch of a 3 × 3 grid holds 2.7 fair shares, the others 0.8: one contour, at 1.5.
fn spot() -> PatchMap {
    let mut values = vec![0.1; 9];
    values[4] = 0.35;
    PatchMap::new(Grid { rows: 3, cols: 3 }, values).unwrap()
}

/// Pixels that a contour drawing on a plain ground changed.
fn drawn_pixels(smooth: Smooth) -> Vec<(u32, u32)> {
    let map = spot();
    let background = Raster::filled((90, 90), [128; 3]);
    let style = Style {
        view: View::Contour,
        smooth,
        ..Style::default()
    };
    let drawn = render(
        &map,
        Scale::share(&map),
        &whole((90, 90)),
        Some(background.view()),
        &style,
    );
    (0..90 * 90)
        .map(|at| (at % 90, at / 90))
        .filter(|&(x, y)| pixel(&drawn, x, y) != [128; 3])
        .collect()
}

#[test]
fn contours_of_a_spot_surround_its_centre() {
    let pixels = drawn_pixels(Smooth::Bilinear);
    assert!(!pixels.contains(&(45, 45)));
    // Between the centre and its neighbours' centres, 30 pixels away.
    assert!(
        pixels
            .iter()
            .all(|&(x, y)| (15..75).contains(&x) && (15..75).contains(&y))
    );
    for towards in [(44, 0..45), (44, 45..90)] {
        assert!(
            pixels
                .iter()
                .any(|&(x, y)| x == towards.0 && towards.1.contains(&y))
        );
        assert!(
            pixels
                .iter()
                .any(|&(x, y)| y == towards.0 && towards.1.contains(&x))
        );
    }
}

#[test]
fn raw_contours_follow_the_patchs_border() {
    let pixels = drawn_pixels(Smooth::None);
    assert!(pixels.contains(&(30, 45)) && pixels.contains(&(59, 45)));
    let from_border = |at: u32| (f64::from(at) + 0.5 - 45.0).abs() - 15.0;
    for (x, y) in pixels {
        let distance = from_border(x).max(from_border(y));
        assert!(distance.abs() < 4.0, "{x}, {y}");
    }
}

#[test]
fn drawing_twice_gives_the_same_pixels() {
    let map = ramp(GRID);
    let photo = photo(50, 70);
    for view in [View::Overlay, View::Heatmap, View::Contour] {
        let style = Style {
            view,
            ..Style::default()
        };
        let draw = || {
            let placement = whole((500, 700));
            let scale = Scale::share(&map);
            render(&map, scale, &placement, Some(photo.view()), &style)
        };
        assert_eq!(draw(), draw());
    }
}
