//! How far a download or an import is: a bar on a terminal, lines of the log elsewhere.

use std::{
    io::{self, IsTerminal},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use patchlight_escape::Excerpt;
use patchlight_sources::{Observer, Progress};

/// Between two lines of the log about one step.
const EVERY: Duration = Duration::from_secs(10);

/// Shows how far a fetch and an import are.
#[derive(Debug)]
pub struct ProgressLine {
    bar: Option<ProgressBar>,
    /// The step that is under way, and when it was last said.
    said: Mutex<Option<(String, Instant)>>,
}

impl ProgressLine {
    /// A bar if standard error is a terminal.
    #[expect(
        clippy::new_without_default,
        reason = "it looks at the process's standard error"
    )]
    pub fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self {
            bar: is_terminal.then(|| ProgressBar::new(0)),
            said: Mutex::new(None),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Whether a line is due: the step is new, or it was long ago.
    fn is_due(&self, step: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said
            .as_ref()
            .is_none_or(|(last, at)| last != step || at.elapsed() >= EVERY);
        if due {
            *said = Some((step.to_owned(), Instant::now()));
        }
        due
    }

    fn show(&self, step: &str, template: &str, done: u64, total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        if self.is_due(step) {
            // The templates are constants; were one wrong, the default bar would do.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.reset();
            bar.set_message(step.to_owned());
        }
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(done);
    }
}

impl Observer for ProgressLine {
    fn progress(&self, progress: Progress<'_>) {
        match progress {
            Progress::Download { file, done, total } => {
                let file = Excerpt(file).to_string();
                let template = "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
                self.show(&file, template, done, total);
                if self.bar.is_none() && self.is_due(&file) {
                    tracing::info!(file, bytes = done, of = total, "downloading");
                }
            }
            Progress::Import { phase, done, total } => {
                self.show(
                    phase,
                    "{msg} [{bar:40}] {pos}/{len} {elapsed}",
                    done as u64,
                    Some(total as u64),
                );
                if self.bar.is_none() && self.is_due(phase) {
                    tracing::info!(phase, done, of = total, "importing");
                }
            }
        }
    }

    fn note(&self, text: &str) {
        let say = || tracing::warn!("{text}");
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}
