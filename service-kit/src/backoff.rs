//! Waits that double up to a limit, with jitter so that a crowd does not come back at once.

use std::time::Duration;

/// Delays between attempts at one thing.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// The first delay is about `min`, later ones double up to about `max`. A `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), next: min }
    }

    /// The delay before the next attempt: between half and the whole of the current step.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// The thing worked: start again at the first delay.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_within_their_bounds_and_start_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(400));
        for step in [100, 200, 400, 400] {
            let delay = backoff.next_delay();
            assert!(delay >= ms(step / 2) && delay <= ms(step), "{delay:?} at step {step}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= ms(100));
    }
}
