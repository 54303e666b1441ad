//! What can go wrong with one request, in the words of the domain.
//!
//! Nothing here knows of HTTP: [`crate::http`] has the one file that turns an [`Error`] into a
//! status and a problem document. Every variant has a stable [`code`](Error::code), which clients
//! may match on and which metrics use as a label. The `Display` text is shown to the client, so it
//! says what to do next and holds nothing secret; what only the operator should read goes to the
//! log where the error is made. All text in it is a [`Detail`], which bounds and escapes it.

mod detail;

use std::time::Duration;

pub use self::detail::Detail;

/// The result of working on a request.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// The request does not have the form that is documented.
    #[error("{0}")]
    MalformedRequest(Detail),

    /// A query parameter or header has a value that is not allowed.
    #[error("parameter `{name}`: {detail}")]
    InvalidParameter {
        /// As the client wrote it.
        name: &'static str,
        /// What is allowed.
        detail: Detail,
    },

    /// No API key, or one that is not in force.
    #[error("an API key is needed: send it as `Authorization: Bearer KEY`")]
    Unauthorized,

    /// The request names a host that the server does not answer to.
    #[error(
        "this server does not answer to the name `{host}`; ask for localhost, or whoever runs it \
         can allow the name with --allowed-hosts"
    )]
    HostNotAllowed {
        /// As the client wrote it.
        host: Detail,
    },

    /// The body is longer than the server takes.
    #[error("the body is larger than the {limit} bytes that this server takes")]
    BodyTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },

    /// The body did not arrive in time.
    #[error("the body did not arrive within {} s", .limit.as_secs_f32())]
    UploadTooSlow {
        /// The time that a body may take.
        limit: Duration,
    },

    /// The bytes are not a picture in a format that is served.
    #[error("not a picture that this server reads ({found}); send JPEG, PNG, WebP or GIF")]
    UnsupportedFormat {
        /// What the bytes look like.
        found: Detail,
    },

    /// The body is compressed in a way that is not read.
    #[error(
        "Content-Encoding: `{coding}` is not read here; send the body as gzip or deflate, or as it is"
    )]
    UnsupportedEncoding {
        /// As the client wrote it.
        coding: Detail,
    },

    /// The picture is damaged.
    #[error("the {format} picture cannot be decoded: {detail}")]
    ImageUndecodable {
        /// The format that its first bytes announce.
        format: &'static str,
        /// What the decoder found.
        detail: Detail,
    },

    /// The decoder panicked, which hostile files make decoders do; the fence held.
    #[error("the {format} picture is damaged in a way that its decoder does not survive")]
    DecoderPanicked {
        /// The format that its first bytes announce.
        format: &'static str,
    },

    /// The picture has too many pixels, too long a side, or needs too much memory to decode.
    #[error("the picture is too large ({width}×{height}): {detail}")]
    ImageTooLarge {
        /// Announced width in pixels.
        width: u32,
        /// Announced height in pixels.
        height: u32,
        /// Which limit it exceeds.
        detail: Detail,
    },

    /// There is no such model.
    #[error("no model is called `{name}` here")]
    NoSuchModel {
        /// As the client wrote it.
        name: Detail,
    },

    /// The default model cannot be removed, only replaced.
    #[error("`{name}` answers requests that name no model; it can be replaced, not removed")]
    DefaultModel {
        /// The model.
        name: Detail,
    },

    /// A model directory cannot be served; what was served before still is.
    #[error("the model is refused, and nothing has changed: {why}")]
    ModelRefused {
        /// What is wrong with it.
        why: Detail,
    },

    /// No map is known under this id: never made, expired, forgotten or not the caller's.
    #[error(
        "no attention map is kept under this id; maps expire, and are forgotten when memory is short"
    )]
    NoSuchMap,

    /// The map exists, but not in the form that was asked for.
    #[error("{0}")]
    MapNotKept(Detail),

    /// The operator does not allow perturbation tests.
    #[error(
        "this server makes no perturbation tests; whoever runs it can allow them with --allow-verify"
    )]
    VerifyNotAllowed,

    /// What a perturbation test needs is no longer there.
    #[error("{0}")]
    NotVerifiable(&'static str),

    /// No perturbation test of this map was started, or its result was forgotten.
    #[error("no test of this map is under way or kept; POST to the same address starts one")]
    NoSuchJob,

    /// One client has as many perturbation tests under way as it may.
    #[error("this client has as many tests under way as it may; try again in {} s", .retry_after.as_secs().max(1))]
    TooManyJobs {
        /// When one of them is likely to have ended.
        retry_after: Duration,
    },

    /// The map is in its id and nowhere else, so it cannot be forgotten.
    #[error(
        "this id carries its map itself, so the server has nothing that it could forget: throw the \
         id away; it expires in {expires_in_s} s. A server with `--attention-store memory` or one \
         in Redis can forget maps"
    )]
    NotForgettable {
        /// Seconds.
        expires_in_s: u64,
    },

    /// The store of maps cannot be asked.
    #[error("the store of attention maps cannot be reached; try again in {} s", .retry_after.as_secs().max(1))]
    StoreAway {
        /// When it will be tried again.
        retry_after: Duration,
    },

    /// None of the accepted media types can be produced.
    #[error("none of the accepted media types can be produced; available are {available}")]
    NotAcceptable {
        /// What could have been asked for.
        available: &'static str,
    },

    /// More work is queued than can be done in time.
    #[error("the server has more work than it can do in time; try again in {} s", .retry_after.as_secs().max(1))]
    Overloaded {
        /// When a retry is likely to be taken.
        retry_after: Duration,
    },

    /// The caller's key has asked for more than its quota.
    #[error("this API key has used up its quota; try again in {} s", .retry_after.as_secs_f64().ceil().max(1.0))]
    QuotaExceeded {
        /// When there is room again.
        retry_after: Duration,
    },

    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,

    /// The model is not loaded and warmed up yet.
    #[error("the model is not ready yet")]
    NotReady,

    /// The answer would have come after the request's deadline.
    #[error("the deadline of {} s passed before the answer was ready", .deadline.as_secs_f32())]
    DeadlinePassed {
        /// The time the request was given.
        deadline: Duration,
    },

    /// The model's output holds values that are not numbers.
    #[error("the model's output for this picture is not finite")]
    NotFinite,

    /// The engine failed; the log has the reason.
    #[error("inference failed")]
    Inference,

    /// Something that should not happen; the log has the reason.
    #[error("internal error")]
    Internal,
}

