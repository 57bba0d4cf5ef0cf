//! What the simulation shows of each algorithm. Bounds hold for every seed unless a mean over the seeds is named.

use super::*;
use crate::balance::Why;
use crate::balance::consistent_hash::{Key, hash};

const HASH: fn(f64) -> Algorithm = |bound| Algorithm::ConsistentHash { key: Key::Path, bound };

fn plain(machines: usize) -> Vec<Machine> {
    vec![Machine::PLAIN; machines]
}

fn slow(machines: usize) -> Vec<Machine> {
    let mut all = plain(machines);
    all[0].service_us *= 10.0;
    all
}

/// The mean over all seeds.
fn mean(plan: &Plan, figure: impl Fn(&mut Report) -> f64) -> f64 {
    (0..SEEDS).map(|seed| figure(&mut run(plan, seed))).sum::<f64>() / SEEDS as f64
}

/// Pearson's statistic of `served` against shares in proportion to `weights`.
fn chi_square(served: &[usize], weights: &[u32]) -> f64 {
    let (all, whole) = (served.iter().sum::<usize>() as f64, f64::from(weights.iter().sum::<u32>()));
    let one = |(served, weight): (&usize, &u32)| {
        let expected = all * f64::from(*weight) / whole;
        (*served as f64 - expected).powi(2) / expected
    };
    served.iter().zip(weights).map(one).sum()
}

fn weighted(weights: &[u32]) -> Vec<Machine> {
    weights.iter().map(|weight| Machine { weight: *weight, ..Machine::PLAIN }).collect()
}

#[test]
fn a_seed_repeats_a_run_exactly() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::Random, Algorithm::LeastRequests, EWMA, HASH(1.25)] {
        let plan = Plan { balancers: 2, race_us: 100, ..Plan::new(algorithm, slow(5), 0.7) };
        let (one, two) = (run(&plan, 9), run(&plan, 9));
        assert_eq!((one.served, one.latencies_us), (two.served, two.latencies_us));
    }
}

#[test]
fn round_robins_shares_are_exact() {
    // Each of four workers may be in the middle of its round.
    for (weights, seed) in
        [[1, 1, 1], [1, 2, 4], [256, 1, 100]].iter().flat_map(|w| (0..SEEDS).map(move |s| (w, s)))
    {
        let plan = Plan { workers: 4, ..Plan::new(Algorithm::RoundRobin, weighted(weights), 0.3) };
        let report = run(&plan, seed);
        let whole: u32 = weights.iter().sum();
        for (served, weight) in report.served.iter().zip(weights) {
            let expected = 4_000.0 * f64::from(*weight) / f64::from(whole);
            assert!((*served as f64 - expected).abs() <= 8.0, "{:?} for {weights:?}", report.served);
        }
    }
}

#[test]
fn draws_and_keys_are_spread_as_chance_would_have_it() {
    // 99.9 % of samples with 7 degrees of freedom are below 24.3; of 64 seeds, four above it are one in a million.
    let weights = [1, 1, 2, 3, 5, 8, 13, 100];
    for algorithm in [Algorithm::Random, HASH(1e6)] {
        let above = (0..SEEDS)
            .filter(|seed| {
                let report = run(&Plan::new(algorithm.clone(), weighted(&weights), 0.01), *seed);
                chi_square(&report.served, &weights) > 24.3
            })
            .count();
        assert!(above < 4, "{algorithm:?}: {above} seeds");
    }
}

#[test]
fn least_requests_follows_weights_and_keeps_nobody_waiting() {
    let fitting: Vec<Machine> =
        [1, 2, 4].map(|weight| Machine { weight, slots: weight as usize * 4, ..Machine::PLAIN }).to_vec();
    let plan = Plan::new(Algorithm::LeastRequests, fitting, 0.8);
    for (machine, part) in [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0].into_iter().enumerate() {
        let share = mean(&plan, |report| report.share(machine));
        assert!((share - part).abs() < 0.015, "{machine}: {share}");
    }
    for seed in 0..SEEDS {
        let turns = run(&Plan::new(Algorithm::RoundRobin, plain(3), 0.8), seed);
        let least = run(&Plan::new(Algorithm::LeastRequests, plain(3), 0.8), seed);
        assert!(least.needless_waits < 200, "{}", least.needless_waits);
        assert!(least.needless_waits * 4 < turns.needless_waits, "{}", turns.needless_waits);
    }
}

