//! Load generator for patchlight.
//!
//! A **closed loop** (`--clients N`) keeps N requests in flight and finds the highest throughput.
//! Its latencies flatter a server under pressure, because a slow answer also delays the next
//! request. An **open loop** (`--rate R`) sends at times fixed beforehand and counts each latency
//! from the time at which the request was due, so that a stall is charged to every request that it
//! held up.

mod args;
mod arrivals;
mod batch_sizes;
mod client;
mod drive;
mod grpc;
mod images;
mod report;
mod tally;

use std::{
    error::Error,
    fs,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;

use crate::{
    args::Args,
    batch_sizes::Histogram,
    client::Client,
    drive::{Plan, drive},
    grpc::Grpc,
    report::Report,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("patchlight-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let target = args.target()?;
    let images = images::load(&args.images)?;
    let grpc = args.grpc.as_deref();
    let grpc = grpc.map(|model| Grpc::new(&target.url, model, &images));
    let grpc = grpc.transpose()?;
    let client = Client::new(target.url.clone(), images, args.timeout);
    let client = Arc::new(match grpc {
        Some(grpc) => client.over(grpc),
        None => client,
    });
    let send = {
        let client = Arc::clone(&client);
        move |number| {
            let client = Arc::clone(&client);
            async move { client.classify(number).await }
        }
    };

    let plan = Plan::from(args);
    if !args.warmup.is_zero() {
        drive(
            &Plan {
                duration: args.warmup,
                ..plan
            },
            send.clone(),
        )
        .await?;
    }
    let before = scrape(&client, &target.metrics).await;
    let tally = drive(&plan, send).await?;
    let after = scrape(&client, &target.metrics).await;
    let batches = before.and_then(|before| Histogram::delta(&before, &after?));

    let report = Report::new(args, &target, &tally, batches);
    write!(io::stdout(), "{report}")?;
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .map_err(|e| format!("the report could not be written to {}: {e}", path.display()))?;
    }
    if report.answered_ok() == 0 {
        return Err("no request was answered with success; see the statuses above".into());
    }
    Ok(())
}

async fn scrape(client: &Client, metrics: &hyper::Uri) -> Result<Histogram> {
    Histogram::parse(&client.get(metrics.clone()).await?)
}
