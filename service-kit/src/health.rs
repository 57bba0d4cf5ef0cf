//! Decides whether something that is looked at again and again may be used: a balancer's backend, an address in a DNS
//! answer. No sockets, no clock: outcomes are fed in, transitions come out.
//!
//! ```text
//!               good                 fall bad
//!   unknown ------------> up ---------------------> down
//!      |                  ^ |                       | ^
//!      |   good           | | says it drains        | | fall bad
//!      |                  | v                       v |
//!      +-------------> draining <-------------------+-+
//! ```
//! A new one is up with its first good answer: after scaling out, waiting for a second one is only lost time.
//! One that was down has to prove itself `rise` times.

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Good,
    /// It answers, and says that it is going away.
    Draining,
    /// It does not.
    Bad,
}

/// What the looks so far say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// None yet.
    Unknown,
    /// It may be used.
    Up,
    /// It serves whom it has and wants nobody new.
    Draining,
    /// It may not be used.
    Down,
}

/// How many looks in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thresholds {
    /// Good ones, for one that was down.
    pub rise: u32,
    /// Bad ones.
    pub fall: u32,
}

/// The health of one backend or target.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    verdict: Verdict,
    /// Outcomes in a row that disagree with `verdict`.
    streak: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { verdict: Verdict::Unknown, streak: 0 }
    }
}

impl Health {
    /// One that nobody has looked at yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the outcomes so far come to.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many bad outcomes in a row there were since the last good one, while not yet down.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// Records one outcome; returns the new verdict only when it changes.
    pub fn observe(&mut self, outcome: Outcome, at: Thresholds) -> Option<Verdict> {
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
