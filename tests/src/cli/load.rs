//! `stack load`: our open-loop client on the running stack.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use super::On;
use super::say::say;
use crate::load::{self, ClientKind, Mix, Plan, RequestSpec};
use crate::stack::Stack;
use crate::topology::SITE;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Requests a second, sent whether or not earlier ones were answered
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// For how long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// What to GET; several in turn
    #[arg(long, default_values_t = ["/".to_owned(), "/api/exercises?q=squat&limit=5".to_owned()])]
    path: Vec<String>,
    /// Never try a second address: the client that people fear
    #[arg(long)]
    plain: bool,
    /// Exit 1 when a request failed or was cut
    #[arg(long)]
    strict: bool,
    /// For machines
    #[arg(long)]
    json: bool,
    /// Where; wherever a stack runs when not given
    #[arg(long)]
    pub(super) on: Option<On>,
}

pub(super) async fn run(stack: &Stack, arguments: Arguments) -> Result<()> {
    let endpoints = stack.endpoints();
    let kind = if arguments.plain { ClientKind::Plain } else { ClientKind::Retrying };
    let paths = arguments.path.iter().map(|path| (1, RequestSpec::get(path))).collect();
    let plan = Plan::by_name(kind, SITE, endpoints.site_port, vec![endpoints.dns])
        .rate(arguments.rate, Duration::from_secs(arguments.seconds))
        .mix(Mix::Weighted(paths));
    let report = load::run(plan).await?;
    if arguments.json {
        say(format_args!("{}", serde_json::to_string(&report)?));
    } else {
        say(format_args!("{report}"));
    }
    let failed = report.failed + report.truncated;
    ensure!(!arguments.strict || failed == 0, "{failed} requests failed");
    Ok(())
}
