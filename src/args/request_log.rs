//! Flags of the request log.

use clap::Args;

/// Where events about answered requests go, and how many of them.
#[derive(Args, Clone, Debug)]
pub struct RequestLogArgs {
    /// Send an event about each classified image to this http:// or https:// address as
    /// CloudEvents, or append it to this file
    #[arg(
        long,
        value_name = "URL|FILE",
        env = "PATCHLIGHT_REQUEST_LOG",
        help_heading = "Request log"
    )]
    pub request_log: Option<String>,

    /// The share of images that have an event, 0 to 1
    #[arg(
        long,
        value_name = "RATIO",
        env = "PATCHLIGHT_REQUEST_LOG_SAMPLE",
        default_value = "1",
        help_heading = "Request log"
    )]
    pub request_log_sample: String,

    /// How events are sent to an address: binary (one request each, attributes as headers), or
    /// batch (many in one body)
    #[arg(
        long,
        value_name = "MODE",
        env = "PATCHLIGHT_REQUEST_LOG_MODE",
        default_value = "binary",
        help_heading = "Request log"
    )]
    pub request_log_mode: String,

    /// Put the image itself into its event
    #[arg(
        long,
        env = "PATCHLIGHT_REQUEST_LOG_IMAGES",
        help_heading = "Request log"
    )]
    pub request_log_images: bool,

    /// The size at which a file is renamed to FILE.1 and a new one begun
    #[arg(
        long,
        value_name = "SIZE",
        env = "PATCHLIGHT_REQUEST_LOG_MAX_SIZE",
        default_value = "100MiB",
        help_heading = "Request log"
    )]
    pub request_log_max_size: String,

    /// How many renamed files are kept
    #[arg(
        long,
        value_name = "N",
        env = "PATCHLIGHT_REQUEST_LOG_FILES",
        default_value = "5",
        help_heading = "Request log"
    )]
    pub request_log_files: String,
}
