//! Whether the store can be reached, for readiness and for people.

use service_kit::Dependency;
use tokio::sync::watch;

/// The last thing known about the store; watched through `Store::health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not reached yet since the start.
    Connecting,
    /// It answers and accepts writes.
    Reached,
    /// It did; now it does not.
    Lost {
        /// What was seen.
        reason: String,
    },
}

impl Health {
    /// Whether the store is usable now.
    pub fn is_reached(&self) -> bool {
        matches!(self, Self::Reached)
    }
}

/// Reports each change to the kit's readiness. Ends when the store is gone; spawn it beside the store.
pub async fn follow(mut health: watch::Receiver<Health>, dependency: Dependency) {
    loop {
        match &*health.borrow_and_update() {
            Health::Connecting => {}
            Health::Reached => dependency.reached(),
            Health::Lost { reason } => dependency.lost(reason.as_str()),
        }
        if health.changed().await.is_err() {
            return;
        }
    }
}
