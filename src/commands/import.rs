//! `patchlight import`.

use std::{
    io,
    process::{self, ExitCode},
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};
use patchlight_imaging::preprocess::Backend;
use patchlight_import::{self as import, CancelFlag, CheckOptions, ImportOptions, Source};
use patchlight_model::manifest::{HeadFusion, Precision};
use tokio::runtime;

use super::{USAGE, fail, images, manual::written};
use crate::{args::ImportArgs, server::Signals};

pub(super) fn run(args: ImportArgs) -> ExitCode {
    if args.list_families {
        let table = import::families_table();
        return written(io::Write::write_all(
            &mut io::stdout().lock(),
            table.as_bytes(),
        ));
    }
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return fail(USAGE, error),
    };
    end_on_signals(options.cancel.clone());
    let bar = ProgressBar::new(0).with_style(style());
    let outcome = import::run(&options, &mut |progress| {
        if bar.message() != progress.phase {
            bar.set_message(progress.phase);
        }
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    match outcome {
        Ok(summary) => {
            eprintln!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, error),
    }
}

/// The first signal ends the import, which clears up; a second one ends the process.
fn end_on_signals(cancel: CancelFlag) {
    thread::spawn(move || -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            signals.next().await;
            cancel.cancel();
            signals.next().await;
            process::exit(1)
        })
    });
}

fn options(args: ImportArgs) -> Result<ImportOptions, String> {
    let precision = precision(&args.precision)?;
    let check = check(&args, precision)?;
    let source = match (args.source, args.arch) {
        (Some(path), _) => Source::Checkpoint(path),
        (None, Some(name)) => Source::RandomWeights(name.parse()?),
        (None, None) => return Err("name a checkpoint, or --arch with --random-weights".to_owned()),
    };
    let out = args
        .out
        .ok_or("name the model directory to make with --out DIR")?;
    let Ok(preprocess) = args.preprocess.map(|text| text.parse()).transpose();
    let resize = args.resize.map(|text| text.parse::<Backend>()).transpose();
    Ok(ImportOptions {
        resize: resize.map_err(|error| format!("--resize: {error}"))?,
        head_fusion: head_fusion(&args.head_fusion)?,
        labels: args.labels,
        heads: args.heads,
        preprocess,
        image_size: args.image_size,
        without_map: args.without_map,
        precision,
        check,
        ..ImportOptions::new(source, out)
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

/// What to compare on. Eight bits are never taken blindly: how much a network suffers from them
/// shows on images only. Random weights have nothing to lose.
fn check(args: &ImportArgs, precision: Precision) -> Result<Option<CheckOptions>, String> {
    let Some(folder) = &args.check else {
        if args.min_agreement.is_some() {
            return Err("--min-agreement needs images to agree on: add --check DIR".to_owned());
        }
        if precision == Precision::Int8 && !args.random_weights {
            return Err(
                "--precision int8 needs --check DIR, a folder of images like those that \
                 will be asked about: how much a network suffers from eight bits differs from one \
                 to the next, and is measured on them before the model is written"
                    .to_owned(),
            );
        }
        return Ok(None);
    };
    if precision == Precision::Fp32 {
        return Err(
            "--check compares lower precision with float32: add --precision int8 or fp16"
                .to_owned(),
        );
    }
    if let Some(share) = args
        .min_agreement
        .filter(|share| !(0.0..=1.0).contains(share))
    {
        return Err(format!(
            "--min-agreement: {share} is not a share from 0 to 1, such as 0.99"
        ));
    }
    Ok(Some(CheckOptions {
        images: images::find(std::slice::from_ref(folder))?,
        min_agreement: args.min_agreement,
    }))
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
