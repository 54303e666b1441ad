//! What several modules of tests need.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use patchlight_import::CancelFlag;
use patchlight_model::manifest::Precision;
use patchlight_sources::{
    Content, Environment, Fetched, Fetcher, ImportChoice, ModelCache, Observer, PrecisionChoice,
    Prepared, Progress, Retry, Source, SourceError,
};
use tempfile::TempDir;

use crate::stand_in::StandIn;

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) RefCell<Vec<String>>);

impl Observer for Told {
    fn progress(&self, _: Progress<'_>) {}

    fn note(&self, text: &str) {
        self.0.borrow_mut().push(text.to_owned());
    }
}

/// A machine that has never seen the hub: an empty home.
pub(crate) struct Machine {
    pub(crate) home: TempDir,
    pub(crate) endpoint: String,
    pub(crate) token: Option<&'static str>,
    pub(crate) offline: bool,
    /// Other variables.
    pub(crate) variables: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn new(hub: &StandIn) -> Self {
        Self {
            home: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            endpoint: hub.endpoint(),
            token: None,
            offline: false,
            variables: Vec::new(),
        }
    }

    /// One that knows no hub, with these variables.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        Self {
            home: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            endpoint: "http://127.0.0.1:9".to_owned(),
            token: None,
            offline: false,
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    pub(crate) fn prepare(&self, address: &str) -> Result<Prepared, SourceError> {
        let source = Source::parse(address).unwrap();
        let cancel = CancelFlag::default();
        self.cache()
            .model_dir(&source, &float32(), &cancel, &Told::default())
    }

    pub(crate) fn fetcher(&self) -> Fetcher {
        let home = self.home.path().to_str().unwrap().to_owned();
        let others = self.variables.clone();
        let variables = [
            ("HOME", Some(home)),
            ("HF_ENDPOINT", Some(self.endpoint.clone())),
            ("HF_TOKEN", self.token.map(str::to_owned)),
            ("HF_HUB_OFFLINE", self.offline.then(|| "1".to_owned())),
        ];
        let lookup = move |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            let other = others.iter().find(|(known, _)| known == name);
            found
                .and_then(|(_, value)| value.clone())
                .or_else(|| other.map(|(_, value)| value.clone()))
        };
        let retry = Retry {
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(5),
            ..Retry::default()
        };
        let cache = self.home.path().join("patchlight");
        Fetcher::new(&Environment::new(lookup), Some(cache), retry).unwrap()
    }

    pub(crate) fn cache(&self) -> ModelCache {
        ModelCache::new(self.fetcher()).unwrap()
    }

    /// The hub's own cache.
    pub(crate) fn hub_cache(&self) -> PathBuf {
        self.home.path().join(".cache/huggingface/hub")
    }

    pub(crate) fn fetch(&self, address: &str) -> Result<Fetched, SourceError> {
        let source = Source::parse(address).unwrap();
        let fetched = self
            .fetcher()
            .fetch(&source, &CancelFlag::default(), &Told::default());
        fetched.map(|fetched| fetched.expect("an address is fetched"))
    }

    /// The message of a fetch that fails.
    pub(crate) fn refusal(&self, address: &str) -> String {
        self.fetch(address).unwrap_err().to_string()
    }
}

pub(crate) fn weights(fetched: &Fetched) -> &Path {
    match &fetched.content {
        Content::Checkpoint(weights) => weights,
        other @ Content::ModelDir(_) => panic!("{other:?} is no checkpoint"),
    }
}

pub(crate) fn float32() -> ImportChoice {
    ImportChoice {
        precision: PrecisionChoice::Fixed(Precision::Fp32),
        gpu: false,
        check: None,
    }
}

/// A tiny real checkpoint.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/goldens")
        .join(name)
}

/// All files below a directory, as relative paths.
pub(crate) fn tree(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => folders.push(path),
                false => {
                    let path = path.strip_prefix(directory).unwrap();
                    found.push(path.to_string_lossy().into_owned());
                }
            }
        }
    }
    found.sort();
    found
}
