//! What one request came to: filled along its walk, read at its end by metrics, access log and stats. Plain values, no
//! allocation; what a line of the access log shows besides is kept only while that log is on.
//!
//! How it ended is said twice: by a word of ours ([`Termination::reason`]) and by two letters as in HAProxy's logs
//! (configuration manual, section 8.5), which people and tools know.
//!
//! | First letter: who ended it | Second letter: where it was then |
//! |---|---|
//! | `-` nobody: the answer is complete | `-` the end |
//! | `C` the client left, `c` the client's deadline | `R` the request's head was read and checked |
//! | `S` the backend closed, refused or broke off, `s` the backend's deadline | `Q` waiting in a queue |
//! | `P` the balancer refused what it got | `C` connecting to a backend |
//! | `R` a limit of the balancer's resources | `H` waiting for the head of an answer |
//! | `L` the balancer answered itself, as configured | `D` data going through |
//! | `K` cut by the end of a drain | |

use std::fmt;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::failure::Failure;

/// Where a request is on its walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Request,
    Queue,
    Connect,
    Header,
    Data,
    Done,
}

impl Phase {
    fn letter(self) -> u8 {
        match self {
            Self::Request => b'R',
            Self::Queue => b'Q',
            Self::Connect => b'C',
            Self::Header => b'H',
            Self::Data => b'D',
            Self::Done => b'-',
        }
    }
}

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Nobody,
    Client,
    ClientTimeout,
    Server,
    ServerTimeout,
    Proxy,
    Resource,
    Local,
    Killed,
}

