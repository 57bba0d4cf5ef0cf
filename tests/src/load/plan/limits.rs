//! Deadlines and bounds of one load.

use std::time::Duration;

use crate::http_client::BODY_BYTES_MAX;

/// Deadlines and bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the due time to the last byte, retry included.
    pub total_deadline: Duration,
    /// For a TCP connect that has another address behind it.
    pub connect_deadline: Duration,
    /// For connect and response head of a try that may be repeated elsewhere, so that the repetition fits.
    pub try_deadline: Duration,
    /// Addresses tried for one request.
    pub tries_max: usize,
    /// Requests in flight; one that falls due beyond it fails at once as `generator-saturated`.
    pub in_flight_max: usize,
    /// Kept-alive connections an address.
    pub idle_per_address_max: usize,
    /// A connection idle for longer is not used again: shorter than a server's own limit, lest both meet.
    pub idle_timeout: Duration,
    /// A request sent this much after its due time counts as a late send.
    pub late_after: Duration,
    /// A body beyond this fails its request.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_deadline: Duration::from_secs(5),
            connect_deadline: Duration::from_secs(1),
            try_deadline: Duration::from_secs(1),
            tries_max: 2,
            in_flight_max: 4096,
            idle_per_address_max: 256,
            idle_timeout: Duration::from_secs(4),
            late_after: Duration::from_millis(10),
            body_bytes_max: BODY_BYTES_MAX,
        }
    }
}
