//! The profile of AWS's own tools: `~/.aws/credentials` and `~/.aws/config`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use object_store::aws::AmazonS3ConfigKey;

use crate::{BucketAddress, BucketError, Environment, SourceError};

/// What the files say of the profile that is meant.
#[derive(Clone, Default)]
pub(super) struct Profile {
    name: String,
    /// Whether it was asked for, and so has to be there.
    named: bool,
    keys: Option<(String, String, Option<String>)>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    /// A setting that needs AWS's own tools.
    foreign: Option<&'static str>,
}

/// Settings by which a profile gets its keys from elsewhere.
const FOREIGN: [&str; 4] = [
    "sso_session",
    "sso_start_url",
    "credential_process",
    "source_profile",
];

impl Profile {
    /// Reads `AWS_PROFILE` (`default`) from both files, where they are.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub(super) fn from_environment(environment: &Environment<'_>) -> Result<Self, SourceError> {
        let named = environment
            .get("AWS_PROFILE")
            .or_else(|| environment.get("AWS_DEFAULT_PROFILE"));
        let file = |variable: &str, usual: &str| -> Option<PathBuf> {
            environment
                .path(variable)
                .or_else(|| Some(environment.home()?.join(".aws").join(usual)))
        };
        let mut profile = Self {
            named: named.is_some(),
            name: named.unwrap_or_else(|| "default".to_owned()),
            ..Self::default()
        };
        let mut settings = BTreeMap::new();
        // The file of credentials goes before the other one, as with AWS's tools.
        for path in [
            file("AWS_CONFIG_FILE", "config"),
            file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ] {
            if let Some(text) = path.as_deref().map(read).transpose()?.flatten() {
                settings.extend(section(&text, &profile.name));
            }
        }
        let take = |name: &str| settings.get(name).cloned();
        profile.region = take("region");
        profile.endpoint = take("endpoint_url");
        if let (Some(id), Some(secret)) = (take("aws_access_key_id"), take("aws_secret_access_key"))
        {
            profile.keys = Some((id, secret, take("aws_session_token")));
        }
        profile.foreign = FOREIGN
            .into_iter()
            .find(|name| settings.contains_key(*name));
        Ok(profile)
    }

    /// Keys, if it has any.
    ///
    /// # Errors
    /// If it was asked for and has none.
    pub(super) fn credentials(
        &self,
        address: &BucketAddress,
    ) -> Result<Vec<(AmazonS3ConfigKey, &str)>, SourceError> {
        if let Some((id, secret, token)) = &self.keys {
            let mut keys = vec![
                (AmazonS3ConfigKey::AccessKeyId, id.as_str()),
                (AmazonS3ConfigKey::SecretAccessKey, secret.as_str()),
            ];
            keys.extend(
                token
                    .as_deref()
                    .map(|token| (AmazonS3ConfigKey::Token, token)),
            );
            return Ok(keys);
        }
        let name = &self.name;
        match self.foreign {
            Some(setting) => Err(BucketError::settings(
                address,
                format!(
                    "the profile {name} has {setting}, which needs AWS's own tool: run \
                     `eval \"$(aws configure export-credentials --profile {name} --format env)\"`"
                ),
            )
            .into()),
            None if self.named => Err(BucketError::settings(
                address,
                format!("AWS_PROFILE is {name}, and no file has keys for it"),
            )
            .into()),
            None => Ok(Vec::new()),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, SourceError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceError::file(path, "read AWS's settings from it")(
            error,
        )),
    }
}

/// The settings under `[NAME]` or `[profile NAME]`; those that are nested are left out.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let title = title.trim();
            let title = title.strip_prefix("profile ").map_or(title, str::trim);
            inside = title == name;
        } else if let (true, false, Some((key, value))) = (inside, is_nested, line.split_once('='))
        {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn profile(name: Option<&str>, credentials: &str, config: &str) -> Profile {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        fs::create_dir(folder.path().join(".aws")).unwrap();
        fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
        fs::write(folder.path().join(".aws/config"), config).unwrap();
        let environment = Environment::new(move |variable| match variable {
            "HOME" => Some(home.clone()),
            "AWS_PROFILE" => name.map(str::to_owned),
            _ => None,
        });
        Profile::from_environment(&environment).unwrap()
    }

    fn keys(profile: &Profile) -> Result<Vec<String>, String> {
        let Source::Bucket(address) = Source::parse("s3://b/k").unwrap() else {
            panic!("no bucket");
        };
        let found = profile.credentials(&address).map_err(|e| e.to_string())?;
        Ok(found
            .into_iter()
            .map(|(_, value)| value.to_owned())
            .collect())
    }

    const CREDENTIALS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\
                               # other\n[work]\naws_access_key_id=C\naws_secret_access_key=D\n\
                               aws_session_token=E\n";

    #[test]
    fn the_default_profile_and_a_named_one() {
        let config = "[default]\nregion = eu-west-1\ns3 =\n  region = nested\n\
                      [profile work]\nregion=us-east-2\nendpoint_url=http://minio:9000\n";
        let default = profile(None, CREDENTIALS, config);
        assert_eq!(keys(&default).unwrap(), ["A", "B="]);
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        let work = profile(Some("work"), CREDENTIALS, config);
        assert_eq!(keys(&work).unwrap(), ["C", "D", "E"]);
        assert_eq!(work.endpoint.as_deref(), Some("http://minio:9000"));
    }

    #[test]
    fn a_profile_that_is_not_there_or_needs_other_tools_says_so() {
        let error = keys(&profile(Some("none"), CREDENTIALS, "")).unwrap_err();
        assert!(error.contains("AWS_PROFILE is none"), "{error}");
        let sso = "[profile sso]\nsso_session = corp\n";
        let error = keys(&profile(Some("sso"), "", sso)).unwrap_err();
        assert!(error.contains("export-credentials"), "{error}");
        assert!(keys(&profile(None, "", "")).unwrap().is_empty());
    }
}
