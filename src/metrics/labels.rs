//! Labels with a fixed set of values.

/// A part of the way of a picture, as a label of `patchlight_stage_duration_seconds`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Bytes to upright RGB.
    Decode,
    /// RGB to input tensor.
    Preprocess,
    /// Waiting for a batch.
    Queue,
    /// The batch's run.
    Inference,
    /// Drawing a map.
    Render,
}

impl Stage {
    pub(super) const ALL: [Self; 5] = [
        Self::Decode,
        Self::Preprocess,
        Self::Queue,
        Self::Inference,
        Self::Render,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Preprocess => "preprocess",
            Self::Queue => "queue",
            Self::Inference => "inference",
            Self::Render => "render",
        }
    }
}

/// Why a request was refused to protect the others, as a label of `patchlight_shed_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShedReason {
    /// The queue has no room for another picture.
    QueueFull,
    /// The engine would not be done in time.
    PredictedWait,
    /// Decoding would not be done in time.
    DecodeWait,
    /// Bodies take all the memory that they may.
    UploadMemory,
    /// Too many wait for their maps to be drawn.
    Render,
}

impl ShedReason {
    pub(super) const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::PredictedWait,
        Self::DecodeWait,
        Self::UploadMemory,
        Self::Render,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::PredictedWait => "predicted_wait",
            Self::DecodeWait => "decode_wait",
            Self::UploadMemory => "upload_memory",
            Self::Render => "render",
        }
    }
}

/// What is asked of a store of maps, as a label of `patchlight_attention_store_failures_total`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreAction {
    /// To keep a map.
    Keep,
    /// To find one.
    Find,
    /// To forget one.
    Forget,
}

impl StoreAction {
    pub(super) const ALL: [Self; 3] = [Self::Keep, Self::Find, Self::Forget];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Find => "find",
            Self::Forget => "forget",
        }
    }
}
