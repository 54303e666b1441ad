//! What an import made, in a few lines.

use std::{fmt, path::PathBuf};

use patchlight_imaging::preprocess::{Backend, Crop, Filter, Preprocess, Resize};
use patchlight_model::manifest::{Manifest, Precision, PrecisionCheck, Tokens};
use patchlight_onnx::vit::LinearLayer;

use super::{Stripped, error::quoted};

/// What an import made. Its `Display` is a few lines for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The model directory.
    pub out: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether the classes have names, and not just numbers.
    pub named: bool,
    /// What was left out of the names of the checkpoint's tensors, if anything was.
    pub stripped: Option<Stripped>,
    /// What eight bits change in each layer by itself, as a share of what it gives; largest first.
    /// Empty where that was not measured.
    pub errors: Vec<(LinearLayer, f32)>,
}

impl Summary {
    pub(super) fn new(out: PathBuf, manifest: Manifest, named: bool) -> Self {
        Self {
            out,
            manifest,
            named,
            stripped: None,
            errors: Vec::new(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest {
            architecture,
            task,
            tokens,
            preprocess,
            files,
            graph,
            provenance,
            ..
        } = &self.manifest;
        writeln!(
            f,
            "{}: {:.1} million parameters, {}{} classes",
            quoted(&architecture.name),
            architecture.parameters as f64 / 1e6,
            match *tokens == Tokens::UNKNOWN {
                true => String::new(),
                false => format!("{:.1} GFLOP an image, ", 2.0 * architecture.gmac),
            },
            task.classes
        )?;
        let [rows, columns] = tokens.grid;
        let plural = if tokens.prefix == 1 { "" } else { "s" };
        match &graph.without_map {
            Some(_) => writeln!(f, "labels only: the graph makes no map")?,
            None => writeln!(
                f,
                "{rows}×{columns} patches of {0}×{0} pixels after {1} prefix token{plural}",
                architecture.patch, tokens.prefix
            )?,
        }
        writeln!(f, "{}", PreprocessSummary(preprocess))?;
        if let Some(stripped) = &self.stripped {
            writeln!(f, "{}", LeftOut(stripped))?;
        }
        if !self.named {
            writeln!(
                f,
                "the source names no classes, so they are numbered; give names with --labels FILE"
            )?;
        }
        if let Some(caution) = &task.caution {
            writeln!(f, "{caution}")?;
        }
        if let Some(checked) = &provenance.check {
            writeln!(f, "{}", CheckSummary(checked, graph.precision))?;
            let middle = self.errors.get(self.errors.len() / 2);
            if let Some((_, middle)) = middle {
                let worst = self.errors.iter().take(5);
                let worst = worst.map(|(layer, error)| format!("{layer} {:.2} %", 100.0 * error));
                let worst: Vec<String> = worst.collect();
                writeln!(
                    f,
                    "error of each layer by itself: {}; half of them below {:.2} %",
                    worst.join(", "),
                    100.0 * middle
                )?;
            }
        }
        let digest = files.get(&graph.file).map_or("", String::as_str);
        write!(
            f,
            "{}: {} has SHA-256 {digest}",
            self.out.display(),
            graph.file
        )
    }
}

struct LeftOut<'a>(&'a Stripped);

impl fmt::Display for LeftOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(stripped) = self;
        write!(
            f,
            "`{}` before the tensors' names was left out",
            quoted(&stripped.prefix)
        )?;
        match &stripped.other {
            Some(other) => write!(
                f,
                "; {} without it are no part of the network, such as `{}`",
                stripped.others,
                quoted(other)
            ),
            None => Ok(()),
        }
    }
}

struct CheckSummary<'a>(&'a PrecisionCheck, Precision);

impl fmt::Display for CheckSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(checked, precision) = self;
        write!(
            f,
            "{precision} against fp32 on {} images: same best class for {:.2} %, scores within \
             {:.4}, shares of the map within {:.5}",
            checked.images,
            100.0 * checked.top1_agreement,
            checked.score_drift,
            checked.map_drift
        )?;
        match checked.float32_layers.as_slice() {
            [] => Ok(()),
            kept => write!(f, "; in float32 stay {}", kept.join(", ")),
        }
    }
}

struct PreprocessSummary<'a>(&'a Preprocess);

impl fmt::Display for PreprocessSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Preprocess {
            resize,
            filter,
            backend,
            crop,
            normalize,
        } = self.0;
        let filter = match filter {
            Filter::Nearest => "nearest",
            Filter::Box => "box",
            Filter::Hamming => "Hamming",
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos => "Lanczos",
        };
        let filter = match backend {
            Backend::Pillow => filter.to_owned(),
            Backend::Torchvision => format!("{filter}, as torchvision does"),
        };
        match resize {
            Resize::Squash { height, width } => {
                write!(f, "images resized to {height}×{width} ({filter})")?;
            }
            Resize::ShortestEdge { size } => {
                write!(f, "images resized to a shorter side of {size} ({filter})")?;
            }
            Resize::Cover { height, width } => {
                write!(f, "images resized to cover {height}×{width} ({filter})")?;
            }
            Resize::Contain { height, width } => {
                write!(f, "images resized to fit into {height}×{width} ({filter})")?;
            }
        }
        if let Some(Crop { height, width, .. }) = crop {
            write!(f, ", centre {height}×{width}")?;
        }
        write!(
            f,
            ", mean {:?}, deviation {:?}",
            normalize.mean, normalize.std
        )
    }
}
