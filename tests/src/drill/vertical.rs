//! vertical: one machine that gets more CPU or more memory does more, until something else is the limit (C1).
//!
//! Given one app and visitors whose searches no cache can answer, when the app's part of the CPUs is doubled twice, then it
//! answers nearly twice as much each time; without a limit it is the machine that ends the growth. Given a cache that cannot
//! hold what visitors ask for, when its memory is made four times as large, then the same CPU answers much more; when it is
//! made so once more, nothing is gained, because everything fits already.
//!
//! The parts are a tenth of 0.5, 1 and 2 CPUs: Postgres needs three times the app's CPU for such a search and the visitors
//! are on the same machine, so that with whole CPUs the drill would measure those. The control is the same machine on
//! paper: a "larger" one whose limit stays.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::capacity::{Capacity, Probe, failed};
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Group, Seconds, Story};
use super::{Settings, facts};
use crate::cpu_limit::CpuLimit;
use crate::stack::Stack;
use crate::topology::Override;

pub(super) const NAMED: Named = Named {
    name: "vertical",
    claim: "one machine with more CPU or more memory does more, until another limit is met (C1)",
    protection: "the CPU that was added (a limit that stays)",
};

/// Parts of a CPU for the app.
const CPUS: [f64; 3] = [0.05, 0.1, 0.2];
/// Enough that the app always has work. Few, because what runs at the same time ends at about the same time, and what ends
/// just inside or outside of what is measured is the error.
const CONNECTIONS: usize = 4;
/// Twice the CPU is twice the work; this much of it is asked for, since others use the machine too.
const DOUBLED: f64 = 1.5;
/// Below it nothing was gained.
const SAME: f64 = 1.3;
/// Each answer with so many results is about 20 kB in Redis.
const RESULTS: u32 = 100;
/// With a small part of a CPU an app may come too late for the shipped 80 ms by itself, and takes an answer that the cache
/// has given for none.
const PATIENT: &[Override] = &[Override::new("app", "CACHE__DEADLINE_MS", "2000")];

/// Memory for the cache in MB, and how many different searches visitors make.
struct Memory {
    sizes: [u32; 3],
    searches: u64,
}

/// The sizes of the claim take 1,600 searches to fill; a quarter of both is filled in the time of a short run.
const LONG: Memory = Memory { sizes: [16, 64, 256], searches: 1_600 };
const SHORT: Memory = Memory { sizes: [4, 16, 64], searches: 400 };

#[derive(Debug, Clone, PartialEq)]
struct Figures {
    by_cpus: [Capacity; 3],
    unlimited: Capacity,
    by_memory: [Capacity; 3],
    control: Capacity,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(1).lbs(1).overrides(PATIENT).start().await?;
    let limit = match CpuLimit::new() {
        Ok(limit) => limit,
        Err(reason) => return Ok(unavailable(settings, &stack, reason.to_string())),
    };
    limit.hold(stack.app(1).status().await?.pid.context("app-1 has a process")?)?;
    let memory = if settings.short { SHORT } else { LONG };
    let figures = measure(&stack, &limit, settings, &memory).await?;
    Ok(story(settings, &stack, &figures, &memory))
}

fn probe(stack: &Stack, settings: Settings) -> Probe {
    let measured = Duration::from_millis(if settings.short { 3_000 } else { 15_000 });
    // What waits for the smallest part takes a while.
    let warm_up = Duration::from_secs(1);
    Probe { address: stack.endpoints().lbs[0], connections: CONNECTIONS, warm_up, measured }
}

