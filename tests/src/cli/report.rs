//! What `stack` prints.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::say::say;
use crate::journey::Seen;
use crate::platform::{Instance, Platform};
use crate::topology::SITE;

const MEGABYTE: f64 = 1_048_576.0;

/// The list of instances, with their memory and its sum.
pub(super) async fn status(platform: &dyn Platform, json: bool) -> Result<()> {
    let instances = platform.instances().await?;
    let total: u64 = instances.iter().map(|it| it.memory_bytes).sum();
    if json {
        let value =
            serde_json::json!({ "on": platform.name(), "instances": instances, "memory_bytes": total });
        say(format_args!("{value}"));
        return Ok(());
    }
    say(format_args!("{:<14} {:<14} {:<16} {:<8} {:>9}", "INSTANCE", "TIER", "ADDRESS", "STATE", "MEMORY"));
    for instance in &instances {
        say(format_args!("{}", row(instance)));
    }
    #[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
    let total = total as f64 / MEGABYTE;
    say(format_args!("{:<14} {:<14} {:<16} {:<8} {total:>6.1} MB", "total", "", "", platform.name()));
    Ok(())
}

fn row(instance: &Instance) -> String {
    let address = instance.address.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
    #[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
    let memory = instance.memory_bytes as f64 / MEGABYTE;
    let state = format!("{:?}", instance.state).to_lowercase();
    format!("{:<14} {:<14} {address:<16} {state:<8} {memory:>6.1} MB", instance.name, instance.tier.as_str())
}

/// What was proved, where everything is, and what to try first.
pub(super) fn addresses(platform: &dyn Platform, seen: &Seen, took: Duration) -> Result<()> {
    let endpoints = platform.endpoints();
    let apps: Vec<&str> = seen.served_by.iter().map(String::as_str).collect();
    say(format_args!(
        "ready on {} after {:.1} s: {SITE} resolved, a search found {}, a plan made through {} was read through {}; served by {}",
        platform.name(),
        took.as_secs_f64(),
        seen.found,
        seen.addresses[0],
        seen.addresses[seen.addresses.len() - 1],
        apps.join(" ")
    ));
    say("");
    let also = |published: Option<&SocketAddr>| {
        published.map_or_else(String::new, |it| format!("   here also {it}"))
    };
    let (dns, lb) = (endpoints.published_dns, endpoints.published_lbs.first());
    say(format_args!("  name server  {}{}", endpoints.dns, also(dns.as_ref())));
    for (n, address) in endpoints.lbs.iter().enumerate() {
        say(format_args!("  balancer {}   http://{address}/{}", n + 1, also(endpoints.published_lbs.get(n))));
        if let Some(secure) = endpoints.secure_lbs.get(n) {
            let published = also(endpoints.published_secure_lbs.get(n));
            say(format_args!("               https://{secure}/{published}"));
        }
    }
    for (n, address) in endpoints.stats.iter().enumerate() {
        say(format_args!("  stats {}      http://{address}/stats", n + 1));
    }
    let (dns, lb) = (dns.unwrap_or(endpoints.dns), lb.unwrap_or(&endpoints.lbs[0]));
    say("");
    say(format_args!("  dig @{} -p {} {SITE} A +short", dns.ip(), dns.port()));
    say(format_args!("  curl -i -H 'Host: {SITE}' 'http://{lb}/api/exercises?q=squat&limit=3'"));
    say("  stack status; stack load; stack drill run kill-app; stack down");
    Ok(())
}
