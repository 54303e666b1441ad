use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Goldens {
    pictures: Vec<PictureCase>,
    verdicts: Vec<Verdict>,
}

#[derive(Deserialize)]
struct PictureCase {
    file: String,
    lossy: bool,
    width: u32,
    height: u32,
    expected: Option<String>,
}

#[derive(Deserialize)]
struct Verdict {
    file: String,
    accepted: bool,
}

fn read(bytes: &[u8]) -> Result<Picture> {
    decode(bytes, &peek(bytes, &Limits::default())?)
}

#[test]
fn pictures_of_every_kind_are_what_pillow_makes_of_them() {
    let goldens: Goldens = goldens::json("decode.json");
    let mut faults = BTreeMap::new();
    for case in &goldens.pictures {
        let bytes = goldens::bytes(&case.file);
        let header = match peek(&bytes, &Limits::default()) {
            Ok(header) => header,
            Err(error) => {
                faults.insert(&case.file, error.to_string());
                continue;
            }
        };
        assert_eq!(
            (header.width, header.height),
            (case.width, case.height),
            "{}",
            case.file
        );
        match decode(&bytes, &header) {
            Err(error) => {
                faults.insert(&case.file, error.to_string());
            }
            Ok(picture) => {
                assert_eq!(picture.rgb.width(), case.width, "{}", case.file);
                if let Some(fault) = case.expected.as_ref().and_then(|expected| {
                    difference(&picture.rgb, &goldens::pixels(expected), case.lossy)
                }) {
                    faults.insert(&case.file, fault);
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What is too different, if anything is.
fn difference(found: &Rgb8, expected: &Rgb8, lossy: bool) -> Option<String> {
    let mut histogram = [0usize; 256];
    for (a, b) in found.pixels().iter().zip(expected.pixels()) {
        histogram[usize::from(a.abs_diff(*b))] += 1;
    }
    let worst = histogram.iter().rposition(|&count| count > 0)?;
    let above = |level: usize| histogram[level + 1..].iter().sum::<usize>();
    let total = found.pixels().len();
    let fine = if lossy {
        worst <= 4 && above(2) * 1000 <= total
    } else {
        worst == 0
    };
    (!fine).then(|| {
        format!(
            "max {worst}, {} of {total} above 2, {} above 0",
            above(2),
            above(0)
        )
    })
}

#[test]
fn incomplete_files_are_refused_where_pillow_refuses_them() {
    let goldens: Goldens = goldens::json("decode.json");
    let wrong: Vec<_> = goldens
        .verdicts
        .iter()
        .filter_map(|verdict| {
            let answer = read(&goldens::bytes(&verdict.file));
            (answer.is_ok() != verdict.accepted).then(|| (&verdict.file, answer.err()))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
