//! resolver-pins: a name server that gives one address at a time does not spread the clients of one resolver (C5).
//!
//! Given a name with four addresses of which each answer has one, drawn by weight, when many clients ask through unbound,
//! BIND or dnsmasq within one TTL, then all of them get the address that the resolver remembers. Given the same name with the
//! whole set in each answer, then the resolver rotates what it remembers and the clients are spread. Clients that remember for
//! themselves alone, as our load's visitors do straight at the name server, are spread in either case. The control switches
//! the resolvers' caches off: then one address at a time pins nobody.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Group, Reference, Run, Seconds, Story};
use super::{Settings, conditions};
use crate::load::{self, ClientKind, Plan, Report};
use crate::resolvers::{Authority, Bench, Caching, Resolver, TARGET_PORT, Target, Zone};

pub(super) const NAMED: Named = Named {
    name: "resolver-pins",
    claim: "one address an answer pins all clients of a caching resolver to it for a TTL; the whole set spreads them (C5)",
    protection: "the resolvers' caches",
};

const ORIGIN: &str = "fitness.example.com";
const ADDRESSES: u8 = 4;
/// Far above the time of a run: all that happens to a name happens within one TTL.
const TTL_S: u32 = 300;
/// One request each, so that the resolver and not the visitor's own memory decides.
const VISITORS: u32 = 60;
const RATE_PER_S: f64 = 30.0;
/// A share of the busiest address from which on clients count as pinned, and one up to which they are spread. Even is a quarter;
/// 60 visitors who choose evenly pass the latter once in 100,000 runs.
const PINNED: f64 = 0.95;
const SPREAD: f64 = 0.5;

/// What an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    One,
    Whole,
}

impl Mode {
    const ALL: [Self; 2] = [Self::One, Self::Whole];

    fn title(self) -> &'static str {
        match self {
            Self::One => "one address an answer",
            Self::Whole => "the whole set",
        }
    }

    /// The name that stands for window `n`: its first question begins a TTL.
    fn label(self, n: usize) -> String {
        match self {
            Self::One => format!("one-{n}"),
            Self::Whole => format!("whole-{n}"),
        }
    }
}

/// How clients get at the name; none is straight at the name server.
type Path = Option<Resolver>;

fn path_name(path: Path) -> &'static str {
    path.map_or("none, own memory", Resolver::name)
}

/// What one path and mode gave: the busiest address' share in each window, from 0 to 1.
#[derive(Debug, Clone)]
struct Measured {
    path: Path,
    mode: Mode,
    shares: Vec<f64>,
    loads: Vec<Report>,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let windows = if settings.short { 3 } else { 15 };
    let main = measure(windows, Caching::On, &Mode::ALL).await?;
    let control = measure(windows, Caching::Off, &[Mode::One]).await?;
    Ok(story(settings, &main, &control))
}

async fn measure(windows: usize, caching: Caching, modes: &[Mode]) -> Result<Vec<Measured>> {
    let bench = Bench::prepare()?;
    let addresses: Vec<Ipv4Addr> = (1..=ADDRESSES).map(|n| bench.host(20 + n)).collect();
    let mut targets = Vec::new();
    for address in &addresses {
        targets.push(Target::start((*address, TARGET_PORT).into()).await?);
    }
    let authority = authority(&bench, windows, &addresses).await?;
    let resolvers = bench.resolvers(&[(ORIGIN, vec![authority.address])], caching).await?;
    let paths: Vec<(Path, SocketAddr)> =
        resolvers.into_iter().map(|(it, at)| (Some(it), at)).chain([(None, authority.address)]).collect();
    let mut measured: Vec<Measured> = Vec::new();
    for (path, _) in &paths {
        let of = |mode: &Mode| Measured { path: *path, mode: *mode, shares: Vec::new(), loads: Vec::new() };
        measured.extend(modes.iter().map(of));
    }
    for window in 0..windows {
        let plans =
            paths.iter().flat_map(|(_, server)| modes.iter().map(|mode| plan(*server, *mode, window)));
        for (load, measured) in load::run_all(plans.collect()).await?.into_iter().zip(&mut measured) {
            measured.shares.push(busiest(&load));
            measured.loads.push(load);
        }
    }
    Ok(measured)
}

