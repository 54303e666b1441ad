//! What is printed and written, in the order of the images.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Labelled, table::Table};
use crate::{
    classify::Classification,
    explain::{self, Style},
    store::FoundMap,
};

type Answer = Result<Labelled, String>;

/// Prints answers in the order of the images, holding back those that come early.
pub(super) struct Output {
    /// JSON lines, without.
    table: Option<Table>,
    overlays: Option<PathBuf>,
    next: usize,
    early: BTreeMap<usize, (PathBuf, Answer)>,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a Path,
    #[serde(flatten)]
    answer: Option<&'a Classification>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<PathBuf>,
}

impl Output {
    /// For these images.
    pub(super) fn new(
        images: &[PathBuf],
        json: bool,
        overlays: Option<PathBuf>,
    ) -> io::Result<Self> {
        if let Some(folder) = &overlays {
            fs::create_dir_all(folder)?;
        }
        Ok(Self {
            table: (!json).then(|| {
                let names: Vec<_> = images.iter().map(|path| path.to_string_lossy()).collect();
                Table::of(names.iter().map(AsRef::as_ref))
            }),
            overlays,
            next: 0,
            early: BTreeMap::new(),
        })
    }

    /// Takes the answer for the image of this number and prints what is due.
    pub(super) fn take(&mut self, number: usize, path: PathBuf, answer: Answer) -> io::Result<()> {
        self.early.insert(number, (path, answer));
        while let Some((path, answer)) = self.early.remove(&self.next) {
            self.print(&path, answer)?;
            self.next += 1;
        }
        Ok(())
    }

    fn print(&self, path: &Path, answer: Answer) -> io::Result<()> {
        let (answer, map) = match answer {
            Ok(Labelled { answer, map }) => (Ok(answer), map),
            Err(error) => (Err(error), None),
        };
        let overlay = match (&answer, &self.overlays) {
            (Ok(answer), Some(folder)) if answer.id.is_some() => Some(draw(path, map, folder)?),
            _ => None,
        };
        let mut out = io::stdout().lock();
        let Some(table) = self.table else {
            let (good, error) = match &answer {
                Ok(answer) => (Some(answer), None),
                Err(error) => (None, Some(error.as_str())),
            };
            serde_json::to_writer(
                &mut out,
                &Line {
                    file: path,
                    answer: good,
                    error,
                    overlay,
                },
            )?;
            return writeln!(out);
        };
        let name = path.to_string_lossy();
        let lines = match &answer {
            Ok(answer) => {
                let mut lines = table.labels(&name, &answer.predictions);
                if let (Some(_), Some(note)) = (&self.overlays, &answer.attention_note) {
                    lines += &table.note("", &format!("no overlay: {note}"));
                }
                lines
            }
            Err(error) => table.note(&name, error),
        };
        out.write_all(lines.as_bytes())
    }
}

/// Draws the map. Images of one name in several folders get numbers.
fn draw(path: &Path, found: Option<FoundMap>, folder: &Path) -> io::Result<PathBuf> {
    let found = found.ok_or_else(|| io::Error::other("the map is gone"))?;
    let map = found.map.patches(0).map_err(io::Error::other)?;
    let image = found
        .preview
        .map(|jpeg| explain::decode_preview(&jpeg))
        .transpose()
        .map_err(io::Error::other)?;
    let drawn = explain::render(
        &map,
        explain::Scale::share(&map),
        &found.map.placement,
        image.as_ref().map(explain::Raster::view),
        &Style::default(),
    );
    let png = explain::png(drawn.view()).map_err(io::Error::other)?;
    let target = free_name(folder, path);
    fs::write(&target, png)?;
    Ok(target)
}

fn free_name(folder: &Path, image: &Path) -> PathBuf {
    let stem = image
        .file_stem()
        .map_or_else(|| "picture".into(), |stem| stem.to_string_lossy());
    let plain = folder.join(format!("{stem}.png"));
    if !plain.exists() {
        return plain;
    }
    // Far fewer files than numbers.
    (2_u64..)
        .map(|n| folder.join(format!("{stem}-{n}.png")))
        .find(|path| !path.exists())
        .unwrap_or(plain)
}
