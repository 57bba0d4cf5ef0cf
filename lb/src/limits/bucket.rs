//! One token bucket, as one number: the generic cell rate algorithm (ITU-T I.371). What is remembered is when the bucket
//! will be full again; a request moves that moment on by the time that one token takes, and is refused if it would then
//! be farther away than a whole burst.

/// How many requests, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Microseconds that one token takes.
    token_us: u64,
    /// Microseconds from empty to full.
    burst_us: u64,
}

/// How long until a token is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(u64);

impl Rate {
    /// `per_second` from 1 to a million, `burst` at least 1.
    pub(crate) fn new(per_second: u64, burst: u64) -> Self {
        let token_us = 1_000_000 / per_second.clamp(1, 1_000_000);
        Self { token_us, burst_us: token_us.saturating_mul(burst.max(1)) }
    }

    /// When the bucket is full again after one more request at `now_us`, if that may be.
    pub(super) fn take(self, full_us: u64, now_us: u64) -> Result<u64, Wait> {
        let full_us = full_us.max(now_us) + self.token_us;
        match (full_us - now_us).checked_sub(self.burst_us) {
            None | Some(0) => Ok(full_us),
            Some(over) => Err(Wait(over)),
        }
    }
}

impl Wait {
    /// For `Retry-After`: whole seconds, at least one.
    pub(crate) fn seconds(self) -> u64 {
        self.0.div_ceil(1_000_000).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests at these milliseconds: `+` served, `-` refused.
    #[track_caller]
    fn check(per_second: u64, burst: u64, at_ms: &[u64], expected: &str) {
        let (rate, mut full) = (Rate::new(per_second, burst), 0);
        let got: String = at_ms
            .iter()
            .map(|ms| match rate.take(full, ms * 1_000) {
                Ok(new) => {
                    full = new;
                    '+'
                }
                Err(_) => '-',
            })
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_burst_then_the_rate() {
        check(1, 1, &[0, 1, 999, 1_000, 1_001, 2_000], "+--+-+");
        check(10, 3, &[0, 0, 0, 0, 99, 100, 101], "+++--+-");
        check(10, 3, &[0, 0, 0, 5_000, 5_000, 5_000, 5_000], "++++++-");
        check(1_000_000, 1, &[0, 1, 2], "+++");
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        check(1, 1, &[0, 1, 2, 3, 4, 5, 1_000], "+-----+");
    }

    #[test]
    fn the_wait_is_until_the_next_token() {
        let rate = Rate::new(2, 1);
        let full = rate.take(0, 0).unwrap();
        let wait = rate.take(full, 100_000).unwrap_err();
        assert_eq!((wait, wait.seconds()), (Wait(400_000), 1));
        assert_eq!(Rate::new(1, 1).take(5_000_000, 0).unwrap_err().seconds(), 5);
    }
}
