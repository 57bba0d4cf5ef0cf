//! Durations as counts in buckets: an observation is two atomic additions and no lock, a percentile is off by at most a
//! sixteenth.
//!
//! Eight buckets for each doubling, as in HdrHistogram. The unit is 125/128 us, so that doublings fall on 250 us, 500 us,
//! 1 ms, ... and Prometheus' buckets are exact sums of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// 2^28 units are 262 s: longer than any request may take.
const DOUBLINGS: usize = 28;
const BUCKETS: usize = (DOUBLINGS - SUB_BITS as usize + 1) * SUB;
/// The doublings that Prometheus gets: 250 us to 16.384 s.
const SHOWN: std::ops::RangeInclusive<usize> = 8..=24;

/// Counts by bucket at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts(Box<[u64; BUCKETS]>);

impl Default for Counts {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

/// A histogram that many threads add to. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Inner {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

fn bucket(units: u64) -> usize {
    let Some(log) = units.checked_ilog2().filter(|log| *log >= SUB_BITS) else {
        return usize::try_from(units).expect("less than eight");
    };
    let shift = log - SUB_BITS;
    let sub = usize::try_from(units >> shift).expect("between eight and fifteen");
    (shift as usize * SUB + sub).min(BUCKETS - 1)
}

/// Where a bucket begins, in units.
fn begin(bucket: usize) -> u64 {
    match bucket / SUB {
        0 => bucket as u64,
        doubling => ((SUB + bucket % SUB) as u64) << (doubling - 1),
    }
}

#[allow(clippy::cast_precision_loss, reason = "units stay far below 2^53")]
fn ms(units: u64) -> f64 {
    units as f64 * 0.125 / 128.0
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let units = ns.saturating_mul(16) / 15_625;
        self.0.counts[bucket(units)].fetch_add(1, Ordering::Relaxed);
        self.0.sum_us.fetch_add(ns / 1_000, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts(Box::new(std::array::from_fn(|at| self.0.counts[at].load(Ordering::Relaxed))))
    }
}

impl Counts {
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What was added since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self(Box::new(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at]))))
    }

    /// The duration in ms that a share of all was not above; `None` without any.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let wanted = (share * total as f64).max(1.0);
        let mut seen = 0.0;
        for (bucket, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let here = *count as f64;
            if seen + here >= wanted {
                let (from, to) = (ms(begin(bucket)), ms(begin(bucket + 1)));
                return Some(from + (to - from) * (wanted - seen) / here);
            }
            seen += here;
        }
        Some(ms(begin(BUCKETS)))
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    #[allow(clippy::cast_precision_loss, reason = "a sum beyond 2^53 us is 285 years")]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.counts();
        let mut below = 0;
        let mut buckets: Vec<(f64, u64)> = SHOWN
            .map(|doubling| {
                let end = bucket(1 << doubling);
                let here = counts.0[below..end].iter().sum();
                below = end;
                (ms(1 << doubling) / 1e3, here)
            })
            .collect();
        buckets.push((f64::INFINITY, counts.0[below..].iter().sum()));
        let sum = self.0.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.total(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn buckets_join_without_gaps_and_never_decrease() {
        for at in 1..BUCKETS {
            assert_eq!(bucket(begin(at)), at);
            assert_eq!(bucket(begin(at) - 1), at - 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    /// Observations in microseconds, and a percentile of them in ms with its allowed error.
    #[track_caller]
    fn check(observed_us: impl IntoIterator<Item = u64>, share: f64, expected_ms: f64) {
        let histogram = Histogram::default();
        observed_us.into_iter().for_each(|us| histogram.observe(Duration::from_micros(us)));
        let got = histogram.counts().percentile(share).unwrap();
        assert!((got - expected_ms).abs() <= expected_ms / 8.0 + 0.001, "{got} is not about {expected_ms}");
    }

    #[test]
    fn percentiles_are_close() {
        check([1_000], 0.5, 1.0);
        check(1..=10_000, 0.5, 5.0);
        check(1..=10_000, 0.99, 9.9);
        check((0..98).map(|_| 200).chain([50_000, 60_000]), 0.95, 0.2);
        check((0..98).map(|_| 200).chain([50_000, 60_000]), 0.995, 60.0);
        check([7_200_000_000], 0.5, 262_144.0);
    }

    #[test]
    fn nothing_has_no_percentile_and_a_difference_is_what_came_since() {
        let histogram = Histogram::default();
        assert_eq!(histogram.counts().percentile(0.5), None);
        histogram.observe(Duration::from_millis(1));
        let earlier = histogram.counts();
        histogram.observe(Duration::from_secs(1));
        let new = histogram.counts().since(&earlier);
        assert_eq!(new.total(), 1);
        assert!(new.percentile(0.5).unwrap() > 900.0);
    }

    #[test]
    fn prometheus_gets_round_bounds() {
        let histogram = Histogram::default();
        for us in [100, 249, 251, 3_000, 20_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut registry = Registry::default();
        registry.register("h", "help", histogram);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"h_bucket{le="0.00025"} 2"#,
            r#"h_bucket{le="0.0005"} 3"#,
            r#"h_bucket{le="0.002"} 3"#,
            r#"h_bucket{le="0.004"} 4"#,
            r#"h_bucket{le="16.384"} 4"#,
            r#"h_bucket{le="+Inf"} 5"#,
            "h_count 5",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
