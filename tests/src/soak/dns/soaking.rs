//! One subject: how it is started, and its turns under load.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::answers::Question;
use super::changes::{Zone, flip};
use super::judge::{Own, Slice, Soaked, exact, rounded};
use super::reader;
use super::targets::{self, Targets};
use super::zone;
use crate::bench::dns::subjects::{Bench, Running, Setting, Subject};
use crate::bench::dns::{LOAD_CORE, load};
use crate::bench::meter::Meter;
use crate::dns_client::DnsClient;
use crate::http_client::HttpClient;
use crate::process::Process;
use crate::stack::sum_samples;

/// One look at the capacity.
const CAPACITY_RUN: Duration = Duration::from_secs(2);
/// Questions under way: more than a socket's buffer of 4 MiB holds (some 10,000, since the kernel doubles what is asked for and counts
/// 832 bytes for each), so that a stall is a loss; not much more, because dnsperf makes up for what it is late with in one burst,
/// which must not be a loss.
const OUTSTANDING: &str = "12500";
/// dnsperf's own sockets, in KiB: what they drop would be laid at the subject's door.
const BUFFER_KIB: &str = "4096";
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const ADMIN_PORT: u16 = 9001;

/// A subject that is soaked.
#[derive(Debug)]
pub(super) struct Soaking {
    pub(super) subject: Subject,
    running: Running,
    zone: Zone,
    /// dnsperf without a rate.
    argv: Vec<String>,
    pub(super) soaked: Soaked,
}

impl Soaking {
    pub(super) async fn start(bench: &Bench, subject: Subject, targets: &Targets) -> Result<Self> {
        let folder = bench.new_folder(subject)?;
        let zone = Zone::first(&folder, &targets.pools)?;
        let setting = Setting { workers: 1, core: Some(1 - LOAD_CORE) };
        let target = bench.address(subject);
        let running = bench.spawn(subject, &folder, setting, environment(target, targets))?;
        let client = DnsClient::new(target);
        let check = async || {
            let read = reader::read(&client, Question::Serial, &zone.versions, &zone.pools).await;
            read.map_err(anyhow::Error::msg)
        };
        running.answers(check).await?;
        let argv = bench.dnsperf(target, &zone::questions(), 1, Some(LOAD_CORE), &["-b", BUFFER_KIB])?;
        Ok(Self { subject, running, zone, argv, soaked: Soaked::default() })
    }

    /// Under load and changes for so long. `ours` brings what only ours has: targets that flip, and memory that is measured.
    pub(super) async fn turn(
        &mut self,
        length: Duration,
        rate_per_s: u64,
        ours: Option<(&mut Targets, &mut Own)>,
    ) -> Result<Slice> {
        let Self { running, zone, argv, soaked, .. } = self;
        let (process, target) = (&running.process, running.target);
        let mut argv = argv.clone();
        argv.extend(["-Q", &rate_per_s.to_string(), "-q", OUTSTANDING].map(str::to_owned));
        let stop = CancellationToken::new();
        let counts_cpu = ours.is_some();
        let loaded = async {
            let _stopped = stop.clone().drop_guard();
            let (meter, dropped) = (Meter::of(process), dropped(target)?);
            let before = if counts_cpu { Some(meter.cpu()?) } else { None };
            let text = load::perf(&argv, length).await?;
            let mut slice = judged(&text).with_context(|| format!("dnsperf said:\n{}", load::head(&text)))?;
            slice.dropped = self::dropped(target)?.saturating_sub(dropped);
            if let Some(before) = before {
                let spent = meter.cpu()?.saturating_sub(before);
                slice.cpu_us_per_query = Some(spent.as_secs_f64() * 1e6 / exact(slice.answered));
            }
            Ok(slice)
        };
        let extras = async {
            let Some((targets, own)) = ours else { return Ok(()) };
            let Own { flips, memory_bytes, .. } = own;
            tokio::try_join!(flip(targets, target, flips, &stop), sample(process, memory_bytes, &stop))?;
            Ok(())
        };
        let Soaked { reads, reloads, .. } = soaked;
        let read = async {
            reads.run(target, &zone.versions, &zone.pools, &stop).await;
            Ok(())
        };
        let reload = zone.reload(process, target, reloads, &stop);
        let (slice, ..) = tokio::try_join!(loaded, reload, read, extras)
            .with_context(|| format!("{}, whose log ends:\n{}", self.subject.name(), process.tail()))?;
        Ok(slice)
    }