async fn authority<'a>(bench: &'a Bench, windows: usize, addresses: &[Ipv4Addr]) -> Result<Authority<'a>> {
    let (mut records, mut sets) = (String::new(), Vec::new());
    for window in 0..windows {
        records += &Zone::set(&Mode::Whole.label(window), TTL_S, addresses);
        let one = Mode::One.label(window);
        records += &Zone::set(&one, TTL_S, addresses);
        sets.push(serde_json::json!({ "name": format!("{one}.{ORIGIN}"), "order": "weighted" }));
    }
    let zone = Zone { origin: ORIGIN, serial: 1, negative_ttl_s: 1, records };
    bench.authority(2, &zone, &[("ANSWERS__SET", serde_json::Value::from(sets).to_string())]).await
}

fn plan(server: SocketAddr, mode: Mode, window: usize) -> Plan {
    let name = format!("{}.{ORIGIN}", mode.label(window));
    let duration = Duration::from_secs_f64(f64::from(VISITORS) / RATE_PER_S);
    Plan::by_name(ClientKind::Plain, &name, TARGET_PORT, vec![server])
        .rate(RATE_PER_S, duration)
        .users(VISITORS as usize, false)
}

/// The share of the address that got most of the requests.
fn busiest(load: &Report) -> f64 {
    let total: u64 = load.by_address.values().sum();
    load.by_address.values().max().copied().unwrap_or(0) as f64 / total.max(1) as f64
}

impl Measured {
    fn is_pinned(&self) -> bool {
        !self.shares.is_empty() && self.shares.iter().all(|share| *share >= PINNED)
    }

    fn is_spread(&self) -> bool {
        !self.shares.is_empty() && self.shares.iter().all(|share| *share <= SPREAD)
    }

    fn failed(&self) -> u64 {
        self.loads.iter().map(|load| Counts::from(load).failed).sum()
    }

    fn mean(&self) -> f64 {
        self.shares.iter().sum::<f64>() / self.shares.len().max(1) as f64
    }
}

fn judge(main: &[Measured], control: &[Measured]) -> Judgement {
    let as_claimed = |it: &Measured| match (it.path, it.mode) {
        (Some(_), Mode::One) => it.is_pinned(),
        _ => it.is_spread(),
    };
    let demands = main.iter().map(|it| as_claimed(it) && it.failed() == 0).collect::<Vec<_>>();
    let mut resolvers = control.iter().filter(|it| it.path.is_some()).peekable();
    Judgement::of(&demands, resolvers.peek().is_some() && resolvers.all(Measured::is_spread))
}

fn counts(all: &[Measured]) -> Counts {
    let mut sum = Counts::default();
    for counts in all.iter().flat_map(|it| &it.loads).map(Counts::from) {
        sum.attempted += counts.attempted;
        sum.acknowledged += counts.acknowledged;
        sum.failed += counts.failed;
    }
    sum
}

fn in_words(all: &[Measured], mode: Mode) -> String {
    let of_mode = all.iter().filter(|it| it.mode == mode);
    let words = of_mode.map(|it| format!("{} {:.0} %", path_name(it.path), 100.0 * it.mean()));
    words.collect::<Vec<_>>().join(", ")
}

