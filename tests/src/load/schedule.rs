//! When requests fall due: offsets from the start, known before anything is sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How requests are spaced at a given rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "spacing")]
pub enum Arrival {
    /// Evenly.
    Even,
    /// Independently of each other, as visitors come (a Poisson process); the same for the same seed.
    Poisson {
        /// Seeds the gaps.
        seed: u64,
    },
}

/// The due times within `duration`, ascending.
pub fn arrivals(arrival: Arrival, rate_per_s: f64, duration: Duration) -> impl Iterator<Item = Duration> {
    let mut random = match arrival {
        Arrival::Even => None,
        Arrival::Poisson { seed } => Some(fastrand::Rng::with_seed(seed)),
    };
    let mut sent = 0_u64;
    let mut at_s = 0.0;
    std::iter::from_fn(move || {
        match &mut random {
            // Multiplied, not added up: no error grows over a long run.
            None => at_s = sent as f64 / rate_per_s,
            // Inverse of the exponential distribution; 1 - u is never 0.
            Some(random) => at_s += -(1.0 - random.f64()).ln() / rate_per_s,
        }
        sent += 1;
        (at_s < duration.as_secs_f64()).then(|| Duration::from_secs_f64(at_s))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrival: Arrival, rate_per_s: f64, ms: u64) -> Vec<u128> {
        arrivals(arrival, rate_per_s, Duration::from_millis(ms)).map(|at| at.as_millis()).collect()
    }

    #[test]
    fn even_spacing_starts_at_once_and_excludes_the_end() {
        assert_eq!(check(Arrival::Even, 4.0, 1000), [0, 250, 500, 750]);
    }

    #[test]
    fn even_spacing_at_less_than_one_a_second() {
        assert_eq!(check(Arrival::Even, 0.5, 5000), [0, 2000, 4000]);
    }

    #[test]
    fn an_hour_has_exactly_its_requests() {
        assert_eq!(arrivals(Arrival::Even, 333.0, Duration::from_secs(3600)).count(), 333 * 3600);
    }

    #[test]
    fn the_same_seed_gives_the_same_times_and_another_seed_others() {
        let times = |seed| check(Arrival::Poisson { seed }, 100.0, 1000);
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
    }

    #[test]
    fn poisson_keeps_the_rate_and_varies_as_it_should() {
        let times: Vec<f64> = arrivals(Arrival::Poisson { seed: 1 }, 1000.0, Duration::from_secs(100))
            .map(|at| at.as_secs_f64())
            .collect();
        // 100,000 expected, standard deviation 316: five of them.
        assert!((98_400..101_600).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // An exponential distribution's deviation equals its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{}", variance.sqrt() / mean);
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
    }
}