#[test]
fn a_backend_ten_times_slower_ruins_round_robin_and_not_the_others() {
    let figures = |algorithm: Algorithm| {
        let plan = Plan::new(algorithm, slow(3), 0.5);
        (mean(&plan, |report| report.share(0)), mean(&plan, |report| report.quantile_ms(0.99)))
    };
    let (turns, least, cost) =
        (figures(Algorithm::RoundRobin), figures(Algorithm::LeastRequests), figures(EWMA));
    assert!((turns.0 - 1.0 / 3.0).abs() < 0.001 && turns.1 > 10_000.0, "{turns:?}");
    assert!((0.05..0.10).contains(&least.0) && least.1 < 250.0, "{least:?}");
    assert!((0.005..0.02).contains(&cost.0) && cost.1 < 80.0, "{cost:?}");
}

#[test]
fn a_fast_failer_attracts_least_requests_and_not_ewma() {
    let mut machines = plain(3);
    machines[0].fails = true;
    for seed in 0..SEEDS {
        let least = run(&Plan::new(Algorithm::LeastRequests, machines.clone(), 0.4), seed);
        let cost = run(&Plan::new(EWMA, machines.clone(), 0.4), seed);
        assert!(least.share(0) > 0.5, "{}", least.share(0));
        assert!(cost.share(0) < 0.01, "{}", cost.share(0));
    }
}

#[test]
fn looking_late_makes_a_herd_of_those_who_compare_all_and_not_of_two_drawn() {
    // Sixteen workers look at 64 backends a millisecond before they are counted. Two drawn are within reach of fresh counts.
    let stale = |algorithm, machines| {
        let plan = Plan { workers: 16, race_us: 1_000, ..Plan::new(algorithm, machines, 0.8) };
        mean(&plan, |report| report.quantile_ms(0.99))
    };
    let (random, least, cost) = (
        stale(Algorithm::Random, plain(64)),
        stale(Algorithm::LeastRequests, plain(64)),
        stale(EWMA, plain(64)),
    );
    assert!(least < random * 0.85 && cost < random * 0.9, "{least} {cost} {random}");
}

#[test]
fn balancers_that_know_nothing_of_each_other_still_beat_turns() {
    let p99 = |algorithm| {
        let plan = Plan { balancers: 4, workers: 1, ..Plan::new(algorithm, plain(8), 0.8) };
        mean(&plan, |report| report.quantile_ms(0.99))
    };
    let (turns, least, cost) = (p99(Algorithm::RoundRobin), p99(Algorithm::LeastRequests), p99(EWMA));
    assert!(least < turns && cost < turns, "{least} {cost} {turns}");
}

/// Who has each of 20,000 keys among backends `ids`, all of weight 1 but those in `heavier` with 2.
fn owners(ids: &[u64], heavier: &[u64]) -> Vec<u64> {
    let now = Instant::now();
    let share = |id| if heavier.contains(&id) { 2 * SHARE_ONE } else { SHARE_ONE };
    let entries: Vec<Seen> = ids.iter().map(|id| Seen::new(*id, share(*id), now)).collect();
    let all: Vec<usize> = (0..ids.len()).collect();
    let mut picker = Picker::new(0);
    (0..20_000_u64)
        .map(|key| {
            let key = Some(hash(&key.to_be_bytes()));
            let choice = Choice { entries: &entries, tiers: [&all, &[]], tried: &[], key, now };
            match picker.pick(&HASH(1.25), &choice) {
                Pick::One(index, Why::Hash | Why::Alone) => entries[index].id,
                other => panic!("{other:?}"),
            }
        })
        .collect()
}

