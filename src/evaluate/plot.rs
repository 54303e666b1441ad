//! Deletion and insertion curves as an SVG image, in light and dark.

use std::fmt::Write;

use super::{Row, Summary};
use crate::perturb::Curve;

/// Width and height of one panel's axes, and the room around them, in SVG units.
const PANEL: (f64, f64) = (320.0, 220.0);
const LEFT: f64 = 52.0;
const TOP: f64 = 40.0;
const BETWEEN: f64 = 44.0;
const BELOW: f64 = 84.0;
/// Room for half of the last number below the axis.
const RIGHT: f64 = 28.0;

/// One for each map, apart also for those who tell colors badly (Okabe & Ito), and dashes.
const SERIES_STYLES: [(&str, &str); 4] = [
    ("#d55e00", ""),
    ("#0072b2", "7 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "9 3 2 3"),
];

const STYLE: &str = "text{font:13px ui-sans-serif,system-ui,sans-serif;fill:#333}\
    .title{font-size:15px;font-weight:600}.note{font-size:12px;fill:#666}\
    .paper{fill:#fff}.grid{stroke:#ddd;stroke-width:1}.axis{stroke:#777;stroke-width:1;fill:none}\
    .line{fill:none;stroke-width:2.25;stroke-linejoin:round}.random{stroke:#888}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.note{fill:#aaa}.paper{fill:#16181c}\
    .grid{stroke:#333}.axis{stroke:#999}}";

/// Which curve of a row.
type CurveOf = fn(&Row) -> &Curve;

/// Both curves of every map, the mean score over images against the share of patches that are
/// gone or back.
pub fn plot(summary: &Summary) -> String {
    let width = LEFT + 2.0 * PANEL.0 + BETWEEN + RIGHT;
    let height = TOP + PANEL.1 + BELOW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>Deletion and insertion \
         curves over {} images</title>\n<style>{STYLE}</style>\n<rect class=\"paper\" \
         width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n",
        summary.images
    );
    let panels: [(&str, &str, CurveOf); 2] = [
        (
            "Deletion: the lower, the truer",
            "patches taken away, the strongest first",
            |row| &row.deletion,
        ),
        (
            "Insertion: the higher, the truer",
            "patches put back, the strongest first",
            |row| &row.insertion,
        ),
    ];
    for (at, (title, axis, curve)) in panels.into_iter().enumerate() {
        let left = LEFT + at as f64 * (PANEL.0 + BETWEEN);
        panel(&mut svg, left, title, axis, summary, curve);
    }
    legend(&mut svg, summary);
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, left: f64, title: &str, axis: &str, summary: &Summary, curve: CurveOf) {
    let (width, height) = PANEL;
    let bottom = TOP + height;
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(format!(
        "<text class=\"title\" x=\"{left}\" y=\"{:.0}\">{title}</text>",
        TOP - 14.0
    ));
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (x, y) = (left + share * width, bottom - share * height);
        let right = left + width;
        put(format!("<path class=\"grid\" d=\"M{left} {y}H{right}\"/>"));
        put(format!(
            "<text class=\"note\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{share}</text>",
            left - 7.0,
            y + 4.0
        ));
        put(format!(
            "<text class=\"note\" x=\"{x}\" y=\"{:.0}\" text-anchor=\"middle\">{:.0} %</text>",
            bottom + 17.0,
            100.0 * share
        ));
    }
    put(format!(
        "<path class=\"axis\" d=\"M{left} {TOP}V{bottom}h{width}\"/>"
    ));
    put(format!(
        "<text class=\"note\" x=\"{}\" y=\"{:.0}\" text-anchor=\"middle\">{axis}</text>",
        left + width / 2.0,
        bottom + 35.0
    ));
    for (row, line) in summary.rows.iter().zip(0..) {
        let scores = curve(row).scores();
        let last = scores.len().saturating_sub(1).max(1) as f64;
        let points: Vec<String> = scores
            .iter()
            .enumerate()
            .map(|(at, score)| {
                let x = left + at as f64 / last * width;
                format!("{x:.1},{:.1}", bottom - score * height)
            })
            .collect();
        put(format!(
            "<polyline {} points=\"{}\"/>",
            stroke(row, line),
            points.join(" ")
        ));
    }
}

fn legend(svg: &mut String, summary: &Summary) {
    let y = TOP + PANEL.1 + 62.0;
    let mut x = LEFT;
    for (row, line) in summary.rows.iter().zip(0..) {
        let name = row.name();
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<polyline {} points=\"{x},{y} {:.0},{y}\"/>\n<text x=\"{:.0}\" y=\"{:.0}\">{name}</text>",
            stroke(row, line),
            x + 28.0,
            x + 35.0,
            y + 4.0
        );
        x += 35.0 + 6.6 * name.chars().count() as f64 + 18.0;
    }
}

fn stroke(row: &Row, line: usize) -> String {
    if row.kind.is_none() {
        return "class=\"line random\"".to_owned();
    }
    let (color, dashes) = SERIES_STYLES[line % SERIES_STYLES.len()];
    let dashes = match dashes {
        "" => String::new(),
        dashes => format!(" stroke-dasharray=\"{dashes}\""),
    };
    format!("class=\"line\" stroke=\"{color}\"{dashes}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::MapMethod;

    #[test]
    fn every_curve_runs_from_the_left_to_the_right_of_its_panel() {
        let row = |kind| Row {
            kind,
            measures: Vec::new(),
            deletion: Curve::between(1.0, &[0.25], 0.0),
            insertion: Curve::between(0.0, &[0.75], 1.0),
        };
        let svg = plot(&Summary {
            images: 3,
            right: None,
            rows: vec![row(Some(MapMethod::Rollout)), row(None)],
        });
        // The upper left, a quarter up in the middle, the lower right.
        assert_eq!(svg.matches("52.0,40.0 212.0,205.0 372.0,260.0").count(), 2);
        assert_eq!(svg.matches("416.0,260.0 576.0,95.0 736.0,40.0").count(), 2);
        // Two panels and the legend.
        assert_eq!(svg.matches("<polyline").count(), 6);
        assert_eq!(svg.matches(">rollout</text>").count(), 1);
    }
}
