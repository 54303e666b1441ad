//! The classes' names, byte for byte as the checkpoint has them.

/// One label per class id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Reads `labels.txt`: one label a line, the last line's end optional.
    ///
    /// # Errors
    /// When the text is not UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|why| format!("not UTF-8: {why}"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Ok(Self(text.split('\n').map(str::to_owned).collect()))
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of a class; empty for an id that does not exist.
    pub fn name(&self, class_id: usize) -> &str {
        self.0.get(class_id).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_byte_for_byte() {
        let labels = Labels::parse(" tabby, tabby cat \n\nköttbulle\r\n".as_bytes()).unwrap();
        assert_eq!(labels.len(), 3);
        assert_eq!(labels.name(0), " tabby, tabby cat ");
        assert_eq!(labels.name(1), "");
        assert_eq!(labels.name(2), "köttbulle\r");
    }

    #[test]
    fn last_line_needs_no_end() {
        assert_eq!(
            Labels::parse(b"a\nb").unwrap(),
            Labels::parse(b"a\nb\n").unwrap()
        );
    }

    #[test]
    fn other_encodings_are_refused() {
        assert!(Labels::parse(b"k\xf6ttbulle\n").is_err());
    }
}
