//! What can go wrong with one request, in the words of the domain.
//!
//! A new error is a variant here and a row of the [`table`], which has its stable
//! [`code`](Error::code), its status and an example. Clients may match on the code and metrics use
//! it as a label. How a front end words an error is its own: [`crate::http`] has the one file that
//! makes a problem document of it. The `Display` text is shown to the client, so it
//! says what to do next and holds nothing secret; what only the operator should read goes to the
//! log where the error is made. All text in it is a [`Detail`], which bounds and escapes it.

mod table;

use std::time::Duration;

use patchlight_imaging::Error as ImageError;

pub use patchlight_escape::Detail;

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
    #[error("the body had not come after {} s, or too little of it", .limit.as_secs_f32())]
    UploadTooSlow {
        /// The time that it was given.
        limit: Duration,
    },

    /// The body is compressed in a way that is not read.
    #[error(
        "Content-Encoding: `{encoding}` is not read here; send the body as gzip or deflate, or as it is"
    )]
    UnsupportedEncoding {
        /// As the client wrote it.
        encoding: Detail,
    },

    /// A route of gRPC, asked in another way.
    #[error(
        "this is a service of gRPC: call it with a gRPC client, or ask below /v2, which answers JSON"
    )]
    NotGrpc,

    /// The bytes are no image that is served: of another format, damaged or too large.
    #[error(transparent)]
    Image(#[from] ImageError),

    /// The operator does not allow this image to be fetched.
    #[error("{0}")]
    FetchNotAllowed(Detail),

    /// The server that a URL names does not give the image.
    #[error("the image was not fetched: {0}")]
    ImageNotFetched(Detail),

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
    #[error("the model is refused, and nothing has changed: {error}")]
    ModelRefused {
        /// What is wrong with it.
        error: Detail,
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
        "this server makes no perturbation tests; its operator can allow them with --allow-verify"
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
    NotDeletable {
        /// Seconds.
        expires_in_s: u64,
    },

    /// The store of maps cannot be asked.
    #[error("the store of attention maps cannot be reached; try again in {} s", .retry_after.as_secs().max(1))]
    StoreUnavailable {
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
    #[error("the model's output for this image is not finite")]
    NotFinite,

    /// There is nothing under this path.
    #[error("{0}")]
    NoSuchRoute(Detail),

    /// The path has other methods.
    #[error("{0}")]
    MethodNotAllowed(Detail),

    /// The device has no memory for a single image.
    #[error(
        "the device that computes has no memory left, not even for this image alone; try again \
         later, and whoever runs the server finds the reason in its log"
    )]
    OutOfMemory,

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
        table::row(self).0
    }

    /// The HTTP status (RFC 9110, section 15) of an answer with this error.
    pub fn status(&self) -> u16 {
        table::row(self).1
    }

    /// One error of every code, as a server might say it.
    pub fn examples() -> Vec<Self> {
        table::examples()
    }
}
