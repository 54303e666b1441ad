//! What opening a graph gives.

use ort::session::Session;

/// A session, and the stream that it was opened on if batches can be queued there.
pub(super) struct Opened {
    pub(super) session: Session,
    #[cfg(feature = "cuda")]
    pub(super) stream: Option<patchlight_kernels::cuda::ComputeStream>,
}

impl Opened {
    /// A session of one engine.
    pub(super) fn alone(session: Session) -> Self {
        Self {
            session,
            #[cfg(feature = "cuda")]
            stream: None,
        }
    }
}
