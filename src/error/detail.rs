//! The text of an error.

use std::{
    fmt::{self, Display, Formatter, Write},
    ops::Deref,
};

use crate::escape::{Cut, Excerpt};

/// What an error says. However it comes about, it holds no control characters and at most about
/// five hundred others, so that nobody can be made to build, log or send a long one. What is quoted
/// from a request is an [`Excerpt`] within it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Detail(Box<str>);

impl Detail {
    /// The text that something is shown as.
    pub fn new(text: impl Display) -> Self {
        let mut cut = Cut::new(400, 100);
        // Only a Display that fails by itself does, and then what it said until then is kept.
        let _ = write!(cut, "{text}");
        Self(cut.finish().into())
    }

    /// What a client wrote.
    pub fn quoting(text: &str) -> Self {
        Self::new(Excerpt(text))
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<fmt::Arguments<'_>> for Detail {
    fn from(text: fmt::Arguments<'_>) -> Self {
        Self::new(text)
    }
}

impl Display for Detail {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Deref for Detail {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_forgets_to_cut_a_quotation_makes_a_short_text_all_the_same() {
        let name = "\u{7f}".repeat(10 << 20);
        let detail = Detail::from(format!("no model is called `{name}` here"));
        assert!(detail.len() <= 510, "{}", detail.len());
        assert!(detail.starts_with("no model is called `\\u007f"));
        assert!(detail.ends_with("\\u007f` here"));
    }

    #[test]
    fn a_line_of_its_own_cannot_be_written() {
        let detail = Detail::from("no such file: /m\n2027-01-01 INFO done\u{1b}[1A");
        assert_eq!(
            &*detail,
            "no such file: /m\\n2027-01-01 INFO done\\u001b[1A"
        );
    }
}
