//! `stack conformance`: runs every case, prints the counts, and compares or writes the table.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::say::say;
use crate::conformance;

pub(super) async fn run(write: bool) -> Result<ExitCode> {
    let report = conformance::run().await?;
    let faults = if write {
        let path = conformance::table();
        fs::write(&path, report.markdown()).with_context(|| path.display().to_string())?;
        report.without_reason()
    } else {
        report.faults()
    };
    for fault in &faults {
        say(fault);
    }
    say(&report);
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
