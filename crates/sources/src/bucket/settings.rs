//! How buckets are reached and who asks, by the variables and files of each cloud's own tools.

use std::{collections::BTreeMap, fmt, sync::Arc};

use object_store::{
    BackoffConfig, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
};

use super::{aws_profile::Profile, client::Connector};
use crate::{
    BucketAddress, BucketError, Environment, Retry, SourceError, address::Cloud, http::Http,
};

/// Variables that say it all by themselves.
const AWS: [&str; 16] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
];
const GOOGLE: [&str; 5] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BASE_URL",
    "GOOGLE_SKIP_SIGNATURE",
];
const AZURE: [&str; 16] = [
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_AUTHORITY_HOST",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_MSI_ENDPOINT",
    "AZURE_MSI_RESOURCE_ID",
    "AZURE_OBJECT_ID",
    "AZURE_USE_AZURE_CLI",
    "AZURE_SKIP_SIGNATURE",
];
/// Others, which are read here.
const READ_HERE: [&str; 4] = [
    "STORAGE_EMULATOR_HOST",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
];

/// The variables that are set, and the profile of AWS.
#[derive(Clone)]
pub(crate) struct BucketSettings {
    variables: BTreeMap<&'static str, String>,
    profile: Profile,
    retry: Retry,
}

impl fmt::Debug for BucketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values hold secrets.
        let names: Vec<&&str> = self.variables.keys().collect();
        write!(f, "BucketSettings({names:?})")
    }
}

impl BucketSettings {
    /// # Errors
    /// If a file of AWS is there and cannot be read.
    pub(crate) fn from_environment(
        environment: &Environment<'_>,
        retry: Retry,
    ) -> Result<Self, SourceError> {
        let names = AWS.iter().chain(&GOOGLE).chain(&AZURE).chain(&READ_HERE);
        let variables = names.filter_map(|&name| Some((name, environment.get(name)?)));
        Ok(Self {
            variables: variables.collect(),
            profile: Profile::from_environment(environment)?,
            retry,
        })
    }

    /// # Errors
    /// If a value is not one, or what is needed to know who asks is missing.
    pub(super) fn open(
        &self,
        address: &BucketAddress,
        http: &Http,
    ) -> Result<Arc<dyn ObjectStore>, SourceError> {
        let failed = |error: object_store::Error| BucketError::settings(address, error);
        Ok(match address.cloud {
            Cloud::S3 => Arc::new(self.s3(address, http)?.build().map_err(failed)?),
            Cloud::Gcs => Arc::new(self.gcs(address, http)?.build().map_err(failed)?),
            Cloud::Azure => Arc::new(self.azure(address, http)?.build().map_err(failed)?),
        })
    }

    fn s3(&self, address: &BucketAddress, http: &Http) -> Result<AmazonS3Builder, SourceError> {
        let mut builder = AmazonS3Builder::new();
        for (key, value) in self.of::<AmazonS3ConfigKey>(&AWS) {
            builder = builder.with_config(key, value);
        }
        let is_set = |name: &str| self.variables.contains_key(name);
        let says_who = [
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ];
        if !says_who.into_iter().any(is_set) {
            for (key, value) in self.profile.credentials(address)? {
                builder = builder.with_config(key, value);
            }
        }
        if !is_set("AWS_REGION")
            && !is_set("AWS_DEFAULT_REGION")
            && let Some(region) = &self.profile.region
        {
            builder = builder.with_region(region);
        }
        if !is_set("AWS_ENDPOINT_URL")
            && !is_set("AWS_ENDPOINT_URL_S3")
            && let Some(endpoint) = &self.profile.endpoint
        {
            builder = builder.with_endpoint(endpoint);
        }
        Ok(builder
            .with_bucket_name(&address.bucket)
            // An endpoint without TLS is one that the operator named.
            .with_allow_http(true)
            .with_retry(self.retry())
            .with_http_connector(Connector::new(http)))
    }

    fn gcs(
        &self,
        address: &BucketAddress,
        http: &Http,
    ) -> Result<GoogleCloudStorageBuilder, SourceError> {
        let mut builder = GoogleCloudStorageBuilder::new();
        for (key, value) in self.of::<GoogleConfigKey>(&GOOGLE) {
            builder = builder.with_config(key, value);
        }
        if let Some(host) = self.variables.get("STORAGE_EMULATOR_HOST") {
            let base = match host.contains("://") {
                true => host.trim_end_matches('/').to_owned(),
                false => format!("http://{host}"),
            };
            builder = builder
                .with_config(GoogleConfigKey::BaseUrl, base)
                .with_config(GoogleConfigKey::SkipSignature, "true");
        }
        Ok(builder
            .with_bucket_name(&address.bucket)
            .with_retry(self.retry())
            .with_http_connector(Connector::new(http)))
    }

