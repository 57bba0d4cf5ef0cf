//! What has gone through the proxy.

use std::sync::atomic::AtomicU64;

/// What has gone through since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Of these, open now.
    pub open: u64,
    /// Connections that ended in a reset sent by us.
    pub reset: u64,
    /// Bytes delivered to the server.
    pub bytes_to_server: u64,
    /// Bytes delivered to the client.
    pub bytes_to_client: u64,
    /// Bytes that a black hole took, both directions.
    pub bytes_swallowed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) reset: AtomicU64,
    pub(super) to_server: AtomicU64,
    pub(super) to_client: AtomicU64,
    pub(super) swallowed: AtomicU64,
}
