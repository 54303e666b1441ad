//! The hub's settings: the variables that its own client reads, with their meaning there.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{Environment, SourceError};

/// Where the hub is, who asks, and where its files are kept.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_HUB_CACHE`; `None` if the environment names no place.
    pub cache: Option<PathBuf>,
    /// `HF_TOKEN`, or the content of the token file.
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`: nobody is asked.
    pub offline: bool,
}

/// A secret, and where it comes from.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    secret: String,
    /// A variable or a file, for messages.
    pub from: String,
}

impl Token {
    /// What is sent.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.from)
    }
}

impl HubSettings {
    /// Reads the environment and, where that names none, the token file.
    ///
    /// # Errors
    /// If the token file is there and cannot be read: without it a private model would seem not to
    /// be there.
    pub fn from_environment(environment: &Environment<'_>) -> Result<Self, SourceError> {
        let home = environment.path("HF_HOME").or_else(|| {
            let caches = environment
                .path("XDG_CACHE_HOME")
                .or_else(|| Some(environment.home()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let endpoint = environment
            .get("HF_ENDPOINT")
            .unwrap_or_else(|| "https://huggingface.co".to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: environment
                .path("HF_HUB_CACHE")
                .or_else(|| environment.path("HUGGINGFACE_HUB_CACHE"))
                .or_else(|| Some(home.as_ref()?.join("hub"))),
            token: token(environment, home.as_deref())?,
            offline: environment.is_true("HF_HUB_OFFLINE")
                || environment.is_true("TRANSFORMERS_OFFLINE"),
        })
    }

    /// # Errors
    /// If there is no place for files.
    pub(crate) fn cache(&self) -> Result<&Path, SourceError> {
        self.cache
            .as_deref()
            .ok_or(SourceError::NoCache("set HF_HUB_CACHE, HF_HOME or HOME"))
    }
}

fn token(environment: &Environment<'_>, home: Option<&Path>) -> Result<Option<Token>, SourceError> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(text) = environment.get(name)
            && let Some(token) = clean(&text, name.to_owned())
        {
            return Ok(Some(token));
        }
    }
    if environment.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let file = environment
        .path("HF_TOKEN_PATH")
        .or_else(|| Some(home?.join("token")));
    let Some(file) = file else { return Ok(None) };
    match fs::read_to_string(&file) {
        Ok(text) => Ok(clean(&text, file.display().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceError::file(&file, "read the hub's token from it")(
            error,
        )),
    }
}

/// Without line breaks, which no header can have; nothing if nothing is left.
fn clean(text: &str, from: String) -> Option<Token> {
    let secret = text.replace(['\r', '\n'], "");
    let secret = secret.trim().to_owned();
    (!secret.is_empty()).then_some(Token { secret, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let environment = Environment::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        HubSettings::from_environment(&environment).unwrap()
    }

    #[test]
    fn each_variable_goes_before_the_more_general_one() {
        let home = ("HOME", "/nowhere/u");
        let cache = |variables: &[(&str, &str)]| settings(variables).cache.unwrap();
        assert_eq!(
            cache(&[home]),
            Path::new("/nowhere/u/.cache/huggingface/hub")
        );
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(cache(&[home, xdg]), Path::new("/x/huggingface/hub"));
        let hf = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf]), Path::new("/nowhere/u/hf/hub"));
        let hub = ("HF_HUB_CACHE", "/h");
        assert_eq!(cache(&[home, xdg, hf, hub]), Path::new("/h"));
    }

    #[test]
    fn the_variable_goes_before_the_file_and_neither_has_line_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        fs::write(folder.path().join("token"), "from-file\n").unwrap();
        let of = |variables: &[(&str, &str)]| settings(variables).token.unwrap().secret;
        assert_eq!(of(&[("HF_HOME", home)]), "from-file");
        assert_eq!(of(&[("HF_HOME", home), ("HF_TOKEN", "typed\r\n")]), "typed");
        let off = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        assert_eq!(settings(&[("HF_HOME", home), off]).token, None);
    }

    #[test]
    fn a_secret_is_not_shown() {
        let settings = settings(&[("HF_TOKEN", "hf_secret"), ("HF_HOME", "/nowhere")]);
        assert!(!format!("{settings:?}").contains("hf_secret"));
    }

    #[test]
    fn an_endpoint_with_a_slash_is_the_same_endpoint() {
        let settings = settings(&[("HF_ENDPOINT", "http://mirror:8080/")]);
        assert_eq!(settings.endpoint, "http://mirror:8080");
    }
}
