//! Who would be picked, and how likely, without picking: the same arithmetic as the algorithms, for people to read.

use super::{Algorithm, Candidate, Choice, Open, consistent_hash, count, ewma, least, load::Load};

/// One backend's prospects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Odds {
    pub(crate) index: usize,
    /// What is compared, if anything is: the lower, the better. Requests in flight, or milliseconds, for a weight of 1; for
    /// a hash its rank among the key's backends.
    pub(crate) score: Option<f64>,
    /// The part of such requests that it would get now: 0 to 1, 1 in all.
    pub(crate) chance: f64,
}

/// The prospects of all that may be picked now: nobody who was tried, is full, or is of a worse group.
pub(crate) fn odds<C: Candidate>(algorithm: &Algorithm, choice: &Choice<'_, C>) -> Vec<Odds> {
    let Some(tier) = choice.tier() else { return Vec::new() };
    let open: Vec<Open<'_, C>> = choice.open(tier).collect();
    let costs = |cost: &dyn Fn(&Load) -> f64| {
        let costs: Vec<f64> = open.iter().map(|open| cost(open.candidate.load())).collect();
        if tier.len() > least::SCAN_MAX { of_two(&open, &costs) } else { of_all(&open, &costs) }
    };
    match (algorithm, choice.key) {
        (Algorithm::RoundRobin | Algorithm::Random, _) => by_share(&open),
        (Algorithm::Ewma(terms), _) => costs(&|load| ewma::cost(load, *terms, choice.now)),
        (Algorithm::ConsistentHash { bound, .. }, Some(key)) => {
            let (picked, _) = consistent_hash::pick(choice, tier, key, *bound);
            let ranking = ranking(choice.untried(tier), key);
            let rank = |open: &Open<'_, C>| ranking.iter().position(|index| *index == open.index);
            let of = |open: &Open<'_, C>| Odds {
                index: open.index,
                score: rank(open).map(|rank| count(rank) + 1.0),
                chance: if picked == Some(open.index) { 1.0 } else { 0.0 },
            };
            open.iter().map(of).collect()
        }
        (Algorithm::LeastRequests | Algorithm::ConsistentHash { .. }, _) => {
            costs(&|load| count(load.inflight()))
        }
    }
}

/// A key's backends, its owner first.
fn ranking<'a, C: Candidate + 'a>(all: impl Iterator<Item = Open<'a, C>>, key: u64) -> Vec<usize> {
    let draw = |open: &Open<'_, C>| consistent_hash::draw(key, open.candidate.place(), open.share);
    let mut draws: Vec<(f64, usize)> = all.map(|open| (draw(&open), open.index)).collect();
    draws.sort_by(|one, two| two.0.total_cmp(&one.0));
    draws.into_iter().map(|(_, index)| index).collect()
}

fn by_share<C>(open: &[Open<'_, C>]) -> Vec<Odds> {
    let whole: f64 = open.iter().map(|open| f64::from(open.share)).sum();
    open.iter()
        .map(|open| Odds { index: open.index, score: None, chance: f64::from(open.share) / whole })
        .collect()
}

/// All are compared by `(cost + luck) / share`, and luck is exponential: a race of clocks of which each starts at its
/// `cost / share` and then rings at the rate `share / LUCK`. Between two starts the running clocks' rates are what counts.
fn of_all<C>(open: &[Open<'_, C>], costs: &[f64]) -> Vec<Odds> {
    let starts: Vec<f64> = open.iter().zip(costs).map(|(open, cost)| cost / f64::from(open.share)).collect();
    let rates: Vec<f64> = open.iter().map(|open| f64::from(open.share) / least::LUCK).collect();
    let mut order: Vec<usize> = (0..open.len()).collect();
    order.sort_by(|one, two| starts[*one].total_cmp(&starts[*two]));
    let mut chances = vec![0.0; open.len()];
    let (mut silent, mut rate) = (1.0, 0.0);
    for (at, started) in order.iter().enumerate() {
        rate += rates[*started];
        let next = order.get(at + 1).map_or(f64::INFINITY, |next| starts[*next]);
        let still = (-rate * (next - starts[*started])).exp();
        for running in &order[..=at] {
            chances[*running] += silent * (1.0 - still) * rates[*running] / rate;
        }
        silent *= still;
    }
    let of = |(at, open): (usize, &Open<'_, C>)| Odds {
        index: open.index,
        score: Some(starts[at] * f64::from(super::SHARE_ONE)),
        chance: chances[at],
    };
    open.iter().enumerate().map(of).collect()
}

/// The better of two draws by share; the first of equals.
fn of_two<C>(open: &[Open<'_, C>], costs: &[f64]) -> Vec<Odds> {
    let shares: Vec<f64> = open.iter().map(|open| f64::from(open.share)).collect();
    let (whole, scores): (f64, Vec<f64>) =
        (shares.iter().sum(), costs.iter().zip(&shares).map(|(cost, share)| cost / share).collect());
    let mut odds: Vec<Odds> = open
        .iter()
        .zip(&scores)
        .map(|(open, score)| Odds {
            index: open.index,
            score: Some(score * f64::from(super::SHARE_ONE)),
            chance: if shares.len() == 1 { 1.0 } else { 0.0 },
        })
        .collect();
    for one in 0..shares.len() {
        for two in (0..shares.len()).filter(|two| *two != one) {
            let both = shares[one] / whole * shares[two] / (whole - shares[one]);
            odds[if scores[two] < scores[one] { two } else { one }].chance += both;
        }
    }
    odds
}