#[test]
fn a_backend_that_joins_or_leaves_moves_its_own_keys_only() {
    let base: Vec<u64> = (0..9).collect();
    let before = owners(&base, &[]);
    let joined = owners(&(0..10).collect::<Vec<_>>(), &[]);
    let moved: Vec<u64> =
        before.iter().zip(&joined).filter(|(old, new)| old != new).map(|(_, new)| *new).collect();
    assert!(moved.iter().all(|owner| *owner == 9), "keys moved between those who stayed");
    let part = moved.len() as f64 / before.len() as f64;
    assert!((0.09..=0.11).contains(&part), "{part} of the keys for a tenth of the backends");
    // And back: everybody has what they had.
    assert_eq!(owners(&base, &[]), before);
    // The keys of one that leaves are spread over all the others.
    let left = owners(&(1..9).collect::<Vec<_>>(), &[]);
    let mut heirs = [0; 9];
    for (old, new) in before.iter().zip(&left) {
        assert!(old == new || *old == 0);
        heirs[usize::try_from(*new).unwrap()] += usize::from(*old == 0);
    }
    assert!(heirs[1..].iter().all(|keys| (200..360).contains(keys)), "{heirs:?}");
}

#[test]
fn a_heavier_weight_only_attracts_keys() {
    let ids: Vec<u64> = (0..9).collect();
    let (before, after) = (owners(&ids, &[]), owners(&ids, &[4]));
    assert!(before.iter().zip(&after).all(|(old, new)| old == new || *new == 4));
    let share = after.iter().filter(|owner| **owner == 4).count() as f64 / after.len() as f64;
    assert!((share - 0.2).abs() < 0.01, "{share}");
}

#[test]
fn a_popular_key_is_held_to_its_bound() {
    // Everybody asks for the same: without the bound one of eight would get everything.
    let now = Instant::now();
    let entries: Vec<Seen> = (0..8).map(|id| Seen::new(id, SHARE_ONE, now)).collect();
    let all: Vec<usize> = (0..8).collect();
    let mut picker = Picker::new(0);
    for _ in 0..800 {
        let choice = Choice { entries: &entries, tiers: [&all, &[]], tried: &[], key: Some(1), now };
        let Pick::One(index, _) = picker.pick(&HASH(1.25), &choice) else { panic!() };
        assert!(entries[index].load.enter(usize::MAX));
    }
    let most = entries.iter().map(|entry| entry.load.inflight()).max().unwrap();
    assert!((115..=126).contains(&most), "{most} of 800 where 100 is the mean");
}

#[test]
fn a_backend_that_starts_slowly_gets_a_growing_share() {
    use crate::balance::slow_start::{self, Ramp};
    let (begun, over) = (Instant::now(), Duration::from_secs(10));
    for algorithm in [Algorithm::RoundRobin, Algorithm::Random, Algorithm::LeastRequests] {
        let mut picker = Picker::new(3);
        let mut shares = Vec::new();
        for second in 0..12 {
            let now = begun + Duration::from_secs(second);
            let mut entries: Vec<Seen> = (0..3).map(|id| Seen::new(id, SHARE_ONE, now)).collect();
            entries[2].share = slow_start::share(1, Some(Ramp { since: begun, over }), now);
            let all = [0, 1, 2];
            let taken = (0..2_000)
                .filter(|_| {
                    let choice = Choice { entries: &entries, tiers: [&all, &[]], tried: &[], key: None, now };
                    picker.pick(&algorithm, &choice) != Pick::Nobody
                        && matches!(picker.pick(&algorithm, &choice), Pick::One(2, _))
                })
                .count();
            shares.push(taken as f64 / 2_000.0);
        }
        assert!((0.02..0.08).contains(&shares[0]), "{algorithm:?} {shares:?}");
        assert!((0.16..0.24).contains(&shares[5]), "{algorithm:?} {shares:?}");
        assert!((0.30..0.37).contains(&shares[11]), "{algorithm:?} {shares:?}");
    }
}
