//! What a session holds and the changes that can be made to it.

use std::collections::BTreeMap;

use crate::policy::Policy;
use crate::token::SessionId;

/// A live session as the store knew it at `observed_at_ms`. All times are milliseconds since 1970 on the store's
/// clock, which may differ from the caller's: compare them with each other only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The fields, by name.
    pub fields: BTreeMap<String, String>,
    /// When it was created, or renewed by [`Change::Renew`].
    pub created_at_ms: u64,
    /// The last recorded activity; up to a tenth of the idle time older than the real one.
    pub last_seen_ms: u64,
    /// When it ends whatever happens. Never moves for one id.
    pub absolute_expiry_ms: u64,
    /// The store's clock when this was read.
    pub observed_at_ms: u64,
}

impl Session {
    /// One field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Whether a [`Change::Touch`] would be recorded now. Callers that only read can spare themselves the `apply`
    /// when it would not.
    pub fn is_touch_due(&self, policy: &Policy) -> bool {
        self.observed_at_ms.saturating_sub(self.last_seen_ms) >= policy.touch_interval_ms()
    }

    /// When it ends if nobody comes back.
    pub fn expires_at_ms(&self, policy: &Policy) -> u64 {
        policy.expiry_ms(self.last_seen_ms, self.absolute_expiry_ms)
    }
}

/// One step of an `apply`. Every change except `Destroy` counts as activity, as `Touch` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets one field, replacing what it held.
    SetField {
        /// The field's name; not empty.
        name: String,
        /// Its new value.
        value: String,
    },
    /// Removes one field; nothing happens when it is not there.
    RemoveField {
        /// The field's name.
        name: String,
    },
    /// Records activity, so that the idle time starts again. Written at most once in a tenth of the idle time.
    Touch,
    /// Moves the session to a new id. The old id is dead in the same step. At most one in a list.
    Rotate {
        /// The new id; it must never have been used.
        to: SessionId,
    },
    /// Starts the absolute life again, for a visitor who has just proved who they are. Only beside a `Rotate`: the
    /// end of one id never moves.
    Renew,
    /// Ends the session for good. Stands alone in its list.
    Destroy,
}

impl Change {
    /// `SetField` with less to write.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::SetField { name: name.into(), value: value.into() }
    }

    /// `RemoveField` with less to write.
    pub fn remove(name: impl Into<String>) -> Self {
        Self::RemoveField { name: name.into() }
    }
}

/// What the caller believes about the id before an `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The id is new: create the session. Only with an id that was just generated.
    Absent,
    /// The session is there: change it.
    Present,
}

/// What an `apply` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// All changes were made; this is the session after them, under its new id after a `Rotate`. After a `Destroy`
    /// it is the session as it was last.
    Applied(Session),
    /// `Present` was expected and there is no live session: never was, expired, destroyed or rotated away. Nothing
    /// was created.
    NoSession,
    /// `Absent` was expected, or a `Rotate` aimed at, an id that is or was in use. Nothing was changed; generate
    /// another id.
    Exists,
}

impl Applied {
    /// The session, when the changes were made.
    pub fn session(self) -> Option<Session> {
        match self {
            Self::Applied(session) => Some(session),
            Self::NoSession | Self::Exists => None,
        }
    }
}