    /// What ours has counted itself.
    pub(super) async fn scrape(&self, own: &mut Own) -> Result<()> {
        let admin = SocketAddr::new(self.running.target.ip(), ADMIN_PORT);
        let text = HttpClient::new(admin).get("/metrics").await?.text();
        let metric = |name: &str, label: &str| {
            // One that is called otherwise would look like none.
            ensure!(text.lines().any(|line| line.starts_with(name)), "{admin} has no metric {name}");
            Ok(rounded(sum_samples(&text, name, label)))
        };
        own.path_mismatches = metric("dns_path_mismatch_total", "")?;
        own.failed_loads = metric("dns_zone_loads_total", "outcome=\"failed\"")?;
        Ok(())
    }

    /// Questions a second that it answers when nothing limits dnsperf and nothing changes.
    pub(super) async fn capacity(&self) -> Result<f64> {
        let seen = load::read(&load::perf(&self.argv, CAPACITY_RUN).await?)?;
        Ok(exact(seen.verified) / seen.seconds)
    }
}

/// Steering for ours, beside the shipped configuration: a pool that goes as a whole when one of its targets does, so that
/// answers keep their length; one to fall back to, which is not given up lightly; and one whose members change.
fn environment(target: SocketAddr, targets: &Targets) -> BTreeMap<String, String> {
    let members = |pool: &[Ipv4Addr]| {
        let member = |address: &Ipv4Addr| json!({ "address": address.to_string() });
        pool.iter().map(member).collect::<Vec<_>>()
    };
    let mut names: Vec<_> = zone::all_steered().map(|name| json!({ "name": name, "use": "site" })).collect();
    names.push(json!({ "name": zone::moving(), "use": "moving" }));
    let (first, second) = (members(&targets.pools.first), members(&targets.pools.second));
    let admin = SocketAddr::new(target.ip(), ADMIN_PORT);
    let variables = [
        ("DNS_ADMIN__LISTEN", admin.to_string()),
        ("DNS_HEALTH__PORT", targets::PORT.to_string()),
        ("DNS_STEERING__NAMES", json!(names).to_string()),
        ("DNS_POOLS__FIRST", json!({ "members": first, "up_percent_min": 100 }).to_string()),
        (
            "DNS_POOLS__SECOND",
            json!({ "members": second, "health": { "mode": "tcp", "fall": 20 } }).to_string(),
        ),
        ("DNS_POOLS__MOVING", json!({ "from": zone::pool() }).to_string()),
        ("DNS_CHOICES__SITE", json!({ "kind": "failover", "of": ["first", "second"] }).to_string()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What dnsperf said of a turn.
fn judged(text: &str) -> Result<Slice> {
    let seen = load::read(text)?;
    ensure!(seen.verified > 0, "nothing was answered");
    let (rcode, count, length) = load::answers(text)?;
    let is_right = rcode == "NOERROR" && length == zone::answer_bytes();
    Ok(Slice {
        sent: seen.sent,
        answered: seen.verified,
        lost: seen.lost,
        // dnsperf tells a mean, so whether some answers have another length, and not how many.
        wrong: if is_right { seen.verified - count } else { seen.verified },
        seconds: seen.seconds,
        ..Slice::default()
    })
}

/// Takes the memory of a process each second.
async fn sample(process: &Process, bytes: &mut Vec<u64>, stop: &CancellationToken) -> Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(SAMPLE_EVERY)).await.is_some() {
        let now = process.identity.resident_bytes();
        ensure!(now > 0, "{} has ended", process.spec.name);
        bytes.push(now);
    }
    Ok(())
}

/// What the kernel has dropped so far at sockets of this address, as `/proc/net/udp` says at the end of its lines.
fn dropped(target: SocketAddr) -> Result<u64> {
    let IpAddr::V4(ip) = target.ip() else { return Ok(0) };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), target.port());
    let text = fs::read_to_string("/proc/net/udp").context("/proc/net/udp")?;
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|fields| fields.get(1) == Some(&local.as_str()));
    Ok(own.filter_map(|fields| fields.last()?.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_drops_is_found_by_address() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        assert_eq!(dropped(target).unwrap(), 0);
        // Nobody reads: the socket's buffer is full at some time.
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..1_000 {
            for _ in 0..1_000 {
                sender.send_to(&[0; 1_000], target).unwrap();
            }
            if dropped(target).unwrap() > 0 {
                return;
            }
        }
        panic!("nothing was dropped");
    }
}
