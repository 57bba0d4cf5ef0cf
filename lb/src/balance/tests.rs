use super::load::Outcome;
use super::simulation::Seen;
use super::*;

/// Backends of weight `weights`; digits in `tiers` (`ready|draining`), `tried` and `full` are their indices.
struct Draw {
    entries: Vec<Seen>,
    tiers: Vec<Vec<usize>>,
    tried: Vec<usize>,
    now: Instant,
}

fn digits(text: &str) -> Vec<usize> {
    text.chars().filter_map(|c| c.to_digit(10)).map(|digit| digit as usize).collect()
}

impl Draw {
    fn new(weights: &[u32], tiers: &str, tried: &str, full: &str) -> Self {
        let now = Instant::now();
        let mut entries: Vec<Seen> =
            weights.iter().zip(0_u64..).map(|(weight, id)| Seen::new(id, weight * SHARE_ONE, now)).collect();
        for index in digits(full) {
            entries[index].limit = 0;
        }
        Self { entries, tiers: tiers.split('|').map(digits).collect(), tried: digits(tried), now }
    }

    fn pick(&self, picker: &mut Picker, algorithm: &Algorithm, key: Option<u64>) -> Pick {
        let tiers = [&self.tiers[0][..], &self.tiers[1][..]];
        let choice = Choice { entries: &self.entries, tiers, tried: &self.tried, key, now: self.now };
        picker.pick(algorithm, &choice)
    }

    fn drawn(&self, picker: &mut Picker, algorithm: &Algorithm, picks: usize) -> String {
        (0..picks)
            .map(|_| match self.pick(picker, algorithm, None) {
                Pick::One(index, _) => char::from_digit(u32::try_from(index).unwrap(), 10).unwrap(),
                Pick::Full => 'F',
                Pick::Nobody => '-',
            })
            .collect()
    }
}

fn all() -> [Algorithm; 5] {
    [
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::LeastRequests,
        simulation::EWMA,
        Algorithm::ConsistentHash { key: Key::Path, bound: 1.25 },
    ]
}

/// Every algorithm picks only from `expected`, and all of it.
#[track_caller]
fn check(tiers: &str, tried: &str, full: &str, expected: &str) {
    for algorithm in all() {
        let draw = Draw::new(&[1; 5], tiers, tried, full);
        let mut picker = Picker::new(7);
        let mut got: Vec<char> = draw.drawn(&mut picker, &algorithm, 200).chars().collect();
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.into_iter().collect::<String>(), expected, "{algorithm:?}");
    }
}

#[test]
fn the_first_group_serves() {
    check("012|", "", "", "012");
    check("20|13", "", "", "02");
}

#[test]
fn those_tried_and_those_full_take_no_part() {
    check("012|", "1", "", "02");
    check("012|", "", "0", "12");
    check("012|", "02", "", "1");
}

#[test]
fn the_next_group_serves_when_the_first_is_empty_or_used_up() {
    check("|01", "", "", "01");
    check("|2", "", "", "2");
    check("0|2", "0", "", "2");
}

#[test]
fn a_full_group_is_full_and_nobody_is_nobody() {
    check("01|2", "", "01", "F");
    check("01|2", "0", "1", "F");
    check("|", "", "", "-");
    check("01|", "01", "", "-");
}

/// In every round each has as many turns as its weight says, and nobody more than `run` of them in a row.
#[track_caller]
fn check_turns(weights: &[u32], run: usize) {
    let draw = Draw::new(weights, "012|", "", "");
    let round: u32 = weights.iter().sum();
    for seed in 0..simulation::SEEDS {
        let turns = draw.drawn(&mut Picker::new(seed), &Algorithm::RoundRobin, round as usize * 6);
        let turns = turns.as_bytes();
        for window in turns[round as usize..].windows(round as usize) {
            for (digit, weight) in (b'0'..).zip(weights) {
                let count = window.iter().filter(|turn| **turn == digit).count();
                assert_eq!(count, *weight as usize, "seed {seed}: {turns:?}");
            }
        }
        let longest = turns.chunk_by(|one, two| one == two).map(<[u8]>::len).max();
        assert!(longest <= Some(run), "seed {seed}: {turns:?}");
    }
}

