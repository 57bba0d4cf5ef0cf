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

/// What follows for new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Not one verdict yet.
    Unknown,
    Up,
    /// Alive: keeps whom it has, gets nobody new.
    Draining,
    Down,
}

impl State {
    pub(crate) const ALL: [Self; 4] = [Self::Unknown, Self::Up, Self::Draining, Self::Down];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
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
    state: State,
    /// Outcomes in a row that disagree with `state`.
    streak: u32,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { state: State::Unknown, streak: 0 }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How many bad outcomes in a row there were since the last good one, while not yet down.
    pub(crate) fn streak(&self) -> u32 {
        self.streak
    }

    /// Records one outcome; returns the new state only when it changes.
    pub(crate) fn observe(&mut self, outcome: Outcome, at: Thresholds) -> Option<State> {
        let (next, needed) = match (self.state, outcome) {
            (State::Down, Outcome::Good) => (State::Up, at.rise),
            (_, Outcome::Good) => (State::Up, 1),
            (_, Outcome::Draining) => (State::Draining, 1),
            (_, Outcome::Bad) => (State::Down, at.fall),
        };
        if next == self.state {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        if self.streak < needed {
            return None;
        }
        *self = Self { state: next, streak: 0 };
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
                    Some(State::Up) => 'U',
                    Some(State::Down) => 'D',
                    Some(State::Draining) => 'G',
                    Some(State::Unknown) => '?',
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
