//! What to send, to whom, how fast, and within which limits.

mod limits;
mod mix;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outcome::{Check, Observed};
use super::schedule::Arrival;

pub use limits::Limits;
pub use mix::{Mix, RequestSpec};

/// How a client deals with a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKind {
    /// As browsers do: an idempotent request that failed is tried once more at the name's next address. A connect
    /// that failed sent nothing, so the next address is tried for any method.
    Retrying,
    /// The first address only, never again.
    Plain,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub enum Target {
    /// The name's addresses, asked at `resolvers` with their TTLs honoured.
    Name {
        /// The name.
        name: String,
        /// The port at each of its addresses.
        port: u16,
        /// DNS servers, tried in turn.
        resolvers: Vec<SocketAddr>,
    },
    /// These addresses in this order; no DNS.
    Fixed(Vec<SocketAddr>),
}

type Observe = dyn Fn(&Observed<'_>) -> Check + Send + Sync;

/// Sees every finished request; may refuse its content.
#[derive(Clone)]
pub struct Observer(pub(super) Arc<Observe>);

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observer")
    }
}

/// A load to send.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How failures are met.
    pub kind: ClientKind,
    /// Where to.
    pub target: Target,
    /// The Host header.
    pub host: String,
    /// Requests a second.
    pub rate_per_s: f64,
    /// For how long requests fall due.
    pub duration: Duration,
    /// Evenly or at random.
    pub arrival: Arrival,
    /// Which requests.
    pub mix: Mix,
    /// Visitors, each with a DNS cache and a cookie jar of its own; request n is visitor n modulo this.
    pub users: usize,
    /// Whether visitors keep cookies.
    pub cookies: bool,
    /// Deadlines and bounds.
    pub limits: Limits,
    /// Sees every finished request.
    pub observer: Option<Observer>,
}

/// A plan that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("load plan: {key}: got {value}, {reason}")]
pub struct Invalid {
    key: &'static str,
    value: String,
    reason: &'static str,
}

impl Invalid {
    pub(super) fn new(key: &'static str, value: &str, reason: &'static str) -> Self {
        Self { key, value: value.into(), reason }
    }
}

impl Plan {
    /// `GET /` by name: 200 requests/s for 10 s, evenly spaced, by 16 visitors without cookies.
    #[must_use]
    pub fn by_name(kind: ClientKind, name: &str, port: u16, resolvers: Vec<SocketAddr>) -> Self {
        Self::to(kind, Target::Name { name: name.into(), port, resolvers }, name)
    }

    /// The same to fixed addresses.
    #[must_use]
    pub fn fixed(kind: ClientKind, addresses: Vec<SocketAddr>, host: &str) -> Self {
        Self::to(kind, Target::Fixed(addresses), host)
    }

    fn to(kind: ClientKind, target: Target, host: &str) -> Self {
        Self {
            kind,
            target,
            host: host.into(),
            rate_per_s: 200.0,
            duration: Duration::from_secs(10),
            arrival: Arrival::Even,
            mix: Mix::one(RequestSpec::get("/")),
            users: 16,
            cookies: false,
            limits: Limits::default(),
            observer: None,
        }
    }

    /// Sets rate and duration.
    #[must_use]
    pub fn rate(mut self, rate_per_s: f64, duration: Duration) -> Self {
        (self.rate_per_s, self.duration) = (rate_per_s, duration);
        self
    }

    /// Sets the requests.
    #[must_use]
    pub fn mix(mut self, mix: Mix) -> Self {
        self.mix = mix;
        self
    }

    /// Sets how requests are spaced.
    #[must_use]
    pub fn arrival(mut self, arrival: Arrival) -> Self {
        self.arrival = arrival;
        self
    }

    /// Sets the number of visitors, and whether they keep cookies.
    #[must_use]
    pub fn users(mut self, users: usize, cookies: bool) -> Self {
        (self.users, self.cookies) = (users, cookies);
        self
    }

    /// Watches every finished request. Called on the load's own tasks: it must not block.
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(&Observed<'_>) -> Check + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observe)));
        self
    }

    /// The same plan for the other kind of client.
    #[must_use]
    pub fn with_kind(&self, kind: ClientKind) -> Self {
        Self { kind, ..self.clone() }
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        let day = Duration::from_secs(24 * 3600);
        if !(self.rate_per_s > 0.0 && self.rate_per_s <= 100_000.0) {
            return Err(Invalid::new(
                "rate_per_s",
                &self.rate_per_s.to_string(),
                "must be above 0, at most 100000",
            ));
        }
        if self.duration.is_zero() || self.duration > day {
            let value = format!("{:?}", self.duration);
            return Err(Invalid::new("duration", &value, "must be above 0, at most 24 h"));
        }
        let counts = [
            ("users", self.users, 100_000),
            ("tries_max", self.limits.tries_max, 16),
            ("in_flight_max", self.limits.in_flight_max, 100_000),
        ];
        for (key, value, most) in counts {
            if value == 0 || value > most {
                return Err(Invalid::new(key, &value.to_string(), "must be at least 1 and not absurd"));
            }
        }
        match (&self.mix, &self.target) {
            (Mix::Weighted(list), _) if list.iter().all(|(weight, _)| *weight == 0) => {
                Err(Invalid::new("mix", "no request", "needs a request with a weight"))
            }
            (_, Target::Fixed(addresses)) if addresses.is_empty() => {
                Err(Invalid::new("target", "[]", "needs an address"))
            }
            (_, Target::Name { resolvers, .. }) if resolvers.is_empty() => {
                Err(Invalid::new("resolvers", "[]", "needs a DNS server"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_cannot_run_say_why() {
        let plan =
            || Plan::fixed(ClientKind::Plain, vec![SocketAddr::from(([127, 0, 0, 1], 1))], "example.com");
        assert_eq!(plan().check(), Ok(()));
        let check = |plan: Plan, key: &str| {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        };
        check(plan().rate(0.0, Duration::from_secs(1)), "rate_per_s: got 0");
        check(plan().rate(f64::NAN, Duration::from_secs(1)), "rate_per_s: got NaN");
        check(plan().rate(1.0, Duration::ZERO), "duration");
        check(plan().users(0, false), "users");
        check(plan().mix(Mix::Weighted(vec![])), "mix");
        check(Plan::fixed(ClientKind::Plain, vec![], "example.com"), "target");
        check(Plan::by_name(ClientKind::Plain, "example.com", 80, vec![]), "resolvers");
    }
}
