//! What the hub refuses, and what to do about it.

/// Why the hub gives no model.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// There is no such model, or it may not be seen.
    #[error("there is no model {id} on {endpoint}, or it is private: check its name; {advice}")]
    NoModel {
        /// `ORG/NAME`.
        id: String,
        /// Where.
        endpoint: String,
        /// What to do if it is private.
        advice: String,
    },

    /// The model is there, and its conditions were not accepted.
    #[error("the model {id} is gated: accept its conditions on {endpoint}/{id}, {advice}")]
    Gated {
        /// `ORG/NAME`.
        id: String,
        /// Where.
        endpoint: String,
        /// What else is needed.
        advice: String,
    },

    /// The token is none that the hub knows.
    #[error(
        "{endpoint} does not take the token of {from}: it is mistyped, expired or revoked; make one \
         on {endpoint}/settings/tokens, or unset it for public models"
    )]
    BadToken {
        /// Where.
        endpoint: String,
        /// Whose token.
        from: String,
    },

    /// The token is known and does not suffice.
    #[error("{endpoint} refuses {id}{detail}: {advice}")]
    Forbidden {
        /// `ORG/NAME`.
        id: String,
        /// Where.
        endpoint: String,
        /// What it says of it.
        detail: String,
        /// What to do.
        advice: String,
    },

    /// The model has no such branch, tag or commit.
    #[error(
        "the model {id} has no branch, tag or commit `{revision}`; {endpoint}/{id}/tree/main shows them"
    )]
    NoRevision {
        /// `ORG/NAME`.
        id: String,
        /// What was asked for.
        revision: String,
        /// Where.
        endpoint: String,
    },

    /// The hub was not asked, and the cache does not have it.
    #[error(
        "{address} is not in the hub's cache ({detail}), and it cannot be downloaded: {because}"
    )]
    NotCached {
        /// The address.
        address: String,
        /// Why it is not downloaded.
        because: String,
        /// What is missing.
        detail: String,
    },

    /// The answer is not as the hub's protocol has it.
    #[error(
        "{endpoint} does not answer as the hub does: {detail}; check HF_ENDPOINT, and the proxy if there is one"
    )]
    Protocol {
        /// Where.
        endpoint: String,
        /// What is wrong.
        detail: String,
    },
}
