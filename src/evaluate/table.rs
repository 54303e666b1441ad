//! The summary as a Markdown table.

use std::fmt::Write;

use super::{Measure, Row, Statistic, Summary, Verdict};

/// A Markdown table with a row for each map, and what its marks mean. A dagger marks what is no
/// better than a random map, a double dagger what is worse.
pub fn table(summary: &Summary) -> String {
    let mut text = String::from(
        "| map | strongest patch on the object | … in its box | mass on the object | deletion area ↓ \
         | insertion area ↑ |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for row in &summary.rows {
        let cells: Vec<String> = Measure::ALL
            .into_iter()
            .zip(&row.measures)
            .map(|(measure, statistic)| cell(row, measure, statistic))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} |", row.name(), cells.join(" | "));
    }
    let verdicts = || {
        let rows = summary.rows.iter().filter(|row| row.kind.is_some());
        rows.flat_map(|row| &row.measures).map(Statistic::verdict)
    };
    let mut notes = vec!["± is half of the 95 % interval of a mean over images".to_owned()];
    if verdicts().any(|verdict| verdict == Verdict::NoBetter) {
        notes.push(
            "† no better than a random map: the interval of the difference holds 0".to_owned(),
        );
    }
    if verdicts().any(|verdict| verdict == Verdict::Worse) {
        notes.push("‡ worse than a random map".to_owned());
    }
    let _ = writeln!(text, "\n{}.", notes.join("; "));
    text
}

fn cell(row: &Row, measure: Measure, statistic: &Statistic) -> String {
    let Statistic { mean, margin, .. } = statistic;
    let mark = match statistic.verdict() {
        _ if row.kind.is_none() => "",
        Verdict::Better => "",
        Verdict::NoBetter => " †",
        Verdict::Worse => " ‡",
    };
    match measure {
        Measure::Deletion | Measure::Insertion => format!("{mean:.3} ± {margin:.3}{mark}"),
        Measure::OnObject | Measure::InBox | Measure::Mass => {
            format!("{:.1} % ± {:.1}{mark}", 100.0 * mean, 100.0 * margin)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evaluate::MapMethod, perturb::Curve};

    fn row(kind: Option<MapMethod>, gain: f64) -> Row {
        let statistic = Statistic {
            mean: 0.5,
            margin: 0.02,
            gain,
            gain_margin: 0.1,
        };
        Row {
            kind,
            measures: vec![statistic; 5],
            deletion: Curve::between(1.0, &[], 0.0),
            insertion: Curve::between(0.0, &[], 1.0),
        }
    }

    fn table_of(rows: Vec<Row>) -> String {
        table(&Summary {
            images: 3,
            right: None,
            rows,
        })
    }

    #[test]
    fn a_map_no_better_than_random_is_marked_with_a_note() {
        let text = table_of(vec![row(Some(MapMethod::Rollout), 0.05), row(None, 0.0)]);
        assert!(text.contains("| rollout | 50.0 % ± 2.0 † |"), "{text}");
        assert!(text.contains("| random | 50.0 % ± 2.0 |"), "{text}");
        assert!(text.contains("no better than a random map") && !text.contains("worse"));
    }

    #[test]
    fn a_better_map_has_no_mark_and_a_worse_one_its_own() {
        let text = table_of(vec![row(Some(MapMethod::Rollout), 0.2)]);
        assert!(!text.contains('†') && !text.contains('‡'), "{text}");
        assert!(table_of(vec![row(Some(MapMethod::Rollout), -0.2)]).contains("0.500 ± 0.020 ‡"));
    }
}
