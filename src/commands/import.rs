//! `patchlight import`.

use std::{
    io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};
use patchlight_engine::Device;
use patchlight_imaging::preprocess::Backend;
use patchlight_import::{self as import, CancelFlag, CheckOptions, ImportOptions, Source};
use patchlight_model::manifest::{HeadFusion, Precision};
use patchlight_sources::{
    Content, Environment, Fetched, Fetcher, PrecisionChoice, Retry, Source as Address, SourceError,
    check_import,
};
use tokio::runtime;

use super::{USAGE, fail, manual::written};
use crate::{args::ImportArgs, images, server::Signals, sources::ProgressLine};

pub(super) fn run(args: ImportArgs) -> ExitCode {
    if args.list_families {
        let table = import::families_table();
        return written(io::Write::write_all(
            &mut io::stdout().lock(),
            table.as_bytes(),
        ));
    }
    let cache_dir = args.cache_dir.clone();
    let (mut options, source) = match options(args) {
        Ok(options) => options,
        Err(error) => return fail(USAGE, error),
    };
    end_on_signals(options.cancel.clone());
    // Held until it is imported: nobody clears the downloads away in the meantime.
    let _fetched = match fetch(&source, cache_dir, &mut options) {
        Ok(fetched) => fetched,
        Err(error) => return fail(1, error),
    };
    if let Source::Checkpoint(checkpoint) = &options.source
        && let Err(error) = check_import(
            checkpoint,
            &options.out,
            options.precision,
            options.check.is_some(),
        )
    {
        return fail(1, error);
    }
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

/// Downloads the checkpoint if it is named by an address.
fn fetch(
    source: &Address,
    cache_dir: Option<PathBuf>,
    options: &mut ImportOptions,
) -> Result<Option<Fetched>, SourceError> {
    if let Address::Local(_) = source {
        return Ok(None);
    }
    let fetcher = Fetcher::new(&Environment::of_process(), cache_dir, Retry::default())?;
    let progress = ProgressLine::new();
    let fetched = fetcher.checkpoint(source, &options.cancel, &progress)?;
    progress.finish();
    if let Some(Fetched {
        content: Content::Checkpoint(weights),
        origin,
        ..
    }) = &fetched
    {
        options.source = Source::Checkpoint(weights.clone());
        options.origin = Some(origin.clone());
    }
    Ok(fetched)
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

/// What the flags say, and where the checkpoint is.
fn options(args: ImportArgs) -> Result<(ImportOptions, Address), String> {
    let precision = precision(&args)?;
    let check = check(&args, precision)?;
    let (address, source) = match (args.source, args.arch) {
        (Some(path), _) => (address(&path)?, Source::Checkpoint(path)),
        (None, Some(name)) => {
            let source = Source::RandomWeights(name.parse()?);
            (Address::Local(PathBuf::new()), source)
        }
        (None, None) => return Err("name a checkpoint, or --arch with --random-weights".to_owned()),
    };
    let out = args
        .out
        .ok_or("name the model directory to make with --out DIR")?;
    let Ok(preprocess) = args.preprocess.map(|text| text.parse()).transpose();
    let resize = args.resize.map(|text| text.parse::<Backend>()).transpose();
    let options = ImportOptions {
        resize: resize.map_err(|error| format!("--resize: {error}"))?,
        head_fusion: head_fusion(&args.head_fusion)?,
        labels: args.labels,
        text_embeddings: args.text_embeddings,
        heads: args.heads,
        preprocess,
        image_size: args.image_size,
        without_map: args.without_map,
        precision,
        check,
        ..ImportOptions::new(source, out)
    };
    Ok((options, address))
}

/// What a path that was typed stands for; one that is no text is no address.
fn address(typed: &Path) -> Result<Address, String> {
    match typed.to_str() {
        Some(text) => Address::parse(text).map_err(|error| error.to_string()),
        None => Ok(Address::Local(typed.to_owned())),
    }
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
            "--check compares lower precision with float32: add --precision int8, bf16 or fp16"
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

/// The precision that was asked for; `auto` comes to one by this machine and the images to check on.
fn precision(args: &ImportArgs) -> Result<Precision, String> {
    let asked: PrecisionChoice = args
        .precision
        .parse()
        .map_err(|error| format!("--precision: {error}"))?;
    Ok(match (asked, &args.check) {
        (PrecisionChoice::Fixed(precision), _) => precision,
        (PrecisionChoice::Auto, _) if Device::Auto.expects_gpu() => Precision::Fp16,
        (PrecisionChoice::Auto, Some(_)) => Precision::Int8,
        (PrecisionChoice::Auto, None) => Precision::Fp32,
    })
}

fn style() -> ProgressStyle {
    // The template is a constant; were it wrong, the default bar would do.
    ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