async fn measure(stack: &Stack, limit: &CpuLimit, settings: Settings, memory: &Memory) -> Result<Figures> {
    let probe = probe(stack, settings);
    // Nobody asks the same twice; what one run asked another does not.
    let uncached = |run: usize| move |n: u64| search(&format!("strong legs {run} {n}"));
    limit.set(None)?;
    probe.warm(uncached(CPUS.len() + 2)).await?;
    let mut figures = Vec::new();
    for (run, cpus) in CPUS.iter().map(|cpus| Some(*cpus)).chain([None, Some(CPUS[0])]).enumerate() {
        limit.set(cpus)?;
        figures.push(probe.run(uncached(run)).await?);
    }
    let mut by_memory = Vec::new();
    for megabytes in memory.sizes {
        set_cache_memory(stack, megabytes).await?;
        // Filled by an app without a limit; what does not fit is thrown out on the way. The second time it takes from the cache
        // what is there: that, too, is slow at first.
        limit.set(None)?;
        fill(stack, memory.searches).await?;
        fill(stack, memory.searches).await?;
        limit.set(Some(CPUS[0]))?;
        let (searches, seed) = (memory.searches, settings.seed);
        by_memory.push(probe.run(move |n| popular(scatter(n, seed) % searches)).await?);
    }
    let list = |all: Vec<Capacity>| all.try_into().expect("three were measured");
    let [unlimited, control] = [figures[3], figures[4]];
    figures.truncate(CPUS.len());
    Ok(Figures { by_cpus: list(figures), unlimited, by_memory: list(by_memory), control })
}

fn search(text: &str) -> String {
    format!("/api/exercises?q={}&limit={RESULTS}", text.replace(' ', "+"))
}

fn popular(n: u64) -> String {
    search(&format!("legs without equipment {n}"))
}

