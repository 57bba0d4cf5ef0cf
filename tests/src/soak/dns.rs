//! The DNS server beside NSD for long: dnsperf at a steady rate, while the zone is another one each second and, with ours,
//! targets of its health checks go and come back.
//!
//! Both run all the time and have their turns under load, so that what else the machine does meets both; what is not under
//! load rests. Ours is one process from the first turn to the last, on which memory is measured. Each has one worker on one
//! core, its reloads included, and dnsperf has the other. dnsperf sends at its rate whether or not answers come, up to more
//! questions than a socket's buffer holds, so that a stall shows as loss, where the bench's closed loop would only slow down.
//!
//! NSD reads its zone at SIGHUP as ours does. It has no health checks, so nothing flips while it has its turn, and its CPU
//! time is not told: each reload is a new process of it.

mod answers;
mod changes;
mod judge;
mod reader;
mod report;
mod soaking;
mod targets;
mod zone;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bench::dns::subjects::{Bench, Subject};
use crate::bench::figures::median;
use crate::bench::machine::{self, Machine};

use judge::rounded;
pub use judge::{Own, Slice, Soaked, Verdict};
pub use report::{Load, Report};
use soaking::Soaking;
use targets::Targets;

/// The soak's name.
pub const NAME: &str = "dns";

/// Length of a turn: a thirtieth of the whole, between these.
const SLICE_MIN: Duration = Duration::from_secs(10);
const SLICE_MAX: Duration = Duration::from_secs(60);
/// A turn before the first one, with all changes.
const WARM_UP: Duration = Duration::from_secs(10);
/// Ours has such turns until there were so many flips: then what it remembers of each steered name (16 changes) is full,
/// and its allocator and its threads have their size.
const WARM_UP_FLIPS: u64 = 20;
/// Capacity is the median of so many runs of this length.
const CAPACITY_RUNS: usize = 3;

/// How long and how hard.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time under load of ours.
    pub duration: Duration,
    /// Rate, as a share of the smaller capacity.
    pub share: f64,
    /// Questions of a million that ours may lose beyond what NSD loses.
    pub allowance_per_million: u64,
    /// Turns of ours for each one of NSD; at least 1.
    pub peer_every: usize,
}

/// Runs the soak; refuses when NSD or a tool is missing.
pub async fn run(options: &Options) -> Result<Report> {
    let machine = Machine::here();
    ensure!(machine.cores >= 2, "one core is too few: the subject and its load would wait for each other");
    let bench = Bench::prepare(&[Subject::Ours, Subject::Nsd])?;
    let mut targets = Targets::open_all(bench.network()).await?;
    let mut ours = Soaking::start(&bench, Subject::Ours, &targets).await?;
    let mut nsd = Soaking::start(&bench, Subject::Nsd, &targets).await?;
    let (ours_capacity_per_s, nsd_capacity_per_s) = capacities(&ours, &nsd).await?;
    let rate = ours_capacity_per_s.min(nsd_capacity_per_s) * options.share;
    let slices = slices(options.duration);
    let load = Load {
        seconds: options.duration.as_secs_f64(),
        slices,
        nsd_slices: slices.div_ceil(options.peer_every),
        ours_capacity_per_s,
        nsd_capacity_per_s,
        share: options.share,
        rate_per_s: rounded(rate),
    };
    let length = options.duration / u32::try_from(slices).expect("at most 1440 turns");
    let mut own = Own::default();
    // A flip is waited for, and counted even if it never shows, so this ends.
    while own.flips.made < WARM_UP_FLIPS {
        ours.turn(WARM_UP, load.rate_per_s, Some((&mut targets, &mut own))).await?;
    }
    nsd.turn(WARM_UP, load.rate_per_s, None).await?;
    own.memory_bytes.clear();
    for number in 0..slices {
        for is_ours in order(number, options.peer_every) {
            let (soaking, extras) =
                if is_ours { (&mut ours, Some((&mut targets, &mut own))) } else { (&mut nsd, None) };
            let slice = soaking.turn(length, load.rate_per_s, extras).await?;
            eprintln!("turn {} of {slices}  {:<5} {}", number + 1, soaking.subject.name(), brief(&slice));
            soaking.soaked.slices.push(slice);
        }
    }
    ours.scrape(&mut own).await?;
    let verdicts = judge::verdicts(&ours.soaked, &nsd.soaked, &own, options.allowance_per_million);
    let passed = verdicts.iter().all(|it| it.holds);
    let (ours, nsd) = (ours.soaked, nsd.soaked);
    Ok(Report { soak: NAME, machine, commit: machine::commit(), load, ours, nsd, own, verdicts, passed })
}

/// Questions a second that each answers when nothing limits dnsperf and nothing changes.
async fn capacities(ours: &Soaking, nsd: &Soaking) -> Result<(f64, f64)> {
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..CAPACITY_RUNS {
        own.push(ours.capacity().await?);
        peer.push(nsd.capacity().await?);
    }
    Ok((median(own).context("a run")?, median(peer).context("a run")?))
}

/// How many turns a time has.
fn slices(duration: Duration) -> usize {
    let length = (duration / 30).clamp(SLICE_MIN, SLICE_MAX);
    (duration.as_secs() / length.as_secs()).max(1).try_into().unwrap_or(1)
}

/// Whose turns follow, true for ours. NSD has one where `peer_every` divides the number; who goes first then changes.
fn order(number: usize, peer_every: usize) -> Vec<bool> {
    match (number % peer_every, (number / peer_every) % 2) {
        (0, 0) => vec![true, false],
        (0, _) => vec![false, true],
        _ => vec![true],
    }
}

fn brief(slice: &Slice) -> String {
    let cpu = slice.cpu_us_per_query.map_or_else(String::new, |us| format!(", {us:.2} us CPU"));
    let Slice { answered, lost, dropped, seconds, .. } = slice;
    format!("{answered} answered in {seconds:.1} s, {lost} lost, {dropped} dropped{cpu}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: u64, count: usize) {
        assert_eq!(slices(Duration::from_secs(seconds)), count);
    }

    #[test]
    fn turns_are_of_ten_to_sixty_seconds() {
        check(10, 1);
        check(30, 3);
        check(300, 30);
        check(600, 30);
        check(1_800, 30);
        check(3_600, 60);
        check(86_400, 1_440);
    }

    #[test]
    fn both_have_their_turns_and_go_first_in_turn() {
        let orders = |peer_every| (0..4).map(|number| order(number, peer_every)).collect::<Vec<_>>();
        assert_eq!(orders(1), [[true, false], [false, true], [true, false], [false, true]]);
        assert_eq!(orders(2), [vec![true, false], vec![true], vec![false, true], vec![true]]);
    }
}
