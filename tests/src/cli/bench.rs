//! `stack bench`: the list, and one bench with its table.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;

use super::say::say;
use crate::bench::{self, Options};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The program: lb or dns
    name: String,
    /// For machines
    #[arg(long)]
    json: bool,
    /// Only this case; several are allowed
    #[arg(long)]
    case: Vec<String>,
    /// Only this subject; several are allowed
    #[arg(long)]
    subject: Vec<String>,
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    ensure!(arguments.rounds > 0, "--rounds must be at least 1");
    ensure!((0.1..=3_600.0).contains(&arguments.seconds), "--seconds must be 0.1 to 3600");
    let options = Options {
        cases: arguments.case,
        subjects: arguments.subject,
        rounds: arguments.rounds,
        duration: Duration::from_secs_f64(arguments.seconds),
    };
    let report = match arguments.name.as_str() {
        bench::lb::NAME => bench::lb::run(&options).await?,
        bench::dns::NAME => bench::dns::run(&options).await?,
        other => bail!("no bench {other}; there are: {} {}", bench::lb::NAME, bench::dns::NAME),
    };
    if arguments.json {
        say(serde_json::to_string(&report)?);
    } else {
        say(report);
    }
    Ok(ExitCode::SUCCESS)
}
