//! Class labels: one a line, UTF-8, byte for byte as the source has them.

use std::path::Path;

use super::{ImportError, small_file};
use crate::model::manifest::WholeLabel;

/// Reads a file of labels. Only what editors add goes: a mark of the byte order, the ends of lines
/// as Windows writes them, and empty lines at the end.
fn read(path: &Path) -> Result<Vec<String>, ImportError> {
    lines(&small_file::text(path)?).map_err(|why| ImportError::malformed(path, why))
}

fn lines(text: &str) -> Result<Vec<String>, String> {
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .trim_end_matches(['\n', '\r']);
    let labels: Vec<String> = text.lines().map(str::to_owned).collect();
    match labels.iter().position(|label| label.trim().is_empty()) {
        Some(at) => Err(format!("line {} is empty; a label is expected", at + 1)),
        None => Ok(labels),
    }
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
    if labels.len() != classes {
        return Err(ImportError::Labels(format!(
            "there are {} labels for {classes} classes; give one a line with --labels FILE",
            labels.len()
        )));
    }
    Ok((labels, named))
}

/// Names for classes that have none.
pub(super) fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

/// Labels that are more than one line.
pub(super) fn whole(labels: &[String]) -> Vec<WholeLabel> {
    let whole = |(class, label): (usize, &String)| WholeLabel {
        class,
        label: label.clone(),
    };
    let labels = labels.iter().enumerate();
    let several = labels.filter(|(_, label)| label.contains('\n'));
    several.map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_spaces_and_lose_what_editors_add() {
        let found = lines("\u{feff}tabby, tabby cat \r\n Äpfel\ta\r\n\n").unwrap();
        assert_eq!(found, ["tabby, tabby cat ", " Äpfel\ta"]);
    }

    #[test]
    fn an_empty_line_is_named() {
        let why = lines("cat\n \ndog\n").unwrap_err();
        assert!(why.contains("line 2 is empty"), "{why}");
    }

    #[test]
    fn a_wrong_number_is_told() {
        let why = settle(None, Some(vec!["cat".to_owned()]), 2).unwrap_err();
        assert!(why.to_string().contains("1 labels for 2 classes"));
    }

    #[test]
    fn labels_of_several_lines_are_found() {
        let labels = ["a", "b\nc", "", "d\r"].map(str::to_owned);
        let expected = WholeLabel {
            class: 1,
            label: "b\nc".to_owned(),
        };
        assert_eq!(whole(&labels), [expected]);
    }
}