#[test]
fn turns_are_interleaved_by_weight() {
    check_turns(&[1, 1, 1], 1);
    check_turns(&[2, 1, 1], 2);
    check_turns(&[5, 1, 1], 4);
}

#[test]
fn workers_begin_anywhere() {
    let draw = Draw::new(&[1, 1, 1], "012|", "", "");
    let first = |seed| draw.drawn(&mut Picker::new(seed), &Algorithm::RoundRobin, 1);
    for backend in ["0", "1", "2"] {
        let times = (0..simulation::SEEDS).filter(|seed| first(*seed) == backend).count();
        assert!((8..40).contains(&times), "{times} of 64 workers begin with {backend}");
    }
}

#[test]
fn a_retry_does_not_move_the_line() {
    let (first, retry) = (Draw::new(&[1; 3], "012|", "", ""), Draw::new(&[1; 3], "012|", "0", ""));
    let (mut with, mut without) = (Picker::new(3), Picker::new(3));
    for _ in 0..30 {
        let picked = first.drawn(&mut with, &Algorithm::RoundRobin, 1);
        assert_ne!(retry.drawn(&mut with, &Algorithm::RoundRobin, 1), "0");
        assert_eq!(picked, first.drawn(&mut without, &Algorithm::RoundRobin, 1));
    }
}

#[test]
fn turns_survive_a_change_of_the_pool() {
    let mut picker = Picker::new(1);
    let before = Draw::new(&[1; 3], "012|", "", "");
    let turns = before.drawn(&mut picker, &Algorithm::RoundRobin, 3);
    let mut after = Draw::new(&[1; 4], "0123|", "", "");
    // The first backend leaves; the others move up in the list.
    after.entries.remove(0);
    after.tiers[0].pop();
    let counts = after.drawn(&mut picker, &Algorithm::RoundRobin, 300);
    for index in ['0', '1', '2'] {
        let count = counts.matches(index).count();
        assert!((99..=101).contains(&count), "{index} after {turns}: {count} of 300");
    }
}

/// Requests in flight per backend, and who is taken.
#[track_caller]
fn check_least(weights: &[u32], inflight: &[usize], expected: &str) {
    let draw = Draw::new(weights, "012|", "", "");
    for (entry, inflight) in draw.entries.iter().zip(inflight) {
        for _ in 0..*inflight {
            assert!(entry.load.enter(usize::MAX));
        }
    }
    for seed in 0..simulation::SEEDS {
        let drawn = draw.drawn(&mut Picker::new(seed), &Algorithm::LeastRequests, 1);
        assert!(expected.contains(&drawn), "seed {seed}: {drawn}");
    }
}

#[test]
fn the_fewest_in_flight_for_the_weight_is_taken() {
    check_least(&[1, 1, 1], &[9, 0, 9], "1");
    check_least(&[1, 1, 1], &[9, 0, 0], "12");
    check_least(&[1, 1, 10], &[9, 9, 20], "2");
}

/// One observation a backend: milliseconds, `!` for failed, `~` for failed with `Retry-After`; `-` none.
#[track_caller]
fn check_ewma(observed: [&str; 3], expected: &str) {
    let draw = Draw::new(&[1; 3], "012|", "", "");
    let Algorithm::Ewma(terms) = simulation::EWMA else { unreachable!() };
    for (entry, text) in draw.entries.iter().zip(observed) {
        let Ok(ms) = text.trim_end_matches(['!', '~']).parse() else { continue };
        let outcome = match text.chars().last() {
            Some('!') => Outcome::Failed { rest: None },
            Some('~') => Outcome::Failed { rest: Some(Duration::from_secs(1)) },
            _ => Outcome::Answered,
        };
        entry.load.observe(Duration::from_millis(ms), outcome, terms, draw.now);
    }
    for seed in 0..simulation::SEEDS {
        let drawn = draw.drawn(&mut Picker::new(seed), &simulation::EWMA, 1);
        assert!(expected.contains(&drawn), "seed {seed}: {drawn}");
    }
}

