//! The site's name gives both balancers, each first in turn.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::Stack;
use tests::dns_client::DnsClient;
use tests::topology::SITE;

use crate::runner::Ended;

/// More than enough for both to have been first, whichever of the server's threads answers.
const QUESTIONS: usize = 32;

pub(crate) async fn our_client(stack: &Stack) -> Result<Ended> {
    let client = DnsClient::new(stack.endpoints().dns);
    let mut answers = Vec::new();
    for _ in 0..QUESTIONS {
        answers.push(client.addresses(SITE).await?.addresses);
    }
    both_in_turn(stack, &answers)
}

pub(crate) async fn dig(stack: &Stack) -> Result<Ended> {
    if Command::new("dig").arg("-v").output().is_err() {
        return Ok(Ended::Skipped("dig is missing; run: apt-get install -y bind9-dnsutils".into()));
    }
    let dns = stack.endpoints().dns;
    let mut answers = Vec::new();
    for n in 0..QUESTIONS {
        let transport = if n % 2 == 0 { "+notcp" } else { "+tcp" };
        let output = Command::new("dig")
            .args([&format!("@{}", dns.ip()), "-p", &dns.port().to_string(), SITE, "A", "+short", transport])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let parse = |line: &str| line.parse::<IpAddr>().with_context(|| format!("dig said: {text}"));
        answers.push(text.lines().map(parse).collect::<Result<_>>()?);
    }
    both_in_turn(stack, &answers)
}

fn both_in_turn(stack: &Stack, answers: &[Vec<IpAddr>]) -> Result<Ended> {
    let lbs: BTreeSet<IpAddr> = stack.endpoints().lbs.iter().map(std::net::SocketAddr::ip).collect();
    for answer in answers {
        ensure!(answer.iter().copied().collect::<BTreeSet<_>>() == lbs, "{answer:?} instead of {lbs:?}");
    }
    let first: BTreeSet<IpAddr> = answers.iter().filter_map(|answer| answer.first().copied()).collect();
    ensure!(first == lbs, "only {first:?} ever came first");
    Ok(Ended::Passed)
}
