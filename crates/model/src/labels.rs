//! The classes' names, byte for byte as the checkpoint has them.

use super::manifest::MultilineLabel;

/// One label per class id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Reads `labels.txt`: one label a line, the last line's end optional.
    ///
    /// # Errors
    /// When the text is not UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Ok(Self(text.split('\n').map(str::to_owned).collect()))
    }

    /// Replaces the placeholders of labels that span several lines.
    ///
    /// # Errors
    /// If one is of a class that does not exist.
    pub fn with_multiline(mut self, whole: &[MultilineLabel]) -> Result<Self, String> {
        for MultilineLabel { class, label } in whole {
            match self.0.get_mut(*class) {
                Some(line) => line.clone_from(label),
                None => return Err(format!("a label for class {class}, which does not exist")),
            }
        }
        Ok(self)
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
    fn labels_of_several_lines_come_from_elsewhere() {
        let whole = |class| MultilineLabel {
            class,
            label: "b\n\r\n\0".to_owned(),
        };
        let labels = Labels::parse(b"a\nb  \n").unwrap();
        let labels = labels.with_multiline(&[whole(1)]).unwrap();
        assert_eq!((labels.name(0), labels.name(1)), ("a", "b\n\r\n\0"));
        assert!(labels.with_multiline(&[whole(2)]).is_err());
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
