//! A new process takes the listening sockets of the running one; no connection is lost, refused or reset.
//!
//! ```text
//!  new process (taker)                              running process (giver)
//!     ── take {protocol, program, version} ──►      one taker at a time, of the same user
//!     ◄── sockets [{name, address} …] + SCM_RIGHTS ── or refused {reason}
//!   reads its configuration, probes what it needs;
//!   accepts nothing yet, so failing here costs nothing
//!     ── ready ──────────────────────────────►      accepts nothing more
//!     ◄── yours ───────────────────────────────     drains what it has, exits with 0
//!   accepts, listens for the next taker
//! ```
//! What is passed are the sockets themselves (unix(7), SCM_RIGHTS), all of a `SO_REUSEPORT` group: the kernel keeps one
//! queue of waiting connections per socket, and a socket that is closed resets its queue. Between `ready` and `yours`
//! nobody accepts for a moment; what arrives waits in the queues.
//!
//! Until the giver has said `yours` it is in charge: a taker that fails, dies, is too slow or speaks another protocol
//! changes nothing. A connection that ends without `refused` says that the giver is gone, and the taker goes on alone.
//! Frames are a length (four bytes, big-endian) and JSON; a version that adds fields stays readable to the older one, a
//! version that changes the meaning has another [`PROTOCOL`] number and is refused.

mod giver;
mod listeners;
mod place;
mod taker;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use giver::Giver;
pub(crate) use listeners::Listeners;
pub(crate) use place::Place;
pub(crate) use taker::{Answer, Taken, take};

/// The only version there is.
const PROTOCOL: u16 = 1;
/// For each answer that takes no work.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// What a program that can be replaced while it serves has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The unix socket at which the running process waits for its successor. 0600; its folder must exist.
    pub socket: PathBuf,
    /// How long a successor may take until it is ready to serve.
    pub ready_timeout: Duration,
}

/// One listening socket with its name in the program (`http`, `admin`).
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) listener: TcpListener,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
enum Message {
    Take {
        protocol: u16,
        program: String,
        version: String,
    },
    /// So many descriptors follow, in this order.
    Sockets {
        sockets: Vec<Label>,
    },
    Refused {
        reason: String,
    },
    Ready,
    Yours,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Label {
    name: String,
    address: SocketAddr,
}

/// Why a hand-over came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}: {error}", place.display())]
    Place { place: PathBuf, error: io::Error },
    #[error("the other process: {0}")]
    Io(#[from] io::Error),
    #[error("the other process sent something else than expected: {0}")]
    Garbled(String),
    #[error("the running process refused: {0}")]
    Refused(String),
    #[error("the other process ended")]
    Gone,
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the process at the other end belongs to user {0}")]
    Stranger(u32),
}