#[test]
fn the_fastest_is_taken_and_a_fast_failer_is_not_fast() {
    check_ewma(["100", "20", "100"], "1");
    check_ewma(["100", "1!", "200"], "0");
    check_ewma(["100", "1~", "2000!"], "0");
    check_ewma(["2000!", "1~", "2000!"], "02");
    check_ewma(["100", "-", "20"], "1");
}

#[test]
fn a_key_stays_with_its_backend_and_moves_only_when_that_is_busier_than_its_share() {
    let algorithm = Algorithm::ConsistentHash { key: Key::Path, bound: 1.25 };
    let draw = Draw::new(&[1; 3], "012|", "", "");
    let mut picker = Picker::new(1);
    let Pick::One(owner, Why::Hash) = draw.pick(&mut picker, &algorithm, Some(42)) else { panic!() };
    for _ in 0..10 {
        assert_eq!(draw.pick(&mut picker, &algorithm, Some(42)), Pick::One(owner, Why::Hash));
        for entry in &draw.entries {
            assert!(entry.load.enter(usize::MAX));
        }
    }
    // 10 in flight each; with 5 more the owner is above 1.25 times a third of 36.
    for _ in 0..5 {
        assert!(draw.entries[owner].load.enter(usize::MAX));
    }
    let Pick::One(next, Why::HashBound) = draw.pick(&mut picker, &algorithm, Some(42)) else { panic!() };
    assert_ne!(next, owner);
}

#[test]
fn a_seed_repeats_itself() {
    for algorithm in all() {
        let draw = Draw::new(&[3, 1, 2], "012|", "", "");
        let text = |seed| draw.drawn(&mut Picker::new(seed), &algorithm, 100);
        assert_eq!(text(5), text(5), "{algorithm:?}");
    }
}

/// What is foretold is what happens: 20,000 picks against the odds, for backends of `weights` with `inflight`.
#[track_caller]
fn check_odds(algorithm: &Algorithm, weights: &[u32], inflight: &[usize], key: Option<u64>) {
    const PICKS: usize = 20_000;
    let draw = Draw::new(weights, "|", "", "");
    for (entry, inflight) in draw.entries.iter().zip(inflight) {
        (0..*inflight).for_each(|_| assert!(entry.load.enter(usize::MAX)));
    }
    let all: Vec<usize> = (0..weights.len()).collect();
    let tiers = [&all[..], &[]];
    let choice = Choice { entries: &draw.entries, tiers, tried: &[], key, now: draw.now };
    let mut counts = vec![0_usize; weights.len()];
    let mut picker = Picker::new(11);
    for _ in 0..PICKS {
        let Pick::One(index, _) = picker.pick(algorithm, &choice) else { panic!() };
        counts[index] += 1;
    }
    let odds = odds::odds(algorithm, &choice);
    assert!((odds.iter().map(|odds| odds.chance).sum::<f64>() - 1.0).abs() < 1e-9, "{odds:?}");
    for odds in odds {
        let (got, sigma) = (
            counts[odds.index] as f64 / PICKS as f64,
            (odds.chance * (1.0 - odds.chance) / PICKS as f64).sqrt(),
        );
        assert!((got - odds.chance).abs() < 4.5 * sigma + 1e-4, "{algorithm:?} {odds:?} {counts:?}");
    }
}

#[test]
fn odds_are_what_happens() {
    for algorithm in all() {
        check_odds(&algorithm, &[1], &[0], Some(1));
        check_odds(&algorithm, &[1, 1, 1], &[0, 0, 0], Some(2));
        check_odds(&algorithm, &[1, 2, 4], &[0, 0, 0], None);
        check_odds(&algorithm, &[1, 2, 4], &[0, 1, 3], Some(3));
        check_odds(&algorithm, &[5, 5, 5], &[1, 0, 1], None);
        check_odds(&algorithm, &[100, 50, 50], &[3, 1, 2], Some(4));
        check_odds(&algorithm, &[1; 20], &[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3], None);
    }
}
