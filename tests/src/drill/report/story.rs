//! Everything that a report shows, and the files it is written to.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::chart::Chart;
use super::result::DrillResult;
use crate::load::Report;

/// A time during which something was broken, on the load's axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Its begin.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
    /// What was broken.
    pub label: String,
}

/// A moment worth a line in the plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, on the load's axis.
    pub at_s: f64,
    /// What happened.
    pub label: String,
}

/// One load with what was done to the system meanwhile.
#[derive(Debug, Clone)]
pub struct Run {
    /// Says which one: "retrying client", "control: no retry".
    pub title: String,
    /// What the load found.
    pub load: Report,
    /// Faults.
    pub bands: Vec<Band>,
    /// Moments.
    pub events: Vec<Event>,
}

/// Everything that a report page shows.
#[derive(Debug, Clone)]
pub struct Story {
    /// The result.
    pub result: DrillResult,
    /// What was done, in two or three sentences.
    pub hypothesis: String,
    /// Where it ran: machine, commit, topology; name and value.
    pub facts: Vec<(String, String)>,
    /// Comparisons, shown before the loads.
    pub charts: Vec<Chart>,
    /// The loads, the main one first.
    pub runs: Vec<Run>,
}

impl Story {
    /// Writes `result.json`, `report.html`, `report.txt` and one `load-N.json` a run; gives back the page's path.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let page = folder.join("report.html");
        std::fs::write(folder.join("result.json"), serde_json::to_vec_pretty(&self.result)?)?;
        std::fs::write(folder.join("report.txt"), self.text())?;
        for (number, run) in self.runs.iter().enumerate() {
            let name = format!("load-{}.json", number + 1);
            std::fs::write(folder.join(name), serde_json::to_vec_pretty(&run.load)?)?;
        }
        std::fs::write(&page, self.page())?;
        Ok(page)
    }

    fn text(&self) -> String {
        let mut text = self.result.to_string();
        for chart in &self.charts {
            write!(text, "\n{chart}").expect("writing to a string");
        }
        for run in &self.runs {
            write!(text, "\n{}\n{}", run.title, run.load).expect("writing to a string");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{result, story};
    use super::*;

    #[test]
    fn writes_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let page = story().write(&folder.path().join("kill-app")).unwrap();
        let read = |name: &str| std::fs::read_to_string(page.with_file_name(name)).unwrap();
        assert_eq!(serde_json::from_str::<DrillResult>(&read("result.json")).unwrap(), result());
        assert_eq!(serde_json::from_str::<Report>(&read("load-2.json")).unwrap(), story().runs[1].load);
        assert!(read("report.txt").contains("Control: sessions in memory"));
        assert!(read("report.html").ends_with("</html>\n"));
    }
}
