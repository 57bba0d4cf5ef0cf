//! What stands around the curves: axes, grid, headings.

use std::fmt::Write as _;

use super::{Axis, LEFT, LETTER, RIGHT, WIDTH};

pub(super) fn seconds_axis(out: &mut String, axis: &Axis, bottom: f64) {
    let step = nice_step(axis.seconds / 10.0).max(1.0);
    let mut tick = 0.0;
    while tick <= axis.seconds + 0.001 {
        let x = axis.x(tick);
        line(out, "grid", (x, bottom), (x, bottom + 5.0));
        writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>", bottom + 19.0)
            .expect("string");
        tick += step;
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    writeln!(
        out,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds from the first request</text>",
        bottom + 37.0
    )
    .expect("string");
}

pub(super) fn heading(out: &mut String, y: f64, name: &str, keys: &[(&str, &str)]) {
    writeln!(out, "<text class=\"name\" x=\"{LEFT}\" y=\"{y:.1}\">{name}</text>").expect("string");
    let mut x = LEFT + name.len() as f64 * (LETTER + 0.6) + 14.0;
    for (class, word) in keys {
        writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\">{word}</text>",
            y - 9.0,
            x + 15.0,
            y
        )
        .expect("string");
        x += word.len() as f64 * LETTER + 34.0;
    }
}

pub(super) fn grid(out: &mut String, y: f64, label: &str) {
    line(out, "grid", (LEFT, y), (WIDTH - RIGHT, y));
    writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0, y + 4.0)
        .expect("string");
}

pub(super) fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    writeln!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    )
    .expect("string");
}

/// 1, 2 or 5 times a power of ten, at least `wanted`.
pub(super) fn nice_step(wanted: f64) -> f64 {
    let power = 10_f64.powf(wanted.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= wanted * 0.999)
        .unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_nice() {
        let steps = [0.3, 1.0, 3.0, 7.0, 66.7, 120.0].map(nice_step);
        assert_eq!(steps, [0.5, 1.0, 5.0, 10.0, 100.0, 200.0]);
    }
}
