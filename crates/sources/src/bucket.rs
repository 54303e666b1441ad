//! Buckets of S3, Google Cloud Storage and Azure Blob Storage, and of servers that speak like them.

mod aws_profile;
mod client;
mod settings;

use std::{
    future::Future,
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, path::Path};
use patchlight_import::CancelFlag;
use tokio::runtime::{Builder, Runtime};

pub(crate) use self::settings::BucketSettings;
use crate::{
    BucketAddress, BucketError, SourceError,
    download::{Interruption, Opened},
    http::Http,
    remote::{Remote, RemoteInfo},
};

/// The folder that an address is in.
pub(crate) struct BucketFolder<'a> {
    address: &'a BucketAddress,
    store: Arc<dyn ObjectStore>,
    /// What runs the requests, one at a time.
    runtime: Arc<Waiting>,
    cancel: &'a CancelFlag,
}

impl<'a> BucketFolder<'a> {
    /// # Errors
    /// If the settings do not do.
    pub(crate) fn new(
        address: &'a BucketAddress,
        settings: &BucketSettings,
        http: &Http,
        cancel: &'a CancelFlag,
    ) -> Result<Self, SourceError> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| BucketError::settings(address, error))?;
        Ok(Self {
            store: settings.open(address, http)?,
            address,
            runtime: Arc::new(Waiting(Some(runtime))),
            cancel,
        })
    }

    fn path(&self, name: &str) -> Result<Path, SourceError> {
        Path::parse(self.address.place.path(name))
            .map_err(|error| BucketError::settings(self.address, error).into())
    }

    /// Waits for a request, or for the user to call it off.
    fn wait<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<object_store::Result<T>, SourceError> {
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        self.runtime.block_on(async {
            let mut request = std::pin::pin!(request);
            loop {
                if let Ok(answer) = tokio::time::timeout(LOOK_AGAIN, &mut request).await {
                    return Ok(answer);
                }
                if self.cancel.is_cancelled() {
                    return Err(SourceError::Cancelled);
                }
            }
        })
    }

    /// The files of one folder, without those of folders in it.
    fn level(&self, folder: &str) -> Result<Vec<RemoteInfo>, SourceError> {
        let path = self.path(folder)?;
        let listed = self
            .wait(self.store.list_with_delimiter(Some(&path)))?
            .map_err(|error| BucketError::of(self.address, &error))?;
        let start = self.path("")?;
        let info = |object: ObjectMeta| {
            let parts: Vec<String> = object
                .location
                .prefix_match(&start)?
                .map(|part| part.as_ref().to_owned())
                .collect();
            let name = parts.join("/");
            Some(described(name, object))
        };
        Ok(listed.objects.into_iter().filter_map(info).collect())
    }
}

impl Remote for BucketFolder<'_> {
    fn stat(&self, name: &str) -> Result<Option<RemoteInfo>, SourceError> {
        let path = self.path(name)?;
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match self.wait(self.store.get_opts(&path, options))? {
            Ok(found) => Ok(Some(described(name.to_owned(), found.meta))),
            // Without a body S3 does not say whether it is the file or the bucket.
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(BucketError::of(self.address, &error).into()),
        }
    }

    fn list(&self) -> Result<Vec<RemoteInfo>, SourceError> {
        let mut found = self.level("")?;
        // Where optimum puts exported graphs.
        found.extend(self.level("onnx")?);
        match found.is_empty() {
            true => Err(BucketError::nothing(self.address).into()),
            false => Ok(found),
        }
    }

    fn open(&self, info: &RemoteInfo, from: u64) -> Result<Opened, Interruption> {
        let path = self.path(&info.name)?;
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            if_match: info.condition.clone(),
            ..GetOptions::default()
        };
        let answer = self.wait(self.store.get_opts(&path, options))?;
        let found = match answer {
            Ok(found) => found,
            // It has become another one since it was asked about.
            Err(object_store::Error::Precondition { .. }) => {
                return Err(Interruption::Local(SourceError::Unusable {
                    source_name: self.address.to_string(),
                    detail: format!("{} changed while it was downloaded; try again", info.name),
                }));
            }
            Err(error) => {
                let error = BucketError::of(self.address, &error);
                return Err(Interruption::Local(error.into()));
            }
        };
        let starts = found.range.start;
        let body = Box::new(Body {
            stream: found.into_stream(),
            chunk: Bytes::new(),
            runtime: Arc::clone(&self.runtime),
        });
        Ok(match starts {
            0 => Opened::Start(body),
            start if start == from => Opened::Rest(body),
            _ => Opened::Other,
        })
    }

    fn host(&self) -> String {
        format!("{}://{}", self.address.cloud.scheme(), self.address.bucket)
    }
}

fn described(name: String, object: ObjectMeta) -> RemoteInfo {
    RemoteInfo {
        name,
        size: Some(object.size),
        version: object.e_tag.as_ref().map(|etag| etag.replace('"', "")),
        condition: object.e_tag,
    }
}

/// What waits for requests. Threads that still read an answer which nobody wants any more are left
/// behind, not waited for.
struct Waiting(Option<Runtime>);

impl Waiting {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        #[expect(
            clippy::expect_used,
            reason = "it is taken when this is dropped, and not before"
        )]
        let runtime = self.0.as_ref().expect("a runtime until the end");
        runtime.block_on(future)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A body, read by a thread that may wait.
struct Body {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
    runtime: Arc<Waiting>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.chunk.remaining());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
