//! What is printed and written, in the order of the images.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    Labelled,
    line::{EvidenceColumn, Line, MapColumn},
    parts::Parts,
    table::Table,
};
use crate::{
    explain::{self, Style},
    store::FoundMap,
};

type Answer = Result<Labelled, String>;

/// What a line of JSON has besides labels.
pub(super) struct Columns {
    /// The model's digest, where lines have it.
    pub(super) model_digest: Option<String>,
    /// The rollout.
    pub(super) maps: bool,
    /// What speaks for the best label.
    pub(super) evidence: bool,
}

/// Where answers go.
enum Form {
    /// Lines for people.
    Table(Table),
    /// JSON lines on standard output.
    Json,
    /// JSON lines in files.
    Parts(Parts),
}

/// Prints or writes answers.
pub(super) struct Output {
    form: Form,
    columns: Columns,
    overlays: Option<PathBuf>,
}

impl Output {
    /// `names` are those of a table's rows, as far as they are known.
    pub(super) fn new(
        names: &[String],
        json: bool,
        columns: Columns,
        overlays: Option<PathBuf>,
        parts: Option<Parts>,
    ) -> io::Result<Self> {
        if let Some(folder) = &overlays {
            fs::create_dir_all(folder)?;
        }
        Ok(Self {
            form: match parts {
                Some(parts) => Form::Parts(parts),
                None if json => Form::Json,
                None => Form::Table(Table::of(names.iter().map(String::as_str))),
            },
            columns,
            overlays,
        })
    }

    /// Takes the next image's answer.
    pub(super) fn take(&mut self, path: &Path, answer: Answer) -> io::Result<()> {
        let (answer, map) = match answer {
            Ok(Labelled { answer, map }) => (Ok(answer), map),
            Err(error) => (Err(error), None),
        };
        let overlay = match (&answer, &self.overlays) {
            (Ok(answer), Some(folder)) if answer.id.is_some() => {
                Some(draw(path, map.as_ref(), folder)?)
            }
            _ => None,
        };
        if let Form::Table(table) = self.form {
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
            return io::stdout().lock().write_all(lines.as_bytes());
        }
        let best = answer
            .as_ref()
            .ok()
            .and_then(|answer| answer.predictions.first());
        let columns = &self.columns;
        let mut line = serde_json::to_vec(&Line {
            file: path,
            model_digest: columns.model_digest.as_deref(),
            answer: answer.as_ref().ok(),
            error: answer.as_ref().err().map(String::as_str),
            overlay,
            map: map
                .as_ref()
                .filter(|_| columns.maps)
                .and_then(MapColumn::of),
            evidence: map
                .as_ref()
                .filter(|_| columns.evidence)
                .zip(best)
                .and_then(|(map, best)| EvidenceColumn::of(map, best.class_id)),
        })?;
        line.push(b'\n');
        match &mut self.form {
            Form::Parts(parts) => parts.add(&line),
            Form::Table(_) | Form::Json => io::stdout().lock().write_all(&line),
        }
    }

    /// Completes what was written.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.form {
            Form::Parts(parts) => parts.finish(),
            Form::Table(_) | Form::Json => Ok(()),
        }
    }
}

/// Draws the map. Images of one name in several folders get numbers.
fn draw(path: &Path, found: Option<&FoundMap>, folder: &Path) -> io::Result<PathBuf> {
    let found = found.ok_or_else(|| io::Error::other("the map is gone"))?;
    let map = found.map.patches(0).map_err(io::Error::other)?;
    let image = found
        .preview
        .as_ref()
        .map(|jpeg| explain::decode_preview(jpeg))
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
