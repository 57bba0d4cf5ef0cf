//! What operators wrote, put together with the zones: targets that are checked, choices among them, and the names that
//! answer with what is chosen. Immutable; a reload makes another one.

use crate::wire::{Name, RecordType};
use service_kit::Prefix;
use service_kit::health::Thresholds;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The place of a target in [`Plan::targets`].
pub type TargetId = usize;
/// The place of a choice in [`Plan::choices`].
pub type ChoiceId = usize;

/// Everything that is steered. Choices refer to each other by their place and never in a circle.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub targets: Vec<Target>,
    pub choices: Vec<Choice>,
    pub names: Vec<Steered>,
}

/// An address with the check that says whether it works. Two pools with the same address and check share one target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub address: IpAddr,
    pub check: Arc<Check>,
}

/// How a target is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    pub mode: Mode,
    pub port: u16,
    pub interval: Duration,
    /// While it is new or under suspicion.
    pub start_interval: Duration,
    /// By how much each interval is made longer or shorter at random, in percent.
    pub jitter_percent: u8,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing: it counts as up.
    Off,
    /// A connection is enough.
    Tcp,
    Http(Http),
}

/// One request and what is expected of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Http {
    pub tls: Option<Tls>,
    /// With its query; begins with a slash.
    pub path: String,
    /// The Host header and the name in the certificate; empty: the target's address.
    pub host: String,
    pub statuses: Vec<RangeInclusive<u16>>,
}

/// How the certificate of an HTTPS target is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tls {
    /// Not at all: the check asks whether it serves.
    Unverified,
    /// It must be for the check's host, and from an authority of this file.
    Authority(PathBuf),
}

/// A named way to come from a question to addresses.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    pub name: Arc<str>,
    pub kind: Kind,
}

/// The ways there are.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Pool(Pool),
    /// The first that has not failed.
    Failover(Vec<ChoiceId>),
    /// One of those that have not failed, by weight, for each question anew.
    Weighted(Vec<(ChoiceId, u32)>),
    Networks(Arc<NetworkMap>),
}

/// Addresses that serve the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    pub members: Vec<Member>,
    /// The pool has failed when fewer than this share, or nobody, is up.
    pub up_percent_min: u8,
    pub all_down: AllDown,
    /// Addresses in one answer; 0: all.
    pub answers_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub target: TargetId,
    pub weight: u32,
}

/// What a pool that has failed answers where nothing above it knows better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllDown {
    /// All that no operator took out: the checks may be wrong, and there is nothing to lose.
    ServeAll,
    /// There is no such data.
    Empty,
    /// A resolver then goes on with what it has, or asks another server.
    ServFail,
    /// What another choice says.
    Fallback(ChoiceId),
}

impl AllDown {
    /// As the configuration says it.
    pub fn as_str(self) -> &'static str {
        match self {
            AllDown::ServeAll => "serve-all",
            AllDown::Empty => "empty",
            AllDown::ServFail => "servfail",
            AllDown::Fallback(_) => "fallback",
        }
    }
}

/// Where clients of which networks are sent.
#[derive(Debug, PartialEq, Eq)]
pub struct NetworkMap {
    /// Each network with its choices in order of preference.
    pub entries: Vec<(Prefix, Vec<ChoiceId>)>,
    /// For all others, and when those of an entry have failed.
    pub default: Vec<ChoiceId>,
}

/// A name that is answered with what a choice says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steered {
    pub name: Name,
    pub choice: ChoiceId,
    /// `None`: the zone's.
    pub ttl: Option<u32>,
    /// While anything below the choice is down; `None`: half of the other.
    pub ttl_down: Option<u32>,
}

/// A or AAAA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn of_type(record_type: RecordType) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.record_type() == record_type)
    }

    pub fn record_type(self) -> RecordType {
        match self {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        }
    }
}

impl Mode {
    /// As the configuration says it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Tcp => "tcp",
            Mode::Http(Http { tls: None, .. }) => "http",
            Mode::Http(_) => "https",
        }
    }
}

impl Target {
    /// Where the check connects to.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.check.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.check.mode {
            Mode::Off => write!(out, "{}", self.address),
            Mode::Tcp => write!(out, "tcp {}", self.socket()),
            Mode::Http(http) => {
                let scheme = self.check.mode.as_str();
                write!(out, "{scheme}://{}{}", self.socket(), http.path)
            }
        }
    }
}

impl Plan {
    /// The place of a steered name.
    pub fn name(&self, name: &Name) -> Option<usize> {
        self.names.iter().position(|steered| steered.name == *name)
    }

    /// The choice of this name.
    pub fn choice(&self, name: &str) -> Option<ChoiceId> {
        self.choices.iter().position(|choice| &*choice.name == name)
    }

    /// Every target that a choice may come to, each once.
    pub fn below(&self, choice: ChoiceId) -> Vec<TargetId> {
        let mut targets = Vec::new();
        self.visit(choice, &mut |kind| {
            if let Kind::Pool(pool) = kind {
                targets.extend(pool.members.iter().map(|member| member.target));
            }
        });
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    /// A choice and every one that it may come to.
    pub fn choices_below(&self, choice: ChoiceId) -> Vec<ChoiceId> {
        let mut all = vec![choice];
        for child in self.choices[choice].kind.children() {
            all.extend(self.choices_below(child));
        }
        all
    }

    /// Whether every question gets the same answer while nobody's health changes: then it can be given from a snapshot.
    pub fn is_same_for_all(&self, choice: ChoiceId) -> bool {
        let mut same = true;
        self.visit(choice, &mut |kind| {
            same &= match kind {
                Kind::Pool(pool) => {
                    let even = pool.members.windows(2).all(|pair| pair[0].weight == pair[1].weight);
                    even && (pool.answers_max == 0 || pool.answers_max >= pool.members.len())
                }
                Kind::Failover(_) => true,
                Kind::Weighted(_) | Kind::Networks(_) => false,
            };
        });
        same
    }

    fn visit(&self, choice: ChoiceId, see: &mut impl FnMut(&Kind)) {
        let kind = &self.choices[choice].kind;
        see(kind);
        for child in kind.children() {
            self.visit(child, see);
        }
    }
}

impl Kind {
    /// As the configuration says it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::Pool(_) => "pool",
            Kind::Failover(_) => "failover",
            Kind::Weighted(_) => "weighted",
            Kind::Networks(_) => "networks",
        }
    }

    /// The choices it may come to.
    pub fn children(&self) -> Vec<ChoiceId> {
        match self {
            Kind::Pool(Pool { all_down: AllDown::Fallback(choice), .. }) => vec![*choice],
            Kind::Pool(_) => Vec::new(),
            Kind::Failover(order) => order.clone(),
            Kind::Weighted(weights) => weights.iter().map(|(choice, _)| *choice).collect(),
            Kind::Networks(map) => {
                let entries = map.entries.iter().flat_map(|(_, choices)| choices);
                entries.chain(&map.default).copied().collect()
            }
        }
    }
}
