//! `stack soak`: one soak with its verdict.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;

use super::say::say;
use crate::soak::dns::{self, Options};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The program: dns
    name: String,
    /// How long each subject is under load
    #[arg(long, default_value_t = 3_600)]
    seconds: u64,
    /// Rate of the load, as a share of the smaller one of both subjects' capacities
    #[arg(long, default_value_t = 0.7)]
    share: f64,
    /// Questions of a million that ours may lose beyond what the peer loses
    #[arg(long, default_value_t = 0)]
    allowance: u64,
    /// Turns of ours for each one of the peer: with more than one, the peer's losses are a sample
    #[arg(long, default_value_t = 1)]
    peer_every: usize,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.name != dns::NAME {
        bail!("no soak {}; there is: {}", arguments.name, dns::NAME);
    }
    ensure!((10..=86_400).contains(&arguments.seconds), "--seconds must be 10 to 86400");
    ensure!((0.01..=1.0).contains(&arguments.share), "--share must be 0.01 to 1");
    ensure!(arguments.allowance <= 1_000_000, "--allowance must be at most 1000000");
    ensure!((1..=60).contains(&arguments.peer_every), "--peer-every must be 1 to 60");
    let options = Options {
        duration: Duration::from_secs(arguments.seconds),
        share: arguments.share,
        allowance_per_million: arguments.allowance,
        peer_every: arguments.peer_every,
    };
    let report = dns::run(&options).await?;
    if arguments.json {
        say(serde_json::to_string(&report)?);
    } else {
        say(&report);
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
