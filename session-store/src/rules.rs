//! What an `apply` does to what is stored: no sockets, no clock, no locks.
//!
//! The memory store calls [`decide`]; the Redis store has the same rules as a Lua script, because they must run
//! where the data is, in one step. The contract tests hold the two against each other and against a model.
//!
//! ```text
//!            apply(Absent)                Destroy | Rotate away
//!  unknown ----------------> live session ---------------------> tombstone
//!     ^                          |                                   |
//!     |     idle or absolute     |        absolute expiry            |
//!     +--------------------------+-----------------------------------+
//! ```
//!
//! A tombstone stays until the session would have ended anyway; any later write carries an id that is then too old
//! to live. Idle expiry needs none: `Present` never creates. When replication comes, the versions of the fields and
//! the alias of a rotated id (its grace time) are further parts of [`Record`].

use crate::error::StoreError;
use crate::policy::Policy;
use crate::session::{Change, Expect, Session};
use crate::token::SessionId;

/// What is stored under one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Live(Session),
    Tombstone { until_ms: u64 },
}

impl Record {
    /// From this moment on the id is unknown.
    pub(crate) fn expiry_ms(&self, policy: &Policy) -> u64 {
        match self {
            Self::Live(session) => session.expires_at_ms(policy),
            Self::Tombstone { until_ms } => *until_ms,
        }
    }

    /// The session, if it is alive at `now_ms`.
    pub(crate) fn into_session(self, now_ms: u64, policy: &Policy) -> Option<Session> {
        match self {
            Self::Live(session) if session.expires_at_ms(policy) > now_ms => {
                Some(Session { observed_at_ms: now_ms, ..session })
            }
            Self::Live(_) | Self::Tombstone { .. } => None,
        }
    }
}

/// What to do, decided by [`decide`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Store this under the id.
    Put(Session),
    /// Store the session under `to` and a tombstone under the id.
    Move { to: SessionId, session: Session, until_ms: u64 },
    /// Store a tombstone under the id; this is the session that ends.
    Bury { session: Session, until_ms: u64 },
    /// Answer `NoSession`.
    NoSession,
    /// Answer `Exists`.
    Exists,
}

/// Refuses what no stored state could make right. Every backend calls it first, so that they agree on the error.
pub(crate) fn validate(
    id: &SessionId,
    expect: Expect,
    changes: &[Change],
    policy: &Policy,
) -> Result<(), StoreError> {
    let limits = &policy.limits;
    at_most("changes_max", limits.changes_max, changes.len())?;
    for change in changes {
        match change {
            Change::SetField { name, value } => {
                check_name(name, limits.name_bytes_max)?;
                at_most("value_bytes_max", limits.value_bytes_max, value.len())?;
            }
            Change::RemoveField { name } => check_name(name, limits.name_bytes_max)?,
            Change::Rotate { to } if to == id => {
                return Err(StoreError::Invalid { reason: "Rotate to the same id" });
            }
            Change::Rotate { .. } | Change::Destroy if expect == Expect::Absent => {
                return Err(StoreError::Invalid {
                    reason: "Rotate and Destroy need a session that is present",
                });
            }
            Change::Touch | Change::Renew | Change::Rotate { .. } | Change::Destroy => {}
        }
    }
    let count = |wanted: fn(&Change) -> bool| changes.iter().filter(|change| wanted(change)).count();
    let rotations = count(|change| matches!(change, Change::Rotate { .. }));
    if rotations > 1 {
        return Err(StoreError::Invalid { reason: "more than one Rotate" });
    }
    if rotations == 0 && count(|change| matches!(change, Change::Renew)) > 0 {
        return Err(StoreError::Invalid { reason: "Renew without Rotate" });
    }
    if count(|change| matches!(change, Change::Destroy)) > 0 && changes.len() > 1 {
        return Err(StoreError::Invalid { reason: "Destroy beside other changes" });
    }
    Ok(())
}

/// Whether an `apply` that is made gives the fields a new revision.
pub(crate) fn writes_fields(expect: Expect, changes: &[Change]) -> bool {
    let writes = |change: &Change| matches!(change, Change::SetField { .. } | Change::RemoveField { .. });
    expect == Expect::Absent || changes.iter().any(writes)
}

fn check_name(name: &str, name_bytes_max: usize) -> Result<(), StoreError> {
    if name.is_empty() {
        return Err(StoreError::Invalid { reason: "empty field name" });
    }
    at_most("name_bytes_max", name_bytes_max, name.len())
}

fn at_most(limit: &'static str, max: usize, got: usize) -> Result<(), StoreError> {
    if got > max { Err(StoreError::Limit { limit, max, got }) } else { Ok(()) }
}

/// Decides one `apply` whose list passed [`validate`]. `stored` and `target` are what the id and the `Rotate`'s new
/// id hold now, without what has expired.
pub(crate) fn decide(
    stored: Option<Record>,
    target: Option<&Record>,
    expect: Expect,
    changes: &[Change],
    now_ms: u64,
    policy: &Policy,
) -> Result<Decision, StoreError> {
    let mut session = match (expect, stored) {
        (Expect::Absent, Some(_)) => return Ok(Decision::Exists),
        (Expect::Absent, None) => Session {
            fields: std::collections::BTreeMap::new(),
            created_at_ms: now_ms,
            last_seen_ms: now_ms,
            absolute_expiry_ms: now_ms + policy.absolute_ms(),
            observed_at_ms: now_ms,
        },
        (Expect::Present, None | Some(Record::Tombstone { .. })) => return Ok(Decision::NoSession),
        (Expect::Present, Some(Record::Live(session))) => Session { observed_at_ms: now_ms, ..session },
    };
    let until_ms = session.absolute_expiry_ms;
    if changes.contains(&Change::Destroy) {
        return Ok(Decision::Bury { session, until_ms });
    }
    let rotation = changes.iter().find_map(|change| match change {
        Change::Rotate { to } => Some(*to),
        _ => None,
    });
    if rotation.is_some() && target.is_some() {
        return Ok(Decision::Exists);
    }
    for change in changes {
        match change {
            Change::SetField { name, value } => {
                session.fields.insert(name.clone(), value.clone());
            }
            Change::RemoveField { name } => {
                session.fields.remove(name);
            }
            Change::Renew => {
                session.created_at_ms = now_ms;
                session.absolute_expiry_ms = now_ms + policy.absolute_ms();
            }
            Change::Touch | Change::Rotate { .. } | Change::Destroy => {}
        }
    }
    if !changes.is_empty() && session.is_touch_due(policy) {
        session.last_seen_ms = now_ms;
    }
    check_size(&session, policy)?;
    Ok(match rotation {
        Some(to) => Decision::Move { to, session, until_ms },
        None => Decision::Put(session),
    })
}

fn check_size(session: &Session, policy: &Policy) -> Result<(), StoreError> {
    let bytes = session.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    at_most("fields_max", policy.limits.fields_max, session.fields.len())?;
    at_most("session_bytes_max", policy.limits.session_bytes_max, bytes)
}
