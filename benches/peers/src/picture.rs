//! Draws the CPU figures as bars: one panel for each case, one bar for each client.

use std::fmt::Write;

use crate::report::Report;

const COLUMNS: usize = 2;
const PANEL: f64 = 440.0;
const GAP: f64 = 24.0;
const NAMES: f64 = 130.0;
const BAR: f64 = 16.0;
const TOP: f64 = 46.0;
const HEAD: f64 = 28.0;
/// Space to the right of the longest bar, for its figure.
const FIGURE: f64 = 44.0;

/// No background, and colours for light and dark mode.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.case { font-weight: 600 }
.bar { fill: #8c959f }
.own { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .own { fill: #4493f8 }
}";

pub fn draw(report: &Report<'_>) -> String {
    let cases: Vec<_> = (0..report.cases.len())
        .filter(|case| {
            let case = report.cases[*case];
            case.rate == 0 && case.transactions.is_none() && case.tasks == 0
        })
        .collect();
    let height = HEAD + report.entrants.len() as f64 * (BAR + 4.0) + GAP;
    let rows = cases.len().div_ceil(COLUMNS);
    let (wide, high) = (
        COLUMNS as f64 * (PANEL + GAP) - GAP,
        TOP + rows as f64 * height,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" \
         width=\"{wide}\" height=\"{high}\" role=\"img\">\n\
         <style>\n{STYLE}\n</style>\n\
         <text class=\"title\" x=\"0\" y=\"18\">CPU time per acked record, µs (less is better)\
         </text>\n"
    );
    for (at, case) in cases.into_iter().enumerate() {
        let left = (at % COLUMNS) as f64 * (PANEL + GAP);
        let top = TOP + (at / COLUMNS) as f64 * height;
        let title = report.cases[case].title;
        let _ = writeln!(
            svg,
            "<text class=\"case\" x=\"{left}\" y=\"{top}\">{title}</text>"
        );
        let medians: Vec<_> = (0..report.entrants.len())
            .map(|client| report.median(case, client, |it| Some(it.cpu)))
            .collect();
        let most = medians
            .iter()
            .flatten()
            .copied()
            .fold(f64::MIN_POSITIVE, f64::max);
        for (client, median) in medians.into_iter().enumerate() {
            let peer = report.entrants[client].peer;
            let y = top + 10.0 + client as f64 * (BAR + 4.0);
            let base = y + BAR - 4.0;
            let _ = writeln!(svg, "<text x=\"{left}\" y=\"{base}\">{}</text>", peer.title);
            let Some(cpu) = median else { continue };
            let x = left + NAMES;
            let length = cpu / most * (PANEL - NAMES - FIGURE);
            let class = if peer.name.starts_with("forebay") {
                "own"
            } else {
                "bar"
            };
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{length:.1}\" \
                 height=\"{BAR}\" rx=\"2\"/>\n<text x=\"{:.1}\" y=\"{base}\">{cpu:.2}</text>",
                x + length + 6.0
            );
        }
    }
    svg + "</svg>\n"
}
