//! The classes' names, byte for byte as the checkpoint has them.

use std::str::Utf8Error;

use super::manifest::MultilineLabel;

/// Reason labels cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// The file is in another encoding.
    #[error("not UTF-8: {0}")]
    NotUtf8(#[from] Utf8Error),
    /// The manifest has a label for a class that the file lacks.
    #[error("a label for class {class}, which does not exist")]
    NoSuchClass {
        /// Its id.
        class: usize,
    },
    /// The model has another number of classes.
    #[error("{labels} labels for {classes} classes")]
    Count {
        /// In the file.
        labels: usize,
        /// In the manifest.
        classes: usize,
    },
}

/// One label per class id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Reads `labels.txt`: one label a line, the last line's end optional.
    ///
    /// # Errors
    /// When the text is not UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, LabelError> {
        let text = str::from_utf8(bytes)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Ok(Self(text.split('\n').map(str::to_owned).collect()))
    }

    /// Replaces the placeholders of labels that span several lines.
    ///
    /// # Errors
    /// If one is of a class that does not exist.
    pub fn with_multiline(mut self, whole: &[MultilineLabel]) -> Result<Self, LabelError> {
        for MultilineLabel { class, label } in whole {
            let line = self.0.get_mut(*class);
            line.ok_or(LabelError::NoSuchClass { class: *class })?
                .clone_from(label);
        }
        Ok(self)
    }

    /// The same, if there is one for each of so many classes.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn for_classes(self, classes: usize) -> Result<Self, LabelError> {
        match self.len() {
            labels if labels == classes => Ok(self),
            labels => Err(LabelError::Count { labels, classes }),
        }
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
        assert_eq!(
            labels.with_multiline(&[whole(2)]),
            Err(LabelError::NoSuchClass { class: 2 })
        );
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
        let error = Labels::parse(b"k\xf6ttbulle\n").unwrap_err();
        assert!(matches!(error, LabelError::NotUtf8(at) if at.valid_up_to() == 1));
    }

    #[test]
    fn there_is_a_label_for_each_class() {
        let labels = Labels::parse(b"a\nb\n").unwrap();
        assert_eq!(labels.clone().for_classes(2), Ok(labels.clone()));
        let error = labels.for_classes(3).unwrap_err();
        assert_eq!(error.to_string(), "2 labels for 3 classes");
    }
}
