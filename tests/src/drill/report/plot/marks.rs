//! Faults, moments, and what the pointer shows.

use std::fmt::Write as _;

use super::frame::line;
use super::{Axis, HEADING, LABEL_ROW, LETTER, PANEL, Point, WIDTH};
use crate::drill::report::page::escape;
use crate::drill::report::story::{Band, Event};

/// Labels beyond this many rows are only in the list below the plot.
const LABEL_ROWS_MAX: usize = 5;

pub(super) fn bands(out: &mut String, axis: &Axis, bands: &[Band], top: f64) {
    for band in bands {
        let (from, to) = (axis.x(band.from_s), axis.x(band.to_s));
        writeln!(
            out,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            top,
            (to - from).max(2.0),
            PANEL,
            escape(&band.label)
        )
        .expect("string");
    }
}

/// The names of bands and events above the plot, each in the first row where it has room; and how many rows.
pub(super) fn labels(axis: &Axis, bands: &[Band], events: &[Event]) -> (String, usize) {
    let mut wanted: Vec<(f64, &str, &str)> =
        bands.iter().map(|band| (axis.x(band.from_s), "bandname", band.label.as_str())).collect();
    wanted.extend(events.iter().map(|event| (axis.x(event.at_s), "event", event.label.as_str())));
    wanted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut row_ends: Vec<f64> = Vec::new();
    let mut placed = Vec::new();
    for (x, class, text) in wanted {
        let width = text.chars().count() as f64 * LETTER + 10.0;
        // A label that would leave the plot ends at its mark instead of starting there.
        let (from, anchor) = if x + width > WIDTH { ((x - width).max(0.0), "end") } else { (x, "start") };
        let row = row_ends.iter().position(|end| *end <= from).unwrap_or(row_ends.len());
        if row == LABEL_ROWS_MAX {
            continue;
        }
        if row == row_ends.len() {
            row_ends.push(0.0);
        }
        row_ends[row] = from + width;
        placed.push((row, x, class, anchor, text));
    }
    let rows = row_ends.len();
    let mut out = String::new();
    for (row, x, class, anchor, text) in placed {
        let y = HEADING + 11.0 + row as f64 * LABEL_ROW;
        let foot = HEADING + rows as f64 * LABEL_ROW + 6.0;
        if class == "event" {
            line(&mut out, "mark", (x, y - 9.0), (x, foot));
        }
        let nudge = if anchor == "start" { 4.0 } else { -4.0 };
        writeln!(
            out,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x + nudge,
            escape(text)
        )
        .expect("string");
    }
    (out, rows)
}

/// Says a step's figures when the pointer rests on it; no script needed.
pub(super) fn hovers(out: &mut String, axis: &Axis, points: &[Point], top: f64, bottom: f64) {
    for point in points {
        let (x, width) = (axis.x(point.from_s), axis.x(point.to_s) - axis.x(point.from_s));
        let ms = |us: u64| us as f64 / 1000.0;
        writeln!(
            out,
            "<rect class=\"hover\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\">\
             <title>second {}: {} requests, {} errors, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms</title></rect>",
            bottom - top,
            point.from_s,
            point.sum.requests,
            point.sum.errors,
            ms(point.sum.p50_us),
            ms(point.sum.p99_us),
            ms(point.sum.max_us)
        )
        .expect("string");
    }
}