fn story(settings: Settings, main: &[Measured], control: &[Measured]) -> Story {
    let evidence = Evidence {
        reason: format!(
            "on one of {ADDRESSES} addresses within a TTL, by resolver: with one address an answer {}; with the whole set {}; \
             with one and no caches {}",
            in_words(main, Mode::One),
            in_words(main, Mode::Whole),
            in_words(control, Mode::One),
        ),
        counts: counts(main),
        seconds: Seconds::default(),
        control_counts: counts(control),
    };
    let mut facts = conditions(settings);
    let windows = main.first().map_or(0, |it| it.shares.len());
    facts.push((
        "windows".into(),
        format!("{windows} of one TTL each, {VISITORS} visitors a window and resolver"),
    ));
    Story {
        result: judge(main, control).result(&NAMED, settings, evidence),
        hypothesis: "Visitors resolve a name of four addresses through one resolver, all within one TTL, and make one request each to the \
                     first address that they are given; each window has a name of its own."
            .into(),
        facts,
        charts: vec![chart(main, control)],
        runs: main.iter().flat_map(run_of).collect(),
    }
}

fn chart(main: &[Measured], control: &[Measured]) -> Chart {
    let group = |words: &str, mode: Mode, all: &[Measured]| {
        let of_mode = all.iter().filter(|it| it.mode == mode);
        let bars = of_mode.map(|it| Bar::new(path_name(it.path), 100.0 * it.mean())).collect();
        Group { title: format!("{}{words}", mode.title()), bars }
    };
    Chart {
        title: "share of the busiest address within one TTL, by resolver".into(),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(ADDRESSES), label: "even".into() }),
        groups: vec![
            group("", Mode::One, main),
            group("", Mode::Whole, main),
            group(", no caches", Mode::One, control),
        ],
    }
}

/// The first window stands for all.
fn run_of(measured: &Measured) -> Option<Run> {
    let load = measured.loads.first()?.clone();
    let title = format!("{}, resolver: {}", measured.mode.title(), path_name(measured.path));
    Some(Run { title, load, bands: Vec::new(), events: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    const PATHS: [Path; 4] = [Some(Resolver::Unbound), Some(Resolver::Bind), Some(Resolver::Dnsmasq), None];

    /// Shares in percent of one window, by path.
    fn measured(mode: Mode, shares: [u32; 4]) -> Vec<Measured> {
        let one = |(path, share)| Measured {
            path,
            mode,
            shares: vec![f64::from(share) / 100.0],
            loads: vec![Report::empty(ClientKind::Plain)],
        };
        PATHS.into_iter().zip(shares).map(one).collect()
    }

    #[track_caller]
    fn check(one: [u32; 4], whole: [u32; 4], without: [u32; 4], verdict: Verdict, caught: bool) {
        let main = [measured(Mode::One, one), measured(Mode::Whole, whole)].concat();
        assert_eq!(judge(&main, &measured(Mode::One, without)), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_one_pins_and_the_set_spreads() {
        check([100, 100, 100, 30], [30, 28, 27, 26], [30; 4], Verdict::Holds, true);
    }

    #[test]
    fn refuted_by_one_resolver_that_does_otherwise() {
        check([100, 60, 100, 30], [30; 4], [30; 4], Verdict::Refuted, true);
        check([100, 100, 100, 30], [30, 30, 100, 30], [30; 4], Verdict::Refuted, true);
        check([100, 100, 100, 100], [30; 4], [30; 4], Verdict::Refuted, true);
    }

    #[test]
    fn a_failed_request_refutes() {
        let mut main = measured(Mode::One, [100, 100, 100, 30]);
        main[0].loads[0].failed = 1;
        assert_eq!(judge(&main, &measured(Mode::One, [30; 4])).verdict, Verdict::Refuted);
    }

    #[test]
    fn the_control_is_missed_when_one_still_pins() {
        check([100, 100, 100, 30], [30; 4], [30, 30, 100, 30], Verdict::Holds, false);
    }

    #[test]
    fn the_busiest_share_is_of_all_requests() {
        let mut load = Report::empty(ClientKind::Plain);
        assert!(busiest(&load).abs() < 1e-9);
        load.by_address = [("a".into(), 3), ("b".into(), 1)].into();
        assert!((busiest(&load) - 0.75).abs() < 1e-9);
    }
}