impl Cause {
    fn letter(self) -> u8 {
        match self {
            Self::Nobody => b'-',
            Self::Client => b'C',
            Self::ClientTimeout => b'c',
            Self::Server => b'S',
            Self::ServerTimeout => b's',
            Self::Proxy => b'P',
            Self::Resource => b'R',
            Self::Local => b'L',
            Self::Killed => b'K',
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Termination {
    pub(crate) cause: Cause,
    pub(crate) phase: Phase,
    /// One word: `complete`, `client-left`, or the kind of the refusal or failure, as in metrics and problem answers.
    pub(crate) reason: &'static str,
}

impl Termination {
    pub(crate) const COMPLETE: Self = Self { cause: Cause::Nobody, phase: Phase::Done, reason: "complete" };

    /// The backend closed in the middle of its answer.
    pub(crate) const BROKEN_OFF: Self =
        Self { cause: Cause::Server, phase: Phase::Data, reason: "broken-off" };

    pub(crate) fn new(cause: Cause, phase: Phase, reason: &'static str) -> Self {
        Self { cause, phase, reason }
    }

    /// What the client is told when no backend answered; `phase` is where the request was then.
    pub(crate) fn failed(failure: Failure, phase: Phase) -> Self {
        let (cause, phase) = match failure {
            Failure::ConnectRefused | Failure::ConnectError | Failure::NoBackend => {
                (Cause::Server, Phase::Connect)
            }
            Failure::ConnectTimeout => (Cause::ServerTimeout, Phase::Connect),
            Failure::Reset => (Cause::Server, Phase::Header),
            Failure::HeaderTimeout => (Cause::ServerTimeout, Phase::Header),
            Failure::BadResponse => (Cause::Proxy, Phase::Header),
            Failure::ClientBody => (Cause::Client, phase),
            Failure::BodyLength => (Cause::Proxy, Phase::Request),
            Failure::QueueTimeout => (Cause::ServerTimeout, Phase::Queue),
            Failure::Overloaded | Failure::QueueFull => (Cause::Resource, Phase::Queue),
        };
        Self { cause, phase, reason: failure.kind() }
    }

    /// The end of a request whose connection was cut by one of the deadlines that `connection` keeps, by its name.
    pub(crate) fn cut(deadline: &'static str, phase: Phase) -> Self {
        let cause = match deadline {
            "answer-body" => Cause::ServerTimeout,
            "drain" => Cause::Killed,
            _ => Cause::ClientTimeout,
        };
        Self { cause, phase, reason: deadline }
    }

    /// HAProxy's first two letters.
    pub(crate) fn letters(self) -> [char; 2] {
        [char::from(self.cause.letter()), char::from(self.phase.letter())]
    }

    /// The answer arrived whole, whoever made it.
    pub(crate) fn is_complete(self) -> bool {
        self.phase == Phase::Done || self.cause == Cause::Local
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cause, phase] = self.letters();
        write!(out, "{cause}{phase}")
    }
}

/// One request, from its head to the end of its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) started: Instant,
    pub(crate) phase: Phase,
    /// When `phase` began.
    since: Instant,
    /// `None`: not reached.
    pub(crate) queue: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    /// From the request being sent to the head of its answer.
    pub(crate) header: Option<Duration>,
    /// How many backends were asked, the same one twice included.
    pub(crate) attempts: u16,
    /// What the sticky cookie came to, if stickiness is on.
    pub(crate) affinity: Option<&'static str>,
    /// The client got a new cookie.
    pub(crate) cookie_set: bool,
    /// `None`: no answer was begun.
    pub(crate) status: Option<StatusCode>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    ended: Option<Termination>,
}

impl Record {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            phase: Phase::Request,
            since: now,
            queue: None,
            connect: None,
            header: None,
            attempts: 0,
            affinity: None,
            cookie_set: false,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            ended: None,
        }
    }

    /// The walk goes on; the time of the phase that ends is added to what earlier attempts took.
    pub(crate) fn enter(&mut self, phase: Phase, now: Instant) {
        let took = now.saturating_duration_since(self.since);
        let sum = match self.phase {
            Phase::Queue => Some(&mut self.queue),
            Phase::Connect => Some(&mut self.connect),
            Phase::Header => Some(&mut self.header),
            Phase::Request | Phase::Data | Phase::Done => None,
        };
        if let Some(sum) = sum {
            *sum = Some(sum.unwrap_or_default() + took);
        }
        (self.phase, self.since) = (phase, now);
    }

    /// Another attempt begins.
    pub(crate) fn attempt(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        self.enter(Phase::Connect, now);
    }

    /// The head of an answer is here; returns how long the backend took for it.
    pub(crate) fn answered(&mut self, status: StatusCode, now: Instant) -> Duration {
        let took = now.saturating_duration_since(self.since);
        self.status = Some(status);
        self.enter(Phase::Data, now);
        took
    }

    /// The balancer answers itself.
    pub(crate) fn refuse(&mut self, status: StatusCode, termination: Termination) {
        self.status = Some(status);
        self.ended = Some(termination);
    }

    /// The answer is through to its end.
    pub(crate) fn complete(&mut self) {
        self.phase = Phase::Done;
    }

    /// Something ended it before its time; the first reason stays.
    pub(crate) fn end(&mut self, termination: Termination) {
        self.ended.get_or_insert(termination);
    }

    /// How it ended. What nobody ended and did not complete, the client left.
    pub(crate) fn termination(&self) -> Termination {
        match (self.ended, self.phase) {
            (Some(ended), _) => ended,
            (None, Phase::Done) => Termination::COMPLETE,
            (None, phase) => Termination::new(Cause::Client, phase, "client-left"),
        }
    }

    /// Attempts after the first.
    pub(crate) fn retries(&self) -> u16 {
        self.attempts.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps a millisecond apart: `a` attempt, `q` queue, `h` the request is sent, `d` the answer's head is here, `.` it is
    /// complete, `!` the backend broke off, `x` refused.
    fn walk(steps: &str) -> Record {
        let started = Instant::now();
        let mut record = Record::new(started);
        for (at, step) in steps.chars().enumerate() {
            let now = started + Duration::from_millis(at as u64 + 1);
            match step {
                'a' => record.attempt(now),
                'q' => record.enter(Phase::Queue, now),
                'h' => record.enter(Phase::Header, now),
                'd' => record.enter(Phase::Data, now),
                '.' => record.enter(Phase::Done, now),
                '!' => record.end(Termination::new(Cause::Server, record.phase, "reset")),
                _ => record.refuse(
                    StatusCode::BAD_REQUEST,
                    Termination::new(Cause::Proxy, Phase::Request, "no-host"),
                ),
            }
        }
        record
    }

    #[track_caller]
    fn check(steps: &str, letters: &str, reason: &str) {
        let ended = walk(steps).termination();
        assert_eq!((ended.to_string().as_str(), ended.reason), (letters, reason), "{steps}");
    }

    #[test]
    fn two_letters_say_who_and_where() {
        check("ahd.", "--", "complete");
        check("x", "PR", "no-host");
        check("", "CR", "client-left");
        check("q", "CQ", "client-left");
        check("a", "CC", "client-left");
        check("ah", "CH", "client-left");
        check("ahd", "CD", "client-left");
        check("ahd!", "SD", "reset");
        check("ah!", "SH", "reset");
    }

    #[test]
    fn the_first_reason_stays() {
        check("ahd!.", "SD", "reset");
    }

    #[test]
    fn deadlines_name_who_was_slow() {
        assert_eq!(Termination::cut("write", Phase::Data).to_string(), "cD");
        assert_eq!(Termination::cut("answer-body", Phase::Data).to_string(), "sD");
        assert_eq!(Termination::cut("drain", Phase::Header).to_string(), "KH");
    }

    #[track_caller]
    fn check_times(steps: &str, queue: Option<u64>, connect: Option<u64>, header: Option<u64>, retries: u16) {
        let record = walk(steps);
        let ms = |duration: Option<Duration>| duration.map(|it| it.as_millis() as u64);
        let got = (ms(record.queue), ms(record.connect), ms(record.header), record.retries());
        assert_eq!(got, (queue, connect, header, retries), "{steps}");
    }

    #[test]
    fn times_are_sums_over_attempts() {
        check_times("ahd.", None, Some(1), Some(1), 0);
        check_times("qahd.", Some(1), Some(1), Some(1), 0);
        check_times("aahd.", None, Some(2), Some(1), 1);
        check_times("ahahd.", None, Some(2), Some(2), 1);
        check_times("x", None, None, None, 0);
    }
}
