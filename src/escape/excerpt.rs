//! A bounded piece of text: its beginning, its end, and what was left out between them.

use std::{
    collections::VecDeque,
    fmt::{self, Display, Formatter, Write},
};

use super::{Escape, escaped, is_active};

/// Shows text from outside, escaped and in at most about a hundred characters. Beginning and end
/// stay: the end of a library's message often says where in the input it was.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<T>(pub T);

impl<T: Display> Display for Excerpt<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut cut = Cut::new(64, 36);
        write!(cut, "{}", self.0)?;
        f.write_str(&cut.finish())
    }
}

/// Takes text of any length, and keeps so many characters of its beginning and of its end, counted
/// as they are shown. The time that it takes does not grow with the length of a piece.
#[derive(Debug)]
pub struct Cut {
    beginning: String,
    left: usize,
    end: VecDeque<char>,
    shown: usize,
    max_end: usize,
    is_cut: bool,
}

impl Cut {
    /// So many characters of each.
    pub fn new(max_beginning: usize, max_end: usize) -> Self {
        Self {
            beginning: String::new(),
            left: max_beginning,
            end: VecDeque::new(),
            shown: 0,
            max_end,
            is_cut: false,
        }
    }

    /// The text, with `…` where something is missing.
    pub fn finish(self) -> String {
        let Self {
            mut beginning,
            end,
            is_cut,
            ..
        } = self;
        if is_cut {
            beginning.push('…');
        }
        let mut text = Escape(beginning);
        for character in end {
            // Writing to a string cannot fail.
            let _ = text.write_char(character);
        }
        text.0
    }

    fn push(&mut self, character: char) {
        let width = width(character);
        if self.end.is_empty() && width <= self.left {
            self.left -= width;
            let _ = Escape(&mut self.beginning).write_char(character);
            return;
        }
        self.end.push_back(character);
        self.shown += width;
        while self.shown > self.max_end {
            let Some(first) = self.end.pop_front() else {
                break;
            };
            self.shown -= self::width(first);
            self.is_cut = true;
            // What comes now belongs to the end, whatever is left of the beginning.
            self.left = 0;
        }
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut characters = text.chars();
        while self.end.is_empty() && self.left > 0 {
            match characters.next() {
                Some(character) => self.push(character),
                None => return Ok(()),
            }
        }
        // Of a long rest only the last characters can stay.
        let rest = characters.as_str();
        let mut from = rest.len().saturating_sub(4 * (self.max_end + 1));
        while !rest.is_char_boundary(from) {
            from += 1;
        }
        rest[from..]
            .chars()
            .for_each(|character| self.push(character));
        Ok(())
    }
}

/// How many characters it is shown as.
fn width(character: char) -> usize {
    match is_active(character) {
        true => escaped(character).len(),
        false => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_characters_stay_as_they_are() {
        let text = "0123456789".repeat(10);
        assert_eq!(Excerpt(&text).to_string(), text);
        assert_eq!(Excerpt("").to_string(), "");
    }

    #[test]
    fn longer_text_keeps_its_beginning_and_its_end() {
        let text = format!("{}{}{}", "a".repeat(64), "b".repeat(1000), "c".repeat(36));
        let expected = format!("{}…{}", "a".repeat(64), "c".repeat(36));
        assert_eq!(Excerpt(&text).to_string(), expected);
    }

    #[test]
    fn escapes_count_as_they_are_shown() {
        let shown = Excerpt("\u{7f}".repeat(10 << 20)).to_string();
        // Ten escapes of six characters fit into 64, six into 36.
        let del = "\\u007f";
        assert_eq!(shown, format!("{}…{}", del.repeat(10), del.repeat(6)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_in_any_pieces_is_cut_alike(pieces: Vec<String>) {
            let mut cut = Cut::new(64, 36);
            for piece in &pieces {
                cut.write_str(piece).unwrap();
            }
            let at_once = Excerpt(pieces.concat()).to_string();
            proptest::prop_assert_eq!(&cut.finish(), &at_once);
            proptest::prop_assert!(at_once.chars().count() <= 101);
            proptest::prop_assert!(!at_once.chars().any(is_active));
        }
    }
}
