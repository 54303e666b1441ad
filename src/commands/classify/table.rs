//! Labels as lines for people: files on the left, scores in a column.

use std::fmt::Write;

use patchlight_model::Prediction;

/// From so many images on, each has one line, however many labels it has.
const MANY: usize = 20;

/// The longest name that others are aligned with.
const WIDEST: usize = 60;

/// How images become lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Characters of the first column.
    width: usize,
    /// Whether all labels of an image are on its line.
    one_line: bool,
}

impl Table {
    /// For images of these names.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (mut width, mut count) = (0, 0);
        for name in names {
            width = width.max(name.chars().count().min(WIDEST));
            count += 1;
        }
        Self {
            width,
            one_line: count >= MANY,
        }
    }

    /// An image's lines, each with its end.
    pub(super) fn labels(self, name: &str, predictions: &[Prediction]) -> String {
        if predictions.is_empty() {
            return self.note(name, "no label");
        }
        let between = match self.one_line {
            true => String::new(),
            false => format!("\n{:width$}", "", width = self.width),
        };
        let mut lines = format!("{name:width$}", width = self.width);
        for (number, prediction) in predictions.iter().enumerate() {
            if number > 0 {
                lines.push_str(&between);
            }
            // Writing to a string does not fail.
            let percent = 100.0 * prediction.score;
            let label = printable(&prediction.label);
            let _ = write!(lines, "  {percent:6.2} %  {label}");
        }
        lines.push('\n');
        lines
    }

    /// A line that says something else of an image.
    pub(super) fn note(self, name: &str, what: &str) -> String {
        format!("{name:width$}  {what}\n", width = self.width)
    }
}

/// A label on one line of a terminal: control characters as escapes. A label may hold any.
fn printable(label: &str) -> String {
    let mut shown = String::with_capacity(label.len());
    for character in label.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(of: &[(&str, f32)]) -> Vec<Prediction> {
        let labels = of.iter().enumerate();
        let labels = labels.map(|(class_id, &(label, score))| Prediction {
            class_id,
            label: label.to_owned(),
            score,
        });
        labels.collect()
    }

    #[test]
    fn control_characters_of_a_label_are_escaped() {
        assert_eq!(printable("a\n\u{1b}[31m \"ä\""), "a\\n\\u{1b}[31m \"ä\"");
    }

    #[test]
    fn scores_stand_in_one_column_whatever_the_names() {
        let table = Table::of(["a.jpg", "longer.jpg"].into_iter());
        let two = predictions(&[("dog", 0.9), ("red fox", 0.0512)]);
        assert_eq!(
            table.labels("a.jpg", &two),
            "a.jpg        90.00 %  dog\n              5.12 %  red fox\n"
        );
        assert_eq!(
            table.labels("longer.jpg", &two[..1]),
            "longer.jpg   90.00 %  dog\n"
        );
        assert_eq!(
            table.note("a.jpg", "is no image"),
            "a.jpg       is no image\n"
        );
    }

    #[test]
    fn many_images_have_a_line_each() {
        let names: Vec<String> = (0..MANY).map(|number| format!("{number:02}.jpg")).collect();
        let table = Table::of(names.iter().map(String::as_str));
        let two = predictions(&[("dog", 0.9), ("fox", 0.05)]);
        assert_eq!(
            table.labels("07.jpg", &two),
            "07.jpg   90.00 %  dog    5.00 %  fox\n"
        );
    }

    #[test]
    fn one_very_long_name_does_not_push_the_others_away() {
        let long = "x".repeat(300);
        let table = Table::of(["a.jpg", &long].into_iter());
        let line = table.labels("a.jpg", &predictions(&[("dog", 1.0)]));
        assert_eq!(line.find("100.00"), Some(WIDEST + 2));
        assert!(table.note(&long, "n").starts_with(&long));
    }

    #[test]
    fn an_image_without_labels_says_so() {
        let table = Table::of(["a.jpg"].into_iter());
        assert_eq!(table.labels("a.jpg", &[]), "a.jpg  no label\n");
    }
}
