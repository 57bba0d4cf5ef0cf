//! The table: written, read again, and compared with a run.

use std::collections::BTreeMap;
use std::fmt;

use super::Row;
use super::subjects::Subject;

const TITLE: &str = "# What the balancer makes of odd messages, beside HAProxy and nginx\n";
const INTRODUCTION: &str = "\
Written by `stack conformance --write` and compared with every run of the tests. Each case of `tests/conformance` is sent byte by byte
as it stands there to all three, in front of an origin that notes what reaches it. A cell is what the client gets; or \"forwarded\", how
that differs from what was sent, and behind an arrow what the client gets if it is not the usual 200. Below a case stands why the balancer lets
through what HAProxy does not; without such a reason the tests fail.
";
const SECTIONS: [(&str, &str); 6] = [
    ("5a", "Requests that can be read in two ways"),
    ("5d", "Header fields, both ways, and HTTP/2"),
    ("5e", "Trailers"),
    ("5f", "Expect and informational answers"),
    ("5g", "Upgrades and CONNECT"),
    ("5h", "Ends in one direction"),
];
/// What the peers' versions stand behind.
const RUN_WITH: &str = "Run with ";

/// A table as it was read.
#[derive(Debug, Default)]
pub(super) struct Known {
    versions: String,
    /// By section and case.
    cells: BTreeMap<(String, String), Vec<String>>,
}

impl Known {
    pub(super) fn says(&self, row: &Row, subject: Subject) -> Option<&str> {
        let cells = self.cells.get(&(row.case.section.clone(), escaped(&row.case.name)))?;
        cells.get(subject as usize).map(String::as_str)
    }
}

/// Reads a table that [`Report::markdown`] wrote; whatever else it is gives an empty one.
pub(super) fn read(text: &str) -> Known {
    let (mut known, mut section) = (Known::default(), String::new());
    for line in text.lines() {
        if let Some(versions) = line.strip_prefix(RUN_WITH) {
            versions.trim_end_matches('.').clone_into(&mut known.versions);
        } else if let Some(title) = line.strip_prefix("## ") {
            section = SECTIONS
                .iter()
                .filter(|it| it.1 == title)
                .map(|it| it.0)
                .next()
                .unwrap_or_default()
                .to_owned();
        } else if let Some(row) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) {
            let mut cells = row.split(" | ").map(str::to_owned);
            let name = cells.next().unwrap_or_default();
            let name = name.split("<br>").next().unwrap_or_default().to_owned();
            known.cells.insert((section.clone(), name), cells.collect());
        }
    }
    known
}

/// What a run gave, beside the committed table.
#[derive(Debug)]
pub struct Report {
    rows: Vec<Row>,
    versions: String,
    known: Known,
}

impl Report {
    pub(super) fn new(rows: Vec<Row>, versions: String, known: Known) -> Self {
        Self { rows, versions, known }
    }

    /// The table as this run gives it.
    pub fn markdown(&self) -> String {
        let mut text = format!("{TITLE}\n{INTRODUCTION}\n{RUN_WITH}{}.\n", self.versions);
        for (section, title) in SECTIONS {
            text.push_str(&format!("\n## {title}\n\n| Case | lb | HAProxy | nginx |\n|---|---|---|---|\n"));
            for row in self.rows.iter().filter(|row| row.case.section == *section) {
                let cells: Vec<&str> = row.decisions.iter().map(|it| it.text.as_str()).collect();
                let reason = row.case.reason.as_ref().map(|it| format!("<br>*{it}*")).unwrap_or_default();
                text.push_str(&format!("| {}{reason} | {} |\n", escaped(&row.case.name), cells.join(" | ")));
            }
        }
        text
    }

    /// What does not hold, a line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.without_reason();
        let same_peers = self.versions == self.known.versions;
        for row in &self.rows {
            for subject in Subject::ALL {
                // Another version of a peer may decide otherwise; it is said, and is nobody's fault here.
                if subject == Subject::Ours || same_peers {
                    faults.extend(self.difference(row, subject));
                }
            }
        }
        for (section, name) in self.known.cells.keys() {
            let is_there = |row: &Row| row.case.section == *section && escaped(&row.case.name) == *name;
            if name != "Case" && !name.starts_with("---") && !self.rows.iter().any(is_there) {
                faults.push(format!("{section} {name}: is in the table, and no case any more"));
            }
        }
        faults
    }

    /// Cases in which the balancer lets through more than HAProxy and nobody wrote why.
    pub fn without_reason(&self) -> Vec<String> {
        let lax = self.rows.iter().filter(|row| row.case.reason.is_none() && row.is_lax());
        lax.map(|row| {
            format!(
                "{} {}: laxer than HAProxy without a reason: lb '{}', HAProxy '{}'",
                row.case.section, row.case.name, row.decisions[0].text, row.decisions[1].text
            )
        })
        .collect()
    }

    fn difference(&self, row: &Row, subject: Subject) -> Option<String> {
        let (now, known) = (&row.decisions[subject as usize].text, self.known.says(row, subject));
        (known != Some(now)).then(|| {
            format!(
                "{} {}: {} now '{now}', in the table '{}'; if that is meant: stack conformance --write",
                row.case.section,
                row.case.name,
                subject.name(),
                known.unwrap_or("nothing")
            )
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = |subject: Subject| {
            self.rows
                .iter()
                .filter(|row| !row.decisions[subject as usize].text.starts_with("forwarded"))
                .count()
        };
        let lax = self.rows.iter().filter(|row| row.is_lax()).count();
        let strict = self.rows.iter().filter(|row| row.decisions[1].is_laxer_than(&row.decisions[0])).count();
        write!(
            out,
            "conformance: {} cases; not forwarded: lb {}, HAProxy {}, nginx {}; stricter than HAProxy in {strict}, laxer in {lax}, \
             {} of those without a reason ({})",
            self.rows.len(),
            refused(Subject::Ours),
            refused(Subject::Haproxy),
            refused(Subject::Nginx),
            self.without_reason().len(),
            self.versions
        )?;
        if self.versions != self.known.versions {
            write!(
                out,
                "\nthe table was written with {}; their cells are not compared",
                self.known.versions
            )?;
        }
        Ok(())
    }
}

impl Row {
    fn is_lax(&self) -> bool {
        self.decisions[Subject::Ours as usize].is_laxer_than(&self.decisions[Subject::Haproxy as usize])
    }
}

/// No end of a cell.
fn escaped(name: &str) -> String {
    name.replace('|', "\\|").replace('*', "\\*")
}
