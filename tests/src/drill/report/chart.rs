//! A comparison: the same figures of several runs, side by side as bars.

use std::fmt;

/// Figures with one unit, in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What is compared.
    pub title: String,
    /// `%`, `ms`, `us`; empty for plain numbers.
    pub unit: &'static str,
    /// A value to compare with.
    pub reference: Option<Reference>,
    /// One for each run, from above.
    pub groups: Vec<Group>,
}

/// A value that is drawn across all bars.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The value.
    pub at: f64,
    /// What it is: `fair`.
    pub label: String,
}

/// The bars of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Which run.
    pub title: String,
    /// From above.
    pub bars: Vec<Bar>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// Not negative.
    pub value: f64,
    /// Stands out: what the drill broke, or what it is about.
    pub marked: bool,
}

impl Bar {
    /// A plain bar.
    pub fn new(label: impl Into<String>, value: f64) -> Self {
        Self { label: label.into(), value, marked: false }
    }

    /// One that stands out.
    #[must_use]
    pub fn marked(self) -> Self {
        Self { marked: true, ..self }
    }
}

impl Chart {
    /// A round value with its unit.
    pub(super) fn tick(&self, value: f64) -> String {
        let space = if self.unit.is_empty() { "" } else { " " };
        format!("{}{space}{}", (value * 1000.0).round() / 1000.0, self.unit)
    }

    /// The value with its unit, with as many digits as tell something.
    pub(super) fn label(&self, value: f64) -> String {
        let digits = match value {
            _ if value == 0.0 || value >= 100.0 => 0,
            _ if value >= 10.0 => 1,
            _ => 2,
        };
        let space = if self.unit.is_empty() { "" } else { " " };
        format!("{value:.digits$}{space}{}", self.unit)
    }
}

/// A table for people without a browser.
impl fmt::Display for Chart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.title)?;
        for group in &self.groups {
            writeln!(out, "  {}", group.title)?;
            for bar in &group.bars {
                writeln!(out, "    {:<32} {}", bar.label, self.label(bar.value))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::chart;

    #[test]
    fn values_have_the_digits_that_matter() {
        let check = |value, text: &str| assert_eq!(chart().label(value), text);
        check(0.0, "0 %");
        check(0.314, "0.31 %");
        check(33.33, "33.3 %");
        check(1234.5, "1234 %");
        assert_eq!((chart().tick(10.0), chart().tick(0.1 + 0.2)), ("10 %".into(), "0.3 %".into()));
    }

    #[test]
    fn a_chart_is_a_table_too() {
        let text = chart().to_string();
        assert!(
            text.contains("  ewma\n") && text.contains("app-3 <slow>") && text.contains("0.30 %"),
            "{text}"
        );
    }
}
