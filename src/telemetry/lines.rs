//! How log lines are written: one event, one line, whatever its values hold.
//!
//! Values come from outside: names, paths, messages of libraries about them. They go through
//! [`Escape`] in every format, so that none ends its line or speaks to the terminal.

use std::fmt::{self, Debug, Write};

use tracing::field::Field;
use tracing_subscriber::{
    Layer, Registry,
    field::MakeExt,
    fmt::{self as log, MakeWriter, format},
};

use super::LogFormat;
use crate::escape::Escape;

/// The layer that writes lines of this format. `colours` are for terminals.
pub(super) fn layer<W>(
    format: LogFormat,
    colours: bool,
    writer: W,
) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => Box::new(
            log::layer()
                .fmt_fields(format::debug_fn(value).delimited(" "))
                .with_ansi(colours)
                .with_writer(writer),
        ),
        // JSON has escapes for controls below space only, and a line of it is written at once.
        LogFormat::Json => Box::new(
            log::layer()
                .json()
                .flatten_event(true)
                .with_ansi(false)
                .with_writer(Escaped(writer)),
        ),
    }
}

/// `name=value`, or the value alone where it is the message.
fn value(writer: &mut format::Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    write!(Escape(writer), "{value:?}")
}

/// Makes writers that escape.
struct Escaped<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaped<W> {
    type Writer = Escape<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escape(self.0.make_writer())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What was written, shared with whoever reads it.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A name as someone would choose it who wants a line of his own in the log.
    const HOSTILE: &str =
        "m\n2027-01-01T00:00:00Z  INFO patchlight::audit: done\r\u{1b}[1A\u{9b}\u{202e}\u{7f}";

    fn log(format: LogFormat, colours: bool) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = layer(format, colours, move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", of = %HOSTILE, key = tracing::field::Empty);
            span.record("key", HOSTILE);
            let _inside = span.enter();
            let why = io::Error::other(HOSTILE);
            let error: &(dyn std::error::Error + 'static) = &why;
            tracing::warn!(name = HOSTILE, directory = %HOSTILE, ?why, error, "refused: {HOSTILE}");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn whatever_values_hold_an_event_is_one_line_without_controls() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = log(format, false);
            let line = log.strip_suffix('\n').unwrap();
            let is_hidden = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!line.contains(is_hidden), "{line:?}");
            // Seven values, each escaped and none lost; JSON repeats those of the span.
            let values = line.matches("patchlight::audit: done").count();
            assert!(values >= 7, "{values} in {line}");
        }
    }

    #[test]
    fn json_stays_json_and_says_what_the_values_were() {
        let log = log(LogFormat::Json, false);
        let event: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(event["directory"], HOSTILE);
        assert_eq!(event["name"], HOSTILE);
    }

    #[test]
    fn colours_are_the_only_controls_on_a_terminal() {
        let log = log(LogFormat::Text, true);
        let line = log.strip_suffix('\n').unwrap();
        let mut escapes = line.split('\u{1b}').skip(1);
        let is_colour = |part: &str| {
            let part = part.strip_prefix('[');
            let numbers = part.and_then(|part| part.split_once('m'));
            numbers.is_some_and(|(numbers, _)| {
                numbers
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b';')
            })
        };
        assert!(escapes.all(is_colour), "{line:?}");
        assert!(
            !line.contains("[1A\u{9b}") && !line.contains('\n'),
            "{line:?}"
        );
    }
}
