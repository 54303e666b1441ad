//! Text from outside, made fit to be shown: in errors, in logs, on terminals.
//!
//! A newline in a model's name could write a line of its own into the log, an escape character
//! could move a terminal's cursor, and a mark that reverses the reading direction could make a name
//! look like another one. [`Escape`] writes such characters as JSON would, so that its output can be
//! put into a JSON string as it is; [`Excerpt`] also bounds the length.

mod excerpt;

use std::{
    fmt::{self, Display, Formatter, Write},
    io,
};

pub use self::excerpt::{Cut, Excerpt};

/// Writes characters that are not simply shown as `\n`, `\u001b` and the like.
///
/// As an [`io::Write`] it takes whole lines, and the newline at the end of what is written at a time
/// stays.
#[derive(Debug)]
pub struct Escape<W>(pub W);

impl<W: Write> Write for Escape<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_active) {
            let (plain, active) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = active.chars();
            if let Some(character) = characters.next() {
                self.0.write_str(&escaped(character))?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

impl<W: io::Write> io::Write for Escape<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (line, end) = match bytes.strip_suffix(b"\n") {
            Some(line) => (line, "\n"),
            None => (bytes, ""),
        };
        let mut text = Escape(String::with_capacity(bytes.len()));
        for chunk in line.utf8_chunks() {
            // Writing to a string cannot fail.
            let _ = text.write_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.0.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text.0.push_str(end);
        self.0.write_all(text.0.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Shows something with [`Escape`], however long it is.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escape(f), "{}", self.0)
    }
}

/// Whether a character does something to what displays it, or cannot be seen: controls (Unicode's
/// `Cc`), line and paragraph separators, marks of the reading direction, and what has no width.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A character as an escape of JSON (RFC 8259, section 7).
fn escaped(character: char) -> String {
    match character {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        other => {
            let mut units = [0; 2];
            let units = other.encode_utf16(&mut units).iter();
            units.map(|unit| format!("\\u{unit:04x}")).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use io::Write as _;

    use super::*;

    fn shown(text: &str) -> String {
        Escaped(text).to_string()
    }

    #[test]
    fn what_acts_on_a_terminal_or_a_line_is_written_as_json_would() {
        assert_eq!(shown("a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(shown("\u{1b}[2J\u{7f}\u{9b}"), "\\u001b[2J\\u007f\\u009b");
        assert_eq!(
            shown("a\u{202e}b\u{2028}\u{feff}"),
            "a\\u202eb\\u2028\\ufeff"
        );
        // U+E0001 lies beyond 16 bits: D800 + (D0001 >> 10), DC00 + (D0001 & 3FF).
        assert_eq!(shown("\u{e0001}"), "\\udb40\\udc01");
    }

    #[test]
    fn letters_quotes_and_backslashes_stay() {
        let text = "Größe “7” 猫 🐈 \\ `x` \"y\"";
        assert_eq!(shown(text), text);
    }

    #[test]
    fn a_line_keeps_its_end_and_nothing_else() {
        let mut log = Escape(Vec::new());
        log.write_all(b"one\ntwo\x1b\xff\n").unwrap();
        assert_eq!(log.0, "one\\ntwo\\u001b\u{fffd}\n".as_bytes());
    }
}
