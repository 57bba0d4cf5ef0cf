//! The two panels: requests a second with errors, and latency.

use std::fmt::Write as _;

use super::frame::{grid, nice_step};
use super::{Axis, PANEL, Point};

pub(super) fn throughput(out: &mut String, axis: &Axis, points: &[Point], top: f64) {
    let most = points.iter().map(|point| point.ok_per_s + point.errors_per_s).fold(1.0, f64::max);
    // A little air above, lest the level lie on the edge.
    let step = nice_step(most * 1.08 / 3.0);
    let full = (most * 1.08 / step).ceil() * step;
    let y = |value: f64| top + PANEL - value / full * PANEL;
    let mut tick = 0.0;
    while tick <= full + step / 2.0 {
        grid(out, y(tick), &format!("{tick}"));
        tick += step;
    }
    let mut path = format!("M{:.1} {:.1}", axis.x(points[0].from_s), y(0.0));
    for point in points {
        let level = y(point.ok_per_s);
        write!(path, " L{:.1} {level:.1} L{:.1} {level:.1}", axis.x(point.from_s), axis.x(point.to_s))
            .expect("string");
    }
    let end = axis.x(points[points.len() - 1].to_s);
    writeln!(out, "<path class=\"ok\" d=\"{path} L{end:.1} {:.1} Z\"/>", y(0.0)).expect("string");
    // Errors stand on the axis and are never thinner than two pixels: a single one must be seen.
    for point in points.iter().filter(|point| point.errors_per_s > 0.0) {
        let (x, width) = (axis.x(point.from_s), axis.x(point.to_s) - axis.x(point.from_s));
        let height = (point.errors_per_s / full * PANEL).max(2.0);
        writeln!(
            out,
            "<rect class=\"err\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
            x + width * 0.12,
            top + PANEL - height,
            (width * 0.76).max(1.5)
        )
        .expect("string");
    }
}

pub(super) fn latency(out: &mut String, axis: &Axis, points: &[Point], top: f64) {
    let known = || points.iter().filter(|point| point.sum.ok > 0);
    let most_ms = known().map(|point| point.sum.p99_us).max().unwrap_or(0) as f64 / 1000.0;
    let least_ms = known().map(|point| point.sum.p50_us).min().unwrap_or(1000) as f64 / 1000.0;
    // Decades: a fault changes latency by factors, not by amounts.
    let low = least_ms.max(0.01).log10().floor();
    let high = most_ms.max(0.1).log10().ceil().max(low + 1.0);
    let y = |us: u64| {
        let ms = (us as f64 / 1000.0).max(0.01);
        top + PANEL - ((ms.log10() - low) / (high - low)).clamp(0.0, 1.0) * PANEL
    };
    let mut decade = low;
    while decade <= high {
        let ms = 10_f64.powf(decade);
        let label = if ms >= 1000.0 { format!("{} s", ms / 1000.0) } else { format!("{} ms", round(ms)) };
        grid(out, y((ms * 1000.0) as u64), &label);
        decade += 1.0;
    }
    curve(out, "p99", axis, points, |point| y(point.sum.p99_us));
    curve(out, "p50", axis, points, |point| y(point.sum.p50_us));
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

/// A line through the middles of the steps, broken where nothing was answered.
fn curve(out: &mut String, class: &str, axis: &Axis, points: &[Point], y: impl Fn(&Point) -> f64) {
    let mut path = String::new();
    let mut pen_down = false;
    for (number, point) in points.iter().enumerate() {
        if point.sum.ok == 0 {
            pen_down = false;
            continue;
        }
        let (from, to, y) = (axis.x(point.from_s), axis.x(point.to_s), y(point));
        // A step alone between two silent ones would be no line at all: draw its whole width.
        if !pen_down {
            write!(path, "M{from:.1} {y:.1} ").expect("string");
        }
        let goes_on = points.get(number + 1).is_some_and(|next| next.sum.ok > 0);
        let end = if goes_on { f64::midpoint(from, to) } else { to };
        write!(path, "L{end:.1} {y:.1} ").expect("string");
        pen_down = true;
    }
    writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>").expect("string");
}
