//! Flags of the export of traces.

use clap::Args;

/// Where spans go, and how many of them.
#[derive(Args, Clone, Debug)]
pub struct TracingArgs {
    /// Send traces to this OTLP/HTTP collector, such as http://127.0.0.1:4318; needs a program
    /// built with the feature `otlp`
    #[arg(
        long,
        value_name = "URL",
        env = "PATCHLIGHT_OTLP_ENDPOINT",
        help_heading = "Logs"
    )]
    pub otlp_endpoint: Option<String>,

    /// The share of traces to record, 0 to 1, of those that no caller has decided about
    #[arg(
        long,
        value_name = "RATIO",
        env = "PATCHLIGHT_TRACE_SAMPLE",
        default_value = "0.01",
        help_heading = "Logs"
    )]
    pub trace_sample: String,
}