impl Error {
    /// A stable name for programs: in problem documents, metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MalformedRequest(_) => "malformed_request",
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::Unauthorized => "unauthorized",
            Self::HostNotAllowed { .. } => "host_not_allowed",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::UploadTooSlow { .. } => "upload_too_slow",
            Self::UnsupportedFormat { .. } => "unsupported_format",
            Self::UnsupportedEncoding { .. } => "unsupported_encoding",
            Self::ImageUndecodable { .. } | Self::DecoderPanicked { .. } => "image_undecodable",
            Self::ImageTooLarge { .. } => "image_too_large",
            Self::NoSuchModel { .. } => "no_such_model",
            Self::DefaultModel { .. } => "default_model",
            Self::ModelRefused { .. } => "model_refused",
            Self::NoSuchMap => "map_not_found",
            Self::MapNotKept(_) => "map_not_kept",
            Self::VerifyNotAllowed => "verify_not_allowed",
            Self::NotVerifiable(_) => "not_verifiable",
            Self::NoSuchJob => "verify_not_found",
            Self::TooManyJobs { .. } => "too_many_jobs",
            Self::NotForgettable { .. } => "map_not_forgettable",
            Self::StoreAway { .. } => "map_store_away",
            Self::NotAcceptable { .. } => "not_acceptable",
            Self::Overloaded { .. } => "overloaded",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::Draining => "draining",
            Self::NotReady => "not_ready",
            Self::DeadlinePassed { .. } => "deadline_passed",
            Self::NotFinite => "not_finite",
            Self::Inference => "inference_failed",
            Self::Internal => "internal",
        }
    }
}
