//! Every error code with its status and an example: the one list of them.
//!
//! A row is `"code", status: pattern => example;`. The patterns make one `match`, so the compiler
//! refuses an error without a row.

use std::time::Duration;

use patchlight_imaging::Error as ImageError;

use super::Error;

const SOON: Duration = Duration::from_secs(2);

macro_rules! table {
    ($($code:literal, $status:literal: $errors:pat => $example:expr;)+) => {
        /// Code and status of an error.
        pub(super) fn row(error: &Error) -> (&'static str, u16) {
            match error {
                $($errors => ($code, $status),)+
            }
        }

        /// An example for each row, in their order.
        pub(super) fn examples() -> Vec<Error> {
            vec![$($example),+]
        }

        #[cfg(test)]
        const CODES: &[&str] = &[$($code),+];
    };
}

table! {
    "malformed_request", 400: Error::MalformedRequest(_) => Error::MalformedRequest(
        "the body is empty; send an image, for example with curl --data-binary @cat.jpg".into(),
    );
    "invalid_parameter", 400: Error::InvalidParameter { .. } => Error::InvalidParameter {
        name: "top_k",
        detail: "0 is not between 1 and 1000, the number of classes".into(),
    };
    "unauthorized", 401: Error::Unauthorized => Error::Unauthorized;
    "host_not_allowed", 421: Error::HostNotAllowed { .. } => Error::HostNotAllowed {
        host: "example.org".into(),
    };
    "fetch_not_allowed", 403: Error::FetchNotAllowed(_) => Error::FetchNotAllowed(
        "this server fetches no images; send the image itself, or ask its operator to name hosts \
         with --fetch-from"
            .into(),
    );
    "verify_not_allowed", 403: Error::VerifyNotAllowed => Error::VerifyNotAllowed;
    "no_such_model", 404: Error::NoSuchModel { .. } => Error::NoSuchModel {
        name: "vit-h-14".into(),
    };
    "map_not_found", 404: Error::NoSuchMap => Error::NoSuchMap;
    "verify_not_found", 404: Error::NoSuchJob => Error::NoSuchJob;
    "not_acceptable", 406: Error::NotAcceptable { .. } => Error::NotAcceptable {
        available: "image/png, application/json, application/x-npy",
    };
    "upload_too_slow", 408: Error::UploadTooSlow { .. } => Error::UploadTooSlow {
        limit: Duration::from_secs(30),
    };
    "map_not_kept", 409: Error::MapNotKept(_) => Error::MapNotKept(
        "single layers and heads are kept on demand: classify the image again with \
         `attention=heads`"
            .into(),
    );
    "map_not_forgettable", 409: Error::NotDeletable { .. } => Error::NotDeletable {
        expires_in_s: 3599,
    };
    "not_verifiable", 409: Error::NotVerifiable(_) => Error::NotVerifiable(
        "the image of this map is not kept any more; classify it again and test that map",
    );
    "default_model", 409: Error::DefaultModel { .. } => Error::DefaultModel {
        name: "demo".into(),
    };
    "body_too_large", 413: Error::BodyTooLarge { .. } => Error::BodyTooLarge { limit: 10 << 20 };
    "unsupported_format", 415: Error::Image(ImageError::UnsupportedFormat { .. }) => {
        Error::Image(ImageError::UnsupportedFormat { found: "PDF".into() })
    };
    "unsupported_encoding", 415: Error::UnsupportedEncoding { .. } => Error::UnsupportedEncoding {
        encoding: "br".into(),
    };
    "not_grpc", 415: Error::NotGrpc => Error::NotGrpc;
    "image_undecodable", 422:
        Error::Image(ImageError::ImageUndecodable { .. } | ImageError::DecoderPanicked { .. }) => {
        Error::Image(ImageError::ImageUndecodable {
            format: "JPEG",
            detail: "the file ends in the middle of the image".into(),
        })
    };
    "image_too_large", 422: Error::Image(ImageError::ImageTooLarge { .. }) => {
        Error::Image(ImageError::ImageTooLarge {
            width: 60_000,
            height: 60_000,
            detail: "it has more than 40000000 pixels".into(),
        })
    };
    "image_not_fetched", 422: Error::ImageNotFetched(_) => Error::ImageNotFetched(
        "the server answers 404 Not Found".into(),
    );
    "model_refused", 422: Error::ModelRefused { .. } => Error::ModelRefused {
        error: "model.onnx has another digest than model.toml says".into(),
    };
    "quota_exceeded", 429: Error::QuotaExceeded { .. } => Error::QuotaExceeded { retry_after: SOON };
    "too_many_jobs", 429: Error::TooManyJobs { .. } => Error::TooManyJobs { retry_after: SOON };
    "not_finite", 500: Error::NotFinite => Error::NotFinite;
    "inference_failed", 500: Error::Inference => Error::Inference;
    "internal", 500: Error::Internal => Error::Internal;
    "overloaded", 503: Error::Overloaded { .. } => Error::Overloaded { retry_after: SOON };
    "draining", 503: Error::Draining => Error::Draining;
    "not_ready", 503: Error::NotReady => Error::NotReady;
    "out_of_memory", 503: Error::OutOfMemory => Error::OutOfMemory;
    "map_store_away", 503: Error::StoreUnavailable { .. } => Error::StoreUnavailable {
        retry_after: SOON,
    };
    "deadline_passed", 504: Error::DeadlinePassed { .. } => Error::DeadlinePassed {
        deadline: Duration::from_secs(10),
    };
    "not_found", 404: Error::NoSuchRoute(_) => Error::NoSuchRoute("there is nothing here".into());
    "method_not_allowed", 405: Error::MethodNotAllowed(_) => Error::MethodNotAllowed(
        "PATCH is not allowed here".into(),
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_appears_once_and_has_an_example_of_its_own() {
        let distinct: BTreeSet<&str> = CODES.iter().copied().collect();
        assert_eq!(distinct.len(), CODES.len(), "two rows have the same code");
        let examples = examples();
        let codes: Vec<&str> = examples.iter().map(Error::code).collect();
        assert_eq!(codes, CODES, "an example is of another row");
    }

    #[test]
    fn codes_are_words_and_statuses_are_errors() {
        for error in examples() {
            let code = error.code();
            let word = |letter: u8| letter.is_ascii_lowercase() || letter == b'_';
            assert!(code.bytes().all(word), "{code}");
            assert!((400..600).contains(&error.status()), "{code}");
            assert!(!error.to_string().is_empty(), "{code}");
        }
    }
}
