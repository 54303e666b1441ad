//! From a model's name or address to a model directory on this machine.
//!
//! A model can be named instead of lying somewhere: `hf://ORG/NAME`, `s3://BUCKET/PATH`. [`Source`] is what was named,
//! [`ModelCache::model_dir`] brings it: the files that the importer needs and no others are
//! downloaded, checked, imported, and kept, so that the next start finds the model ready and asks
//! nobody.
//!
//! ```text
//!  address        text → a directory, or an address by its scheme
//!    └─► hub      the Hugging Face Hub: its protocol, its cache layout, its settings
//!          └─► download   resumed, retried, verified; http is what it goes over
//!    └─► remote   folders, files and archives of servers that know nothing of models:
//!          bucket (S3, Google Cloud Storage, Azure), web; archive unpacks
//!    └─► select   which of the files that are there an import needs
//!  model_cache    what was imported, by source, revision, importer and precision
//! ```
//!
//! Everything here blocks the calling thread. Nothing is read from the environment but in
//! [`Environment`].

mod address;
mod archive;
mod bucket;
mod download;
mod environment;
mod error;
mod fetched;
mod fetcher;
mod http;
mod hub;
mod local;
mod lock;
mod model_cache;
mod observer;
mod remote;
mod retry;
mod select;
mod space;
mod web;

pub use address::{AddressError, BucketAddress, Cloud, HubAddress, Revision, Source, WebAddress};
pub use environment::{Environment, default_cache_dir};
pub use error::{BucketError, HttpError, HubError, SourceError};
pub use fetched::{Content, Downloaded, Fetched};
pub use fetcher::Fetcher;
pub use http::machine_tls;
pub use hub::{HubSettings, Token};
pub use model_cache::{
    CacheEntry, ImportChoice, ModelCache, Outcome, PrecisionChoice, Prepared, PruneRule, Pruned,
    check_import, is_served_as_it_is,
};
pub use observer::{Observer, Progress};
pub use retry::Retry;
