//! Whom to attack, and within which bounds.

use std::net::SocketAddr;
use std::time::Duration;

use super::payload::Kind;

/// Whom to attack, and what it may cost.
#[derive(Debug, Clone)]
pub struct Target {
    /// The listener.
    pub address: SocketAddr,
    /// What it speaks.
    pub kind: Kind,
    /// The process behind it.
    pub pid: i32,
    /// Seeds the noise.
    pub seed: u64,
    /// What is allowed.
    pub bounds: Bounds,
}

/// What an attack may cost.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Payloads at once.
    pub parallel: usize,
    /// Memory that may stay, in KiB.
    pub memory_growth_kib_max: u64,
    /// Descriptors that may stay, for instance kept connections to a backend.
    pub descriptors_more_max: usize,
    /// Until descriptors and memory must be back: longer than the listener's own idle limit.
    pub settle_deadline: Duration,
    /// How long silent connections are held after the last payload.
    pub hold: Duration,
    /// For one check by the good client.
    pub good_deadline: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            parallel: 16,
            memory_growth_kib_max: 10 * 1024,
            descriptors_more_max: 0,
            settle_deadline: Duration::from_secs(30),
            hold: Duration::from_secs(2),
            good_deadline: Duration::from_secs(5),
        }
    }
}

impl Target {
    /// With the usual bounds and seed 1.
    #[must_use]
    pub fn new(address: SocketAddr, kind: Kind, pid: i32) -> Self {
        Self { address, kind, pid, seed: 1, bounds: Bounds::default() }
    }
}
