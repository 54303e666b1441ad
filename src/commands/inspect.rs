//! `patchlight inspect`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use patchlight_model::ModelInfo;

use super::fail;
use crate::args::InspectArgs;

/// Verifies the directory as the server does, then shows its manifest.
pub(super) fn run(args: &InspectArgs) -> ExitCode {
    let model = match ModelInfo::open(&args.directory) {
        Ok(model) => model,
        Err(error) => return fail(1, error),
    };
    match show(&model) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

fn show(model: &ModelInfo) -> io::Result<()> {
    let manifest = toml::to_string(&model.manifest).map_err(io::Error::other)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "# model {}, digest {}; all files are whole\n",
        model.name, model.digest
    )?;
    out.write_all(manifest.as_bytes())
}
