//! What a rate of images needs: the table of docs/scaling.md, or one line for figures of your own.
//!
//! ```sh
//! cargo run -p patchlight-load --bin patchlight-capacity
//! cargo run -p patchlight-load --bin patchlight-capacity -- --rate 250 --core-seconds 0.4 --kilobytes 300
//! ```

mod figures;
mod plan;

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use clap::Parser;

use crate::{
    figures::{BUSY, CORES_A_MACHINE, Engine, MODELS, Model, RATES, STORE_BYTES, UPLOADS, Upload},
    plan::Plan,
};

/// What a rate of images needs; without flags, the table of docs/scaling.md.
#[derive(Debug, Parser)]
struct Args {
    /// Images a second
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Core-seconds of one image in the engine: seconds times threads
    #[arg(long, value_name = "S", conflicts_with = "gpu_rate")]
    core_seconds: Option<f64>,
    /// Images a second that one GPU does in full batches
    #[arg(long, value_name = "N")]
    gpu_rate: Option<f64>,
    /// Core-seconds of everything else
    #[arg(long, value_name = "S", default_value_t = UPLOADS[0].core_seconds)]
    other_core_seconds: f64,
    /// Size of an upload
    #[arg(long, value_name = "KB", default_value_t = UPLOADS[0].bytes / 1e3)]
    kilobytes: f64,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let text = args.rate.map_or_else(table, |rate| {
        let engine = match (args.gpu_rate, args.core_seconds) {
            (Some(per_second), _) => Engine::Gpu(1.0 / per_second),
            (None, Some(seconds)) => Engine::Cpu(seconds),
            (None, None) => MODELS[0].engine,
        };
        let model = Model {
            name: "yours",
            engine,
        };
        let upload = Upload {
            name: "yours",
            bytes: args.kilobytes * 1e3,
            core_seconds: args.other_core_seconds,
        };
        [HEAD, &row(model, upload, rate)].concat()
    });
    io::stdout().write_all(text.as_bytes())
}

const HEAD: &str = "| images a second | model | images | busy cores: model + rest | GPUs | machines | network | kept in Redis for 1 h | first to run out |\n|---|---|---|---|---|---|---|---|---|\n";

/// The table of the page.
fn table() -> String {
    let mut table = String::from(HEAD);
    for upload in UPLOADS {
        for model in MODELS {
            for rate in RATES {
                table.push_str(&row(model, upload, rate));
            }
        }
    }
    let _ = write!(
        table,
        "\nMachines have {CORES_A_MACHINE} cores (with GPUs: that many for each), are {:.0} % busy, and there is one to spare.\n",
        BUSY * 100.0
    );
    table
}

fn row(model: Model, upload: Upload, rate: f64) -> String {
    let plan = Plan::new(model, upload, rate);
    let gpus = match plan.gpus {
        0 => "–".to_owned(),
        gpus => gpus.to_string(),
    };
    format!(
        "| {rate} | {} | {} | {} + {} | {gpus} | {} | {} | {}: {} × {} | {} |\n",
        model.name,
        upload.name,
        figure(plan.model_cores),
        figure(plan.other_cores),
        plan.machines,
        unit(plan.network, "bit/s"),
        unit(plan.store, "B"),
        plan.stores(),
        unit(STORE_BYTES, "B"),
        plan.bottleneck.name(),
    )
}

/// Two digits that count.
fn figure(value: f64) -> String {
    // Rounds as it writes, so that the exponent is that of the rounded number.
    let written = format!("{value:.1e}");
    let exponent = written
        .split_once('e')
        .map_or("0", |(_, exponent)| exponent);
    let decimals = match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 => usize::try_from(1 - exponent).unwrap_or(0),
        _ => 0,
    };
    let rounded: f64 = written.parse().unwrap_or(value);
    format!("{rounded:.decimals$}")
}

/// With a prefix for thousands.
fn unit(value: f64, name: &str) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (size, prefix) = prefixes
        .into_iter()
        .find(|(size, _)| value >= *size)
        .unwrap_or((1.0, ""));
    format!("{} {prefix}{name}", figure(value / size))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn figures_have_two_digits_that_count() {
        assert_eq!(figure(0.0), "0");
        assert_eq!(figure(0.031_8), "0.032");
        assert_eq!(figure(131.4), "130");
        assert_eq!(figure(9.96), "10");
        assert_eq!(unit(1.23e9, "B"), "1.2 GB");
    }

    /// `WRITE_DOCS=1` writes the page's table instead of comparing it.
    #[test]
    fn the_page_has_what_this_program_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scaling.md");
        let page = fs::read_to_string(&path).expect("docs/scaling.md");
        let [begin, end] = ["<!-- made by patchlight-capacity -->\n", "<!-- end -->"];
        let (before, rest) = page.split_once(begin).expect("the first mark");
        let (found, after) = rest.split_once(end).expect("the last mark");
        let made = table();
        if env::var_os("WRITE_DOCS").is_some() {
            fs::write(&path, [before, begin, &made, end, after].concat()).expect("writing");
            return;
        }
        assert!(
            found == made,
            "docs/scaling.md is out of date; `WRITE_DOCS=1 cargo test -p patchlight-load` writes it again"
        );
    }
}
