//! Class labels: one a line, UTF-8.

use std::{fs, path::Path};

use super::ImportError;

/// Reads a file of labels.
pub(super) fn read(path: &Path) -> Result<Vec<String>, ImportError> {
    let text = fs::read_to_string(path).map_err(ImportError::file(path, "read it as UTF-8"))?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

/// Those of a file that was named, or else the source's own, or else numbers; and whether they are
/// names.
pub(super) fn settle(
    given: Option<&Path>,
    own: Option<Vec<String>>,
    classes: usize,
) -> Result<(Vec<String>, bool), ImportError> {
    let labels = given.map(read).transpose()?.or(own);
    let named = labels.is_some();
    let labels = labels.unwrap_or_else(|| numbered(classes));
    check(&labels, classes)?;
    Ok((labels, named))
}

/// Names for classes that have none.
pub(super) fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

/// Refuses labels that do not fit the classes or a file of lines.
pub(super) fn check(labels: &[String], classes: usize) -> Result<(), ImportError> {
    if labels.len() != classes {
        return Err(ImportError::Labels(format!(
            "there are {} labels for {classes} classes; give one a line with --labels FILE",
            labels.len()
        )));
    }
    for (class, label) in labels.iter().enumerate() {
        if label.trim().is_empty() {
            return Err(ImportError::Labels(format!(
                "the label of class {class} is empty"
            )));
        }
        if label.chars().any(char::is_control) {
            return Err(ImportError::Labels(format!(
                "the label of class {class} contains a line break or another control character: {label:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    fn message(labels: &[&str], classes: usize) -> String {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        check(&labels, classes).map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn names_the_faulty_label() {
        assert_eq!(message(&["tabby, tabby cat", "Äpfel"], 2), "");
        assert!(message(&["cat"], 2).contains("1 labels for 2 classes"));
        assert!(message(&["cat", " "], 2).contains("class 1 is empty"));
        assert!(
            message(&["cat\ndog"], 1).contains(
                r#"class 0 contains a line break or another control character: "cat\ndog""#
            )
        );
    }
}
