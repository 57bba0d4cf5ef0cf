//! What operators may ask for while the balancer runs.

use std::net::SocketAddr;
use std::time::Duration;

use crate::snapshot::WEIGHT_MAX;
use crate::state::State;

/// One order: what to do with whom, and who wants it.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) pool: String,
    /// A backend's instance name or address; not looked at for [`Command::Add`].
    pub(crate) backend: String,
    pub(crate) command: Command,
    /// For the log and the stats page.
    pub(crate) by: String,
}

/// What is in force until something else is asked for. It survives a reload, but neither a restart of the balancer nor
/// the backend's leaving and coming back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// It keeps whom it has and gets nobody new.
    Drain,
    /// Takes a drain back; what the backend says of itself stays.
    Undrain,
    /// Nobody goes there, not even those who are pinned to it.
    Maintenance,
    /// Takes drain, maintenance and ejection back: checks alone decide.
    Ready,
    /// 0 to 256 instead of its own word; 0 gives it nobody new.
    Weight(u16),
    /// Requests in flight over all workers.
    Limit(usize),
    /// Takes weight and limit back.
    Reset,
    Eject(Duration),
    /// A backend that discovery does not know.
    Add(SocketAddr),
    /// One that was added.
    Remove,
}

/// Longest ejection that can be asked for; who wants more means maintenance.
pub(crate) const EJECT_MAX: Duration = Duration::from_secs(86_400);

/// What an order came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) address: SocketAddr,
    /// `None`: removed.
    pub(crate) state: Option<State>,
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no pool {pool}; there are {known}")]
    NoPool { pool: String, known: String },
    #[error("the pool {pool} has no backend {backend}; name one by its address or instance name")]
    NoBackend { pool: String, backend: String },
    #[error("the pool {pool} has {count} backends called {backend}; name one by its address")]
    Ambiguous { pool: String, backend: String, count: usize },
    #[error("{address} is in the pool {pool} already")]
    Present { pool: String, address: SocketAddr },
    #[error(
        "{address} was found by discovery, which would find it again; ask for maintenance, or take it out of its source"
    )]
    Discovered { address: SocketAddr },
    #[error("a weight is 0 to 256, not {weight}")]
    Weight { weight: u16 },
    #[error("a limit is at least 1; ask for maintenance to send nothing")]
    Limit,
    #[error(
        "a backend is ejected for 1 ms to 24 h; ask for maintenance to take it out until you say otherwise"
    )]
    Time,
    #[error("the roster is ending")]
    Ending,
}

impl Refused {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoPool { .. } => "no-pool",
            Self::NoBackend { .. } => "no-backend",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Present { .. } => "present",
            Self::Discovered { .. } => "discovered",
            Self::Weight { .. } => "weight",
            Self::Limit => "limit",
            Self::Time => "time",
            Self::Ending => "ending",
        }
    }
}

impl Command {
    /// What can be refused without knowing any backend.
    pub(super) fn check(self) -> Result<(), Refused> {
        match self {
            Self::Weight(weight) if weight > WEIGHT_MAX => Err(Refused::Weight { weight }),
            Self::Limit(0) => Err(Refused::Limit),
            Self::Eject(time) if time < Duration::from_millis(1) || time > EJECT_MAX => Err(Refused::Time),
            _ => Ok(()),
        }
    }

    /// For people.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Drain => "drain".into(),
            Self::Undrain => "undrain".into(),
            Self::Maintenance => "maintenance".into(),
            Self::Ready => "ready".into(),
            Self::Weight(weight) => format!("weight {weight}"),
            Self::Limit(limit) => format!("limit {limit}"),
            Self::Reset => "reset".into(),
            Self::Eject(time) => format!("eject for {} ms", time.as_millis()),
            Self::Add(_) => "add".into(),
            Self::Remove => "remove".into(),
        }
    }
}