/// Evenly spread and the same in every run (the finaliser of SplitMix64, by Steele, Lea and Flood).
fn scatter(n: u64, seed: u64) -> u64 {
    let mut z = n.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn fill(stack: &Stack, searches: u64) -> Result<()> {
    let address = stack.endpoints().lbs[0];
    let list = (0..CONNECTIONS as u64).map(|client| async move {
        let mut kept = None;
        for n in (client..searches).step_by(CONNECTIONS) {
            super::capacity::ask(address, &mut kept, &popular(n)).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    futures_util::future::try_join_all(list).await.context("filling the cache")?;
    Ok(())
}

async fn set_cache_memory(stack: &Stack, megabytes: u32) -> Result<()> {
    let password = stack.platform().password("redis-cache").await?;
    let status = stack.instance("redis-cache").status().await?;
    let address = status.address.context("redis-cache has an address")?;
    let client = redis::Client::open(format!("redis://:{password}@{address}:6379/"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory").arg(format!("{megabytes}mb"));
    set.exec_async(&mut connection).await.with_context(|| format!("maxmemory {megabytes}mb"))
}

fn gain(from: Capacity, to: Capacity) -> f64 {
    to.per_second / from.per_second.max(f64::MIN_POSITIVE)
}

fn judge(it: &Figures) -> Judgement {
    let [small, middle, large] = it.by_cpus;
    let [little, enough, plenty] = it.by_memory;
    let everything = it.by_cpus.iter().chain(&it.by_memory).chain([&it.unlimited]);
    // With all CPUs of the machine, and each worth what the first parts were worth.
    let cpus = std::thread::available_parallelism().map_or(1.0, |it| it.get() as f64);
    let demands = [
        gain(small, middle) >= DOUBLED,
        gain(middle, large) >= DOUBLED,
        gain(large, it.unlimited) < cpus / CPUS[2] / 2.0,
        gain(little, enough) >= DOUBLED,
        gain(enough, plenty) < SAME,
        failed(everything) == 0,
    ];
    Judgement::of(&demands, gain(small, it.control) < SAME)
}

fn counts(all: &[Capacity]) -> Counts {
    let answered = all.iter().map(|it| it.answered).sum();
    let failed = failed(all);
    Counts { attempted: answered + failed, acknowledged: answered, failed, ..Counts::default() }
}

fn story(settings: Settings, stack: &Stack, figures: &Figures, memory: &Memory) -> Story {
    let Figures { by_cpus, unlimited, by_memory, control } = figures;
    let hit_percent = |it: &Capacity| 100 * it.hits / it.answered.max(1);
    let cpus = CPUS.iter().zip(by_cpus).map(|(cpus, it)| format!("{cpus} CPU {:.0}/s", it.per_second));
    let sizes = memory.sizes.iter().zip(by_memory);
    let sizes =
        sizes.map(|(size, it)| format!("{size} MB {:.0}/s ({} % hits)", it.per_second, hit_percent(it)));
    let reason = format!(
        "searches past the cache: {}, no limit {:.0}/s; a cache for {} searches at {} CPU: {}; the limit left at {} CPU: {:.0}/s",
        cpus.collect::<Vec<_>>().join(", "),
        unlimited.per_second,
        memory.searches,
        CPUS[0],
        sizes.collect::<Vec<_>>().join(", "),
        CPUS[0],
        control.per_second,
    );
    let all: Vec<Capacity> = by_cpus.iter().chain(by_memory).chain([unlimited]).copied().collect();
    let evidence = Evidence {
        reason,
        counts: counts(&all),
        seconds: Seconds::default(),
        control_counts: counts(&[*control]),
    };
    let mut facts = facts(stack, settings);
    facts.push(("each search".into(), format!("{RESULTS} results, {CONNECTIONS} at a time")));
    Story {
        result: judge(figures).result(&NAMED, settings, evidence),
        hypothesis: "One app in a control group is asked for searches as fast as it answers: with more and more CPU while no answer \
                     comes from the cache, then with a fixed part of a CPU and more and more memory for the cache."
            .into(),
        facts,
        charts: charts(figures, memory),
        runs: Vec::new(),
    }
}

fn charts(figures: &Figures, memory: &Memory) -> Vec<Chart> {
    let chart = |title: &str, bars: Vec<Bar>| Chart {
        title: title.into(),
        unit: "/s",
        reference: None,
        groups: vec![Group { title: "answers a second".into(), bars }],
    };
    let by_cpus = CPUS.iter().zip(&figures.by_cpus);
    let mut cpus: Vec<Bar> =
        by_cpus.map(|(cpus, it)| Bar::new(format!("{cpus} CPU"), it.per_second)).collect();
    cpus.push(Bar::new("no limit: the machine", figures.unlimited.per_second));
    cpus.push(Bar::new(format!("control: still {} CPU", CPUS[0]), figures.control.per_second).marked());
    let by_memory = memory.sizes.iter().zip(&figures.by_memory);
    let sizes = by_memory.map(|(size, it)| Bar::new(format!("{size} MB"), it.per_second)).collect();
    vec![chart("more CPU, no cache", cpus), chart("more memory for the cache, the same CPU", sizes)]
}

fn unavailable(settings: Settings, stack: &Stack, reason: String) -> Story {
    let none = Counts::default();
    let evidence = Evidence { reason, counts: none, seconds: Seconds::default(), control_counts: none };
    Story {
        result: Judgement::not_measurable().result(&NAMED, settings, evidence),
        hypothesis: "One app in a control group gets more and more CPU.".into(),
        facts: facts(stack, settings),
        charts: Vec::new(),
        runs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    fn per_second(per_second: f64) -> Capacity {
        Capacity { answered: 100, per_second, ..Capacity::default() }
    }

    fn good() -> Figures {
        Figures {
            by_cpus: [50.0, 98.0, 190.0].map(per_second),
            unlimited: per_second(300.0),
            by_memory: [60.0, 800.0, 810.0].map(per_second),
            control: per_second(51.0),
        }
    }

    #[track_caller]
    fn check(figures: &Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(figures), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_more_is_more_until_it_is_not() {
        check(&good(), Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_more_is_not_more() {
        check(&Figures { by_cpus: [50.0, 60.0, 190.0].map(per_second), ..good() }, Verdict::Refuted, true);
        check(&Figures { by_cpus: [50.0, 98.0, 120.0].map(per_second), ..good() }, Verdict::Refuted, true);
        check(&Figures { by_memory: [60.0, 70.0, 71.0].map(per_second), ..good() }, Verdict::Refuted, true);
    }

    #[test]
    fn refuted_when_there_is_no_limit_or_something_failed() {
        check(&Figures { unlimited: per_second(1e6), ..good() }, Verdict::Refuted, true);
        check(&Figures { by_memory: [60.0, 400.0, 800.0].map(per_second), ..good() }, Verdict::Refuted, true);
        let failing = Capacity { failed: 1, ..per_second(300.0) };
        check(&Figures { unlimited: failing, ..good() }, Verdict::Refuted, true);
    }

    #[test]
    fn a_control_that_grows_is_missed() {
        check(&Figures { control: per_second(100.0), ..good() }, Verdict::Holds, false);
    }

    #[test]
    fn scattered_numbers_meet_every_search() {
        let mut met = [0; 50];
        (0..2_000).for_each(|n| met[usize::try_from(scatter(n, 7) % 50).unwrap()] += 1);
        assert!(met.iter().all(|times| (15..90).contains(times)), "{met:?}");
    }
}
