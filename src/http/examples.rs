//! An example of every error, and the codes that errors have: for the description of the routes.

use std::{collections::BTreeSet, time::Duration};

use patchlight_imaging::Error as ImageError;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::Error;

/// Codes of problems that are no [`Error`]: no such route, and not with this method.
pub(super) const ROUTING: [&str; 2] = ["not_found", "method_not_allowed"];

/// The codes of problems, as an enumeration.
pub(super) struct Code;

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let errors = errors();
        let codes = errors.iter().map(Error::code).chain(ROUTING);
        let codes: BTreeSet<&str> = codes.collect();
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "What went wrong, for programs: stable, one word each.",
            ))
            .enum_values(Some(codes))
            .into()
    }
}

impl ToSchema for Code {}

/// One error of every code, as a server might say it. A test compares them with `error.rs`.
pub(super) fn errors() -> Vec<Error> {
    const SOON: Duration = Duration::from_secs(2);
    vec![
        Error::MalformedRequest(
            "the body is empty; send an image, for example with curl --data-binary @cat.jpg".into(),
        ),
        Error::InvalidParameter {
            name: "top_k",
            detail: "0 is not between 1 and 1000, the number of classes".into(),
        },
        Error::Unauthorized,
        Error::HostNotAllowed {
            host: "example.org".into(),
        },
        Error::VerifyNotAllowed,
        Error::NoSuchModel {
            name: "vit-h-14".into(),
        },
        Error::NoSuchMap,
        Error::NoSuchJob,
        Error::NotAcceptable {
            available: "image/png, application/json, application/x-npy",
        },
        Error::UploadTooSlow {
            limit: Duration::from_secs(30),
        },
        Error::MapNotKept(
            "single layers and heads are kept on demand: classify the image again with \
             `attention=heads`"
                .into(),
        ),
        Error::NotDeletable { expires_in_s: 3599 },
        Error::NotVerifiable(
            "the image of this map is not kept any more; classify it again and test that map",
        ),
        Error::DefaultModel {
            name: "demo".into(),
        },
        Error::BodyTooLarge { limit: 10 << 20 },
        Error::Image(ImageError::UnsupportedFormat {
            found: "PDF".into(),
        }),
        Error::UnsupportedEncoding {
            encoding: "br".into(),
        },
        Error::Image(ImageError::ImageUndecodable {
            format: "JPEG",
            detail: "the file ends in the middle of the image".into(),
        }),
        Error::Image(ImageError::ImageTooLarge {
            width: 60_000,
            height: 60_000,
            detail: "it has more than 40000000 pixels".into(),
        }),
        Error::ModelRefused {
            error: "model.onnx has another digest than model.toml says".into(),
        },
        Error::QuotaExceeded { retry_after: SOON },
        Error::TooManyJobs { retry_after: SOON },
        Error::NotFinite,
        Error::Inference,
        Error::Internal,
        Error::Overloaded { retry_after: SOON },
        Error::Draining,
        Error::NotReady,
        Error::StoreUnavailable { retry_after: SOON },
        Error::DeadlinePassed {
            deadline: Duration::from_secs(10),
        },
    ]
}
