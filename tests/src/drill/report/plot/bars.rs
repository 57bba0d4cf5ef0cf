//! Horizontal bars in groups: the label before, the value behind, one axis for all.

use std::fmt::Write as _;

use super::frame::{line, nice_step};
use super::{RIGHT, WIDTH};
use crate::drill::report::chart::Chart;
use crate::drill::report::page::escape;

/// Where bars begin: right of the longest label that is not cut.
const LEFT: f64 = 270.0;
/// Room for the value behind the longest bar.
const VALUE: f64 = 90.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const TITLE: f64 = 30.0;
const GROUP_TITLE: f64 = 24.0;
const GROUP_GAP: f64 = 8.0;

/// The whole chart.
pub(in crate::drill::report) fn bars(chart: &Chart) -> String {
    let values = chart.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value);
    let most = values.chain(chart.reference.iter().map(|it| it.at)).fold(0.0, f64::max);
    let full = if most > 0.0 { most } else { 1.0 };
    let x = |value: f64| LEFT + value / full * (WIDTH - LEFT - VALUE - RIGHT);
    let rows: f64 =
        chart.groups.iter().map(|group| GROUP_TITLE + group.bars.len() as f64 * ROW + GROUP_GAP).sum();
    let bottom = TITLE + rows;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{title}\">\n<text class=\"name\" x=\"8\" y=\"18\">{title}</text>\n",
        bottom + 24.0,
        title = escape(&chart.title)
    );
    let step = nice_step(full / 5.0);
    let mut tick = 0.0;
    while tick <= full * 1.0001 {
        line(&mut out, "grid", (x(tick), TITLE), (x(tick), bottom));
        text(&mut out, "", (x(tick), bottom + 16.0), "middle", &chart.tick(tick));
        tick += step;
    }
    let mut y = TITLE;
    for group in &chart.groups {
        text(&mut out, "name", (8.0, y + 16.0), "start", &group.title);
        y += GROUP_TITLE;
        for bar in &group.bars {
            let class = if bar.marked { "barmarked" } else { "bar" };
            text(&mut out, "", (LEFT - 8.0, y + 12.0), "end", &bar.label);
            // A bar of nothing is a line: it was measured.
            let width = (x(bar.value) - LEFT).max(1.5);
            writeln!(
                out,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>",
                y + 1.0
            )
            .expect("string");
            text(&mut out, "event", (LEFT + width + 6.0, y + 12.0), "start", &chart.label(bar.value));
            y += ROW;
        }
        y += GROUP_GAP;
    }
    if let Some(reference) = &chart.reference {
        line(&mut out, "mark", (x(reference.at), TITLE - 8.0), (x(reference.at), bottom));
        text(&mut out, "bandname", (x(reference.at) + 4.0, TITLE - 4.0), "start", &reference.label);
    }
    out.push_str("</svg>");
    out
}

fn text(out: &mut String, class: &str, at: (f64, f64), anchor: &str, words: &str) {
    let (x, y) = at;
    writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(words)
    )
    .expect("string");
}

#[cfg(test)]
mod tests {
    use super::super::super::sample::chart;
    use super::*;

    #[test]
    fn every_bar_is_drawn_and_the_marked_ones_differ() {
        let svg = bars(&chart());
        assert_eq!(svg.matches("class=\"bar\"").count(), 4);
        assert_eq!(svg.matches("class=\"barmarked\"").count(), 2);
        assert!(svg.contains("app-3 &lt;slow&gt;") && svg.contains(">fair<"));
    }

    #[test]
    fn a_chart_of_nothing_can_be_drawn() {
        let mut empty = chart();
        empty.reference = None;
        for bar in empty.groups.iter_mut().flat_map(|group| &mut group.bars) {
            bar.value = 0.0;
        }
        let svg = bars(&empty);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        empty.groups.clear();
        assert!(bars(&empty).ends_with("</svg>"));
    }
}
