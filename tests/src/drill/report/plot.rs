//! The plots, drawn as text: a load as two panels over one axis of seconds, a comparison as bars.

mod bars;
mod frame;
mod marks;
mod series;

use super::page::escape;
use super::story::Run;
use crate::load::SecondReport;
pub(super) use bars::bars;
use frame::{heading, line, seconds_axis};
use marks::{bands, hovers, labels};
use series::{latency, throughput};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const PANEL: f64 = 150.0;
/// Between the panels, and room for the second one's name.
const GAP: f64 = 34.0;
/// The first panel's name stands above the labels, so that no mark crosses it.
const HEADING: f64 = 26.0;
const LABEL_ROW: f64 = 17.0;

/// A longer run is drawn in steps of several seconds.
const POINTS_MAX: usize = 600;

/// A letter's width at 12 px, generously.
const LETTER: f64 = 6.9;

/// One step of the axis.
struct Point {
    from_s: f64,
    to_s: f64,
    ok_per_s: f64,
    errors_per_s: f64,
    sum: SecondReport,
}

struct Axis {
    seconds: f64,
}

impl Axis {
    fn x(&self, second: f64) -> f64 {
        LEFT + second.clamp(0.0, self.seconds) / self.seconds * (WIDTH - LEFT - RIGHT)
    }
}

/// The whole plot of one run.
pub(super) fn svg(run: &Run) -> String {
    let points = points(&run.load.per_second, run.load.seconds);
    let Some(last) = points.last() else { return "<p>Nothing was sent.</p>".into() };
    let axis = Axis { seconds: last.to_s };
    let (labels, rows) = labels(&axis, &run.bands, &run.events);
    let top = HEADING + rows as f64 * LABEL_ROW + 6.0;
    let lower = top + PANEL + GAP;
    let bottom = lower + PANEL;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}: requests, errors and latency over time\">\n",
        height = bottom + 44.0,
        title = escape(&run.title)
    );
    for panel in [top, lower] {
        bands(&mut out, &axis, &run.bands, panel);
    }
    heading(&mut out, 15.0, "requests per second", &[("okkey", "complete 2xx"), ("err", "errors")]);
    throughput(&mut out, &axis, &points, top);
    heading(&mut out, lower - 9.0, "latency from due time", &[("p99key", "p99"), ("p50key", "median")]);
    latency(&mut out, &axis, &points, lower);
    seconds_axis(&mut out, &axis, bottom);
    for (event, panel) in run.events.iter().flat_map(|event| [(event, top), (event, lower)]) {
        let x = axis.x(event.at_s);
        line(&mut out, "mark", (x, panel), (x, panel + PANEL));
    }
    out.push_str(&labels);
    hovers(&mut out, &axis, &points, top, bottom);
    out.push_str("</svg>");
    out
}

fn points(seconds: &[SecondReport], sent_for_s: f64) -> Vec<Point> {
    let step = seconds.len().div_ceil(POINTS_MAX).max(1);
    let point = |chunk: &[SecondReport]| {
        let from_s = chunk[0].second as f64;
        // The last second may be a part of one: its rate is by what was really sent for.
        let to_s = (from_s + chunk.len() as f64).min(sent_for_s).max(from_s + 0.05);
        let mut sum = SecondReport { second: chunk[0].second, ..SecondReport::default() };
        for second in chunk {
            sum.requests += second.requests;
            sum.ok += second.ok;
            sum.errors += second.errors;
            sum.truncated += second.truncated;
            sum.p50_us = sum.p50_us.max(second.p50_us);
            sum.p99_us = sum.p99_us.max(second.p99_us);
            sum.max_us = sum.max_us.max(second.max_us);
        }
        let length_s = to_s - from_s;
        Point {
            from_s,
            to_s,
            ok_per_s: sum.ok as f64 / length_s,
            errors_per_s: sum.errors as f64 / length_s,
            sum,
        }
    };
    seconds.chunks(step).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::story;
    use super::*;

    #[test]
    fn runs_of_any_length_can_be_drawn() {
        for seconds in [0, 1, 2, 59, 5000] {
            let mut run = story().runs.remove(0);
            let second = SecondReport {
                requests: 1,
                ok: 1,
                p50_us: 1,
                p99_us: 1,
                max_us: 1,
                ..SecondReport::default()
            };
            run.load.per_second =
                (0..seconds).map(|number| SecondReport { second: number, ..second }).collect();
            run.load.seconds = seconds as f64;
            let svg = svg(&run);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{seconds}: {svg}");
            assert!(svg.len() < 300_000, "{seconds}: {} bytes", svg.len());
        }
    }
}
