//! Decides whether a backend may be used. No sockets, no clock: outcomes are fed in, transitions come out.
//!
//! ```text
//!               good                 fall bad
//!   unknown ------------> up ---------------------> down
//!      |                  ^ |                       | ^
//!      |   good           | | says it drains        | | fall bad
//!      |                  | v                       v |
//!      +-------------> draining <-------------------+-+
//! ```
//! A new backend is up with its first good answer: after scaling out, waiting for a second one is only lost time.
//! One that was down has to prove itself `rise` times.

/// What one look at a backend found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Good,
    /// It answers, and says that it is going away.
    Draining,
    Bad,
}

/// What the looks so far say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// None yet.
    Unknown,
    Up,
    Draining,
    Down,
}

/// How many looks in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) rise: u32,
    pub(crate) fall: u32,
}

/// One backend's health.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Health {
    verdict: Verdict,
    /// Outcomes in a row that disagree with `verdict`.
    streak: u32,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { verdict: Verdict::Unknown, streak: 0 }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many bad outcomes in a row there were since the last good one, while not yet down.
    pub(crate) fn streak(&self) -> u32 {
        self.streak
    }

    /// Records one outcome; returns the new verdict only when it changes.
    pub(crate) fn observe(&mut self, outcome: Outcome, at: Thresholds) -> Option<Verdict> {
        let (next, needed) = match (self.verdict, outcome) {
            (Verdict::Down, Outcome::Good) => (Verdict::Up, at.rise),
            (_, Outcome::Good) => (Verdict::Up, 1),
            (_, Outcome::Draining) => (Verdict::Draining, 1),
            (_, Outcome::Bad) => (Verdict::Down, at.fall),
        };
        if next == self.verdict {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        if self.streak < needed {
            return None;
        }
        *self = Self { verdict: next, streak: 0 };
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `o` good, `x` bad, `d` draining; drawn: `.` nothing, `U`p, `D`own, `G`oing away.
    #[track_caller]
    fn check(outcomes: &str, expected: &str) {
        let mut health = Health::new();
        let drawn: String = outcomes
            .chars()
            .map(|outcome| {
                let outcome = match outcome {
                    'o' => Outcome::Good,
                    'd' => Outcome::Draining,
                    _ => Outcome::Bad,
                };
                match health.observe(outcome, Thresholds { rise: 2, fall: 3 }) {
                    None => '.',
                    Some(Verdict::Up) => 'U',
                    Some(Verdict::Down) => 'D',
                    Some(Verdict::Draining) => 'G',
                    Some(Verdict::Unknown) => '?',
                }
            })
            .collect();
        assert_eq!(drawn, expected, "{outcomes}");
    }

    #[test]
    fn the_first_good_answer_is_enough_for_a_new_backend() {
        check("oo", "U.");
        check("xo", ".U");
    }

    #[test]
    fn a_bad_answer_or_two_are_forgiven() {
        check("oxoxxo", "U.....");
    }

    #[test]
    fn falls_after_three_rises_after_two() {
        check("oxxxxoxoo", "U..D....U");
    }

    #[test]
    fn a_backend_that_never_answered_goes_down() {
        check("xxxoo", "..D.U");
    }

    #[test]
    fn draining_is_believed_at_once_and_so_is_its_end() {
        check("oddo", "UG.U");
        check("xxxdo", "..DGU");
    }

    #[test]
    fn a_draining_backend_can_die() {
        check("odxxxdoo", "UG..DGU.");
    }
}
