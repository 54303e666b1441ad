//! `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `az://CONTAINER/PATH`.

use std::fmt;

use super::Place;

/// A folder or file in a bucket.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BucketAddress {
    /// Whose bucket it is.
    pub cloud: Cloud,
    /// Its name; in Azure that of the container.
    pub bucket: String,
    /// What is meant in it.
    pub place: Place,
}

/// Whose protocol a bucket is spoken to in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cloud {
    /// Amazon S3, or a server that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Cloud {
    pub(super) fn of_scheme(scheme: &str) -> Option<Self> {
        let all = [Self::S3, Self::Gcs, Self::Azure];
        all.into_iter().find(|cloud| cloud.scheme() == scheme)
    }

    /// What its addresses begin with.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

impl BucketAddress {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(cloud: Cloud, rest: &str) -> Result<Self, String> {
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.$".contains(&byte);
        let is_name = (1..=222).contains(&bucket.len())
            && bucket.bytes().all(plain)
            && !bucket.starts_with('.')
            && !bucket.contains("..");
        if !is_name {
            let scheme = cloud.scheme();
            return Err(match cloud {
                Cloud::Azure => format!(
                    "{scheme}://CONTAINER/PATH is expected, with the account in \
                     AZURE_STORAGE_ACCOUNT_NAME"
                ),
                _ => format!("{scheme}://BUCKET/PATH is expected"),
            });
        }
        Ok(Self {
            cloud,
            bucket: bucket.to_owned(),
            place: Place::parse(path)?,
        })
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.place.to_string();
        write!(f, "{}://{}", self.cloud.scheme(), self.bucket)?;
        match path.is_empty() {
            true => Ok(()),
            false => write!(f, "/{path}"),
        }
    }
}
