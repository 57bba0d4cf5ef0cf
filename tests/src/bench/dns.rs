//! The DNS server beside Knot, NSD and BIND: the same zone, the same questions from dnsperf, the same number of workers.
//!
//! dnsperf has one core and the subject the other, unless the subject has two workers: then all share both. Answers are
//! verified by their code, each of them, and by their length, all of a run together; while it lasts, a client of our own
//! asks too and reads answers in full. Every subject is started anew for each measurement.

pub(crate) mod load;
pub(crate) mod subjects;
pub(crate) mod zone;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::figures::{Figures, Report};
use super::machine::{self, Machine};
use super::meter::{self, Meter, busiest_percent};
use super::rounds::{self, Case, Options, Purpose};
use load::Transport;
use subjects::{Bench, Setting, Subject};
use zone::Content;

/// The bench's name.
pub const NAME: &str = "dns";

/// Until caches are warm.
const WARM_UP: Duration = Duration::from_millis(300);
/// Where dnsperf stays while the subject has the other core.
pub(crate) const LOAD_CORE: usize = 1;

/// What a case is about.
#[derive(Debug, Clone, Copy)]
struct Kind {
    content: Content,
    transport: Transport,
    workers: usize,
}

fn cases() -> Vec<Case<Kind>> {
    let kinds = [
        ("a-1", Content::Addresses(1), Transport::Udp),
        ("a-4", Content::Addresses(4), Transport::Udp),
        ("a-32", Content::Addresses(32), Transport::Udp),
        ("nxdomain", Content::NoName, Transport::Udp),
        ("wildcard", Content::Wildcard, Transport::Udp),
        ("tcp", Content::Addresses(4), Transport::Tcp),
        ("million", Content::Million, Transport::Udp),
    ];
    let case = |name: String, content, transport, workers| Case {
        name,
        kind: Kind { content, transport, workers },
        subjects: Subject::ALL.map(Subject::name).to_vec(),
        counts_syscalls: true,
    };
    let one = kinds.map(|(name, content, transport)| case(name.to_owned(), content, transport, 1));
    let two = kinds.map(|(name, content, transport)| case(format!("{name}-2w"), content, transport, 2));
    one.into_iter().chain(two).collect()
}

/// Runs the bench; refuses when a peer or a tool is missing.
pub async fn run(options: &Options) -> Result<Report> {
    let cases = rounds::select(cases(), options)?;
    let machine = Machine::here();
    ensure!(machine.cores >= 2, "one core is too few: the subject and its load would wait for each other");
    let bench = Bench::prepare(&Subject::ALL)?;
    meter::require_perf()?;
    let measure = async |case: &Case<Kind>, subject: &'static str, purpose| {
        let subject = Subject::named(subject).expect("cases name subjects");
        measure(&bench, subject, case.kind, purpose, options.duration).await
    };
    let results = rounds::interleave(&cases, options.rounds, measure).await?;
    Ok(Report::new(NAME, machine, machine::commit(), results))
}

async fn measure(
    bench: &Bench,
    subject: Subject,
    kind: Kind,
    purpose: Purpose,
    duration: Duration,
) -> Result<Figures> {
    let alone = kind.workers == 1;
    let setting = Setting { workers: kind.workers, core: alone.then_some(1 - LOAD_CORE) };
    let begun = Instant::now();
    let running = bench.start(subject, kind.content, setting).await?;
    let load_s = begun.elapsed().as_secs_f64();
    let plan =
        bench.plan(running.target, kind.content, kind.transport, kind.workers, alone.then_some(LOAD_CORE))?;
    plan.run(WARM_UP).await?;
    let meter = Meter::of(&running.process);
    let count = if purpose == Purpose::Syscalls { Some(meter.count_syscalls()?) } else { None };
    let (cpu, threads) = (meter.cpu()?, meter.threads(subject.worker_threads()));
    let seen = plan.run(duration).await?;
    let spent = meter.cpu()?.saturating_sub(cpu);
    let syscalls = count.map(meter::SyscallCount::finish).transpose()?;
    let answers = precise(seen.verified);
    if let Some(syscalls) = syscalls {
        return Ok(Figures { syscalls_per_op: Some(precise(syscalls) / answers), ..Figures::default() });
    }
    let is_million = kind.content == Content::Million;
    Ok(Figures {
        cpu_us_per_op: Some(spent.as_secs_f64() * 1e6 / answers),
        ops_per_s: Some(answers / seen.seconds),
        p50_us: seen.latency_us(0.5),
        p99_us: seen.latency_us(0.99),
        p999_us: seen.latency_us(0.999),
        lost: Some(precise(seen.lost)),
        busiest_worker_percent: busiest_percent(&threads, &meter.threads(subject.worker_threads()))
            .filter(|_| !alone),
        load_s: is_million.then_some(load_s),
        memory_bytes: is_million.then(|| precise(meter.memory_bytes())),
        ..Figures::default()
    })
}

/// Counts of a bench are far below 2^53.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn precise(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_called_as_results_promise() {
        let names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
        for name in ["a-1", "a-4", "a-32", "nxdomain", "wildcard", "tcp", "million"] {
            for name in [name.to_owned(), format!("{name}-2w")] {
                assert!(names.contains(&name), "{name} in {names:?}");
            }
        }
    }
}
