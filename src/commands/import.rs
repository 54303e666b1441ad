//! `patchlight import`.

use std::{
    io,
    process::{self, ExitCode},
    thread,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime;

use super::{USAGE, fail};
use crate::{
    args::ImportArgs,
    import::{self, Cancel, ImportOptions, Source},
    model::manifest::HeadFusion,
    server::Signals,
};

pub(super) fn run(args: ImportArgs) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(why) => return fail(USAGE, why),
    };
    end_on_signals(options.cancel.clone());
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

/// The first signal ends the import, which clears up; a second one ends the process.
fn end_on_signals(cancel: Cancel) {
    thread::spawn(move || -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            signals.next().await;
            cancel.ask();
            signals.next().await;
            process::exit(1)
        })
    });
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
        without_map: args.without_map,
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

fn style() -> ProgressStyle {
    // The template is a constant; were it wrong, the default bar would do.
    ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
