//! What can be wrong with one direction of a link.

use std::time::Duration;

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    Pass,
    /// Each chunk arrives later by `delay` and up to `jitter` more; order is kept.
    Delay {
        /// At least this much later.
        delay: Duration,
        /// At most this much more.
        jitter: Duration,
    },
    /// Bytes are taken and never arrive.
    BlackHole,
    /// Bytes are no longer forwarded but not lost: they arrive after healing. On one direction this is "half open".
    Stall,
    /// At most this many bytes a second.
    Bandwidth {
        /// The limit; 0 counts as 1.
        bytes_per_s: u64,
    },
}

/// One direction through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
}

/// The faults of both directions, as connections watch them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) to_server: Fault,
    pub(super) to_client: Fault,
}

impl Faults {
    pub(super) fn of(&self, direction: Direction) -> Fault {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}
