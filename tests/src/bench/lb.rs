//! The load balancer beside HAProxy, nginx and Caddy.
//!
//! Client and origin have one core and the subject the other, unless the subject has two workers: then all share both.
//! Every subject is started anew for each measurement, so that no round profits from what an earlier one warmed up.

mod idle;
mod subjects;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::closed_loop::{self, Load};
use super::figures::{Figures, Report};
use super::machine::{self, Machine};
use super::meter::{Meter, busiest_percent};
use super::origin::Page;
use super::rounds::{self, Case, Options, Purpose};
use subjects::{Bench, Setting, Subject};

/// The bench's name.
pub const NAME: &str = "lb";

/// Until connections are open and caches are warm.
const WARM_UP: Duration = Duration::from_millis(500);
/// Connections a worker.
const CONNECTIONS: usize = 64;
/// Idle connections whose memory is measured.
const IDLE_CONNECTIONS: usize = 10_000;
/// For the idle connections, in this process and in the subjects, which inherit the limit.
const DESCRIPTORS: u64 = 16_384;
/// Where the load stays while the subject has the other core.
const LOAD_CORE: usize = 1;

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    KeepAlive,
    Tls,
    Sticky,
    Large,
    NewConnection,
    Idle,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    traffic: Traffic,
    workers: usize,
}

fn cases() -> Vec<Case<Kind>> {
    let traffics = [
        ("keep-alive", Traffic::KeepAlive),
        ("keep-alive-tls", Traffic::Tls),
        ("keep-alive-sticky", Traffic::Sticky),
        ("keep-alive-64k", Traffic::Large),
        ("new-connection", Traffic::NewConnection),
    ];
    let case = |name: String, traffic, workers| Case {
        name,
        kind: Kind { traffic, workers },
        subjects: Subject::ALL.map(Subject::name).to_vec(),
        counts_syscalls: traffic != Traffic::Idle,
    };
    let one = traffics.map(|(name, traffic)| case(name.to_owned(), traffic, 1));
    let two = traffics.map(|(name, traffic)| case(format!("{name}-2w"), traffic, 2));
    let idle = case("idle-connections".to_owned(), Traffic::Idle, 1);
    one.into_iter().chain(two).chain([idle]).collect()
}

/// Runs the bench; refuses when a peer or a tool is missing.
pub async fn run(options: &Options) -> Result<Report> {
    let cases = rounds::select(cases(), options)?;
    let machine = Machine::here();
    ensure!(machine.cores >= 2, "one core is too few: the subject and its load would wait for each other");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(most >= DESCRIPTORS, "{most} descriptors are too few; run: ulimit -Hn {DESCRIPTORS}");
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let bench = Bench::prepare()?;
    let _origins = closed_loop::start_origins(bench.origins(), Some(LOAD_CORE))?;
    let measure = async |case: &Case<Kind>, subject: &'static str, purpose| {
        let subject = Subject::named(subject).expect("cases name subjects");
        match case.kind.traffic {
            Traffic::Idle => measure_idle(&bench, subject).await,
            _ => measure_load(&bench, subject, case.kind, purpose, options.duration).await,
        }
    };
    let results = rounds::interleave(&cases, options.rounds, measure).await?;
    Ok(Report::new(NAME, machine, machine::commit(), results))
}

async fn measure_load(
    bench: &Bench,
    subject: Subject,
    kind: Kind,
    purpose: Purpose,
    duration: Duration,
) -> Result<Figures> {
    let (sticks, secure) = (kind.traffic == Traffic::Sticky, kind.traffic == Traffic::Tls);
    let (workers, alone) = (kind.workers, kind.workers == 1);
    let running = bench
        .start(subject, Setting { workers, sticks, secure, core: alone.then_some(1 - LOAD_CORE) })
        .await?;
    let load = closed_loop::start(Load {
        target: running.target,
        connections: CONNECTIONS * workers,
        page: if kind.traffic == Traffic::Large { Page::Large } else { Page::Small },
        reconnects: kind.traffic == Traffic::NewConnection,
        sticks,
        core: alone.then_some(LOAD_CORE),
        tls: running.tls.clone(),
    })?;
    tokio::time::sleep(WARM_UP).await;
    let meter = Meter::of(&running.process);
    let count = if purpose == Purpose::Syscalls { Some(meter.count_syscalls()?) } else { None };
    load.take()?;
    let (begun, cpu, threads) = (Instant::now(), meter.cpu()?, meter.threads(subject.worker_threads()));
    tokio::time::sleep(duration).await;
    let tally = load.take()?;
    let (seconds, spent) = (begun.elapsed().as_secs_f64(), meter.cpu()?.saturating_sub(cpu));
    let syscalls = count.map(super::meter::SyscallCount::finish).transpose()?;
    ensure!(
        tally.operations > 0,
        "no operation in {seconds:.1} s; the log ends:\n{}",
        running.process.tail()
    );
    let busiest = busiest_percent(&threads, &meter.threads(subject.worker_threads())).filter(|_| !alone);
    drop(load);
    let operations = precise(tally.operations);
    if let Some(syscalls) = syscalls {
        return Ok(Figures { syscalls_per_op: Some(precise(syscalls) / operations), ..Figures::default() });
    }
    let latency = |quantile| Some(precise(tally.latency.value_at_quantile(quantile)));
    Ok(Figures {
        cpu_us_per_op: Some(spent.as_secs_f64() * 1e6 / operations),
        ops_per_s: Some(operations / seconds),
        p50_us: latency(0.5),
        p99_us: latency(0.99),
        p999_us: latency(0.999),
        busiest_worker_percent: busiest,
        ..Figures::default()
    })
}

async fn measure_idle(bench: &Bench, subject: Subject) -> Result<Figures> {
    let running =
        bench.start(subject, Setting { workers: 1, sticks: false, secure: false, core: None }).await?;
    let meter = Meter::of(&running.process);
    // The first ones are served with what a program needs once.
    let target = running.target;
    let first = idle::open(target, 64).await?;
    let before = meter.memory_bytes();
    let rest = idle::open(target, IDLE_CONNECTIONS - first.len()).await?;
    let after = meter.memory_bytes();
    let added = precise(after.saturating_sub(before));
    Ok(Figures {
        bytes_per_connection: Some(added / precise(rest.len() as u64)),
        memory_bytes: Some(precise(after)),
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
        for name in [
            "keep-alive",
            "keep-alive-tls",
            "keep-alive-sticky-2w",
            "keep-alive-64k",
            "new-connection",
            "idle-connections",
        ] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
    }
}
