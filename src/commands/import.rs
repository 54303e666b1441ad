//! `patchlight import`.

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::{USAGE, fail};
use crate::{
    args::ImportArgs,
    import::{self, ImportOptions, Source},
    model::manifest::{HeadFusion, Precision},
};

pub(super) fn run(args: ImportArgs) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(why) => return fail(USAGE, why),
    };
    let bar = ProgressBar::new(0)
        .with_style(style())
        .with_message("weights");
    let outcome = import::run(&options, &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    match outcome {
        Ok(summary) => {
            eprintln!("{summary}");
            ExitCode::SUCCESS
        }
        Err(why) => fail(1, why),
    }
}

fn options(args: ImportArgs) -> Result<ImportOptions, String> {
    let source = match (args.source, args.arch) {
        (Some(path), _) => Source::Checkpoint(path),
        (None, Some(name)) => Source::RandomWeights(name.parse()?),
        (None, None) => return Err("name a checkpoint, or --arch with --random-weights".to_owned()),
    };
    let Ok(preprocess) = args.preprocess.map(|text| text.parse()).transpose();
    Ok(ImportOptions {
        head_fusion: head_fusion(&args.head_fusion)?,
        labels: args.labels,
        heads: args.heads,
        preprocess,
        image_size: args.image_size,
        precision: precision(&args.precision)?,
        ..ImportOptions::new(source, args.out)
    })
}

fn head_fusion(text: &str) -> Result<HeadFusion, String> {
    match text {
        "mean" => Ok(HeadFusion::Mean),
        "max" => Ok(HeadFusion::Max),
        "min" => Ok(HeadFusion::Min),
        _ => Err(format!(
            "--head-fusion: `{text}` is not one of mean, max, min"
        )),
    }
}

fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "fp32" => Ok(Precision::Fp32),
        "fp16" => Ok(Precision::Fp16),
        "int8" => Ok(Precision::Int8),
        _ => Err(format!(
            "--precision: `{text}` is not one of fp32, fp16, int8"
        )),
    }
}

fn style() -> ProgressStyle {
    // The template is a constant; were it wrong, the default bar would do.
    ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