    fn azure(
        &self,
        address: &BucketAddress,
        http: &Http,
    ) -> Result<MicrosoftAzureBuilder, SourceError> {
        let mut builder = MicrosoftAzureBuilder::new();
        if let Some(text) = self.variables.get("AZURE_STORAGE_CONNECTION_STRING") {
            for (key, value) in connection_string(text) {
                builder = builder.with_config(key, value);
            }
        }
        let of_cli = [
            ("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName),
            ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
        ];
        for (name, key) in of_cli {
            if let Some(value) = self.variables.get(name) {
                builder = builder.with_config(key, value);
            }
        }
        for (key, value) in self.of::<AzureConfigKey>(&AZURE) {
            builder = builder.with_config(key, value);
        }
        let account = builder.get_config_value(&AzureConfigKey::AccountName);
        let emulator = self.variables.get("AZURE_STORAGE_USE_EMULATOR");
        if account.is_none() && emulator.is_none() {
            let detail = "whose account it is, is not said: set AZURE_STORAGE_ACCOUNT_NAME";
            return Err(BucketError::settings(address, detail).into());
        }
        Ok(builder
            .with_container_name(&address.bucket)
            .with_allow_http(true)
            .with_retry(self.retry())
            .with_http_connector(Connector::new(http)))
    }

    /// The variables of one cloud that are set, by the keys that they are known by.
    fn of<K: std::str::FromStr>(&self, names: &[&str]) -> Vec<(K, &str)> {
        let set = names.iter().filter_map(|&name| {
            let key = name.to_ascii_lowercase().parse().ok()?;
            Some((key, self.variables.get(name)?.as_str()))
        });
        set.collect()
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: self.retry.first_pause,
                max_backoff: self.retry.longest_pause,
                base: 2.0,
            },
            max_retries: self.retry.attempts.saturating_sub(1) as usize,
            ..RetryConfig::default()
        }
    }
}

/// What a connection string of Azure says (`KEY=VALUE;…`).
fn connection_string(text: &str) -> Vec<(AzureConfigKey, String)> {
    let mut suffix = None;
    let mut account = None;
    let mut found = Vec::new();
    for (name, value) in text.split(';').filter_map(|part| part.split_once('=')) {
        let key = match name.trim() {
            "AccountName" => {
                account = Some(value);
                AzureConfigKey::AccountName
            }
            "AccountKey" => AzureConfigKey::AccessKey,
            "SharedAccessSignature" => AzureConfigKey::SasKey,
            "BlobEndpoint" => AzureConfigKey::Endpoint,
            "EndpointSuffix" => {
                suffix = Some(value);
                continue;
            }
            _ => continue,
        };
        found.push((key, value.to_owned()));
    }
    let has_endpoint = found
        .iter()
        .any(|(key, _)| *key == AzureConfigKey::Endpoint);
    if let (Some(account), Some(suffix), false) = (account, suffix, has_endpoint) {
        let endpoint = format!("https://{account}.blob.{suffix}");
        found.push((AzureConfigKey::Endpoint, endpoint));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_one_that_the_crate_knows() {
        fn known<K: std::str::FromStr>(names: &[&str]) {
            for name in names {
                let key: Result<K, _> = name.to_ascii_lowercase().parse();
                assert!(key.is_ok(), "{name}");
            }
        }
        known::<AmazonS3ConfigKey>(&AWS);
        known::<GoogleConfigKey>(&GOOGLE);
        known::<AzureConfigKey>(&AZURE);
    }

    #[test]
    fn a_connection_string_names_account_key_and_endpoint() {
        let text = "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=a2V5==;EndpointSuffix=core.windows.net";
        let found: BTreeMap<String, String> = connection_string(text)
            .into_iter()
            .map(|(key, value)| (format!("{key:?}"), value))
            .collect();
        assert_eq!(found["AccountName"], "me");
        assert_eq!(found["AccessKey"], "a2V5==");
        assert_eq!(found["Endpoint"], "https://me.blob.core.windows.net");
    }

    #[test]
    fn secrets_are_not_shown() {
        let environment =
            Environment::new(|name| (name == "AWS_SECRET_ACCESS_KEY").then(|| "hidden".to_owned()));
        let settings = BucketSettings::from_environment(&environment, Retry::default()).unwrap();
        let shown = format!("{settings:?}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("hidden"));
    }
}
