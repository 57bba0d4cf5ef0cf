//! A TCP proxy that misbehaves on command: what a drill puts between two programs to break the network between them.
//!
//! Each direction has its own fault, changed while connections are open:
//!
//! ```text
//! client --[to_server]--> proxy --> server
//! client <--[to_client]-- proxy <-- server
//! ```
//!
//! `cut` is about the whole link: existing connections are reset, new ones refused, the port stays ours meanwhile.
//! A stream that lost bytes (black hole) cannot go on after healing, as no TCP stream has holes: it is reset then.
//! It deliberately does not speak UDP, nor drop single packets: TCP would only show that as delay.
//!
//! In reading order: the proxy as drills hold it, `fault`, `counts`, `link` (listens), `connection`, `pump` (one direction).

mod connection;
mod counts;
mod fault;
mod link;
mod pump;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use counts::Counters;
use fault::Faults;
use link::{BACKLOG, Command, Link, bind};

pub use counts::Counts;
pub use fault::{Direction, Fault};

/// A running proxy; it stops, and its connections end, when it is dropped.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ChaosProxy {
    /// Forwards a random port of 127.0.0.1 to `server`.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), server).await
    }

    /// Forwards `listen` (port 0 works) to `server`.
    pub async fn start_on(listen: SocketAddr, server: SocketAddr) -> io::Result<Self> {
        // Bound and never listening: keeps the port ours while the link is cut, and the kernel refuses its clients.
        let reservation = bind(listen)?;
        let address = reservation.local_addr()?;
        let listener = bind(address)?.listen(BACKLOG)?;
        let (faults, _) = watch::channel(Faults::default());
        let (commands, inbox) = mpsc::channel(1);
        let counters = Arc::new(Counters::default());
        let link = Link { server, faults: faults.clone(), counters: counters.clone() };
        let task = tokio::spawn(async move {
            link.run(address, listener, inbox).await;
            drop(reservation);
        });
        Ok(Self { address, faults, commands, counters, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has gone through.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            accepted: read(&self.counters.accepted),
            open: read(&self.counters.open),
            reset: read(&self.counters.reset),
            bytes_to_server: read(&self.counters.to_server),
            bytes_to_client: read(&self.counters.to_client),
            bytes_swallowed: read(&self.counters.swallowed),
        }
    }

    /// Sets the fault of one direction, for open and for new connections.
    pub fn set(&self, direction: Direction, fault: Fault) {
        self.faults.send_modify(|faults| match direction {
            Direction::ToServer => faults.to_server = fault,
            Direction::ToClient => faults.to_client = fault,
        });
    }

    /// Delays both directions: a round trip takes twice as much longer.
    pub fn delay(&self, delay: Duration, jitter: Duration) {
        self.both(Fault::Delay { delay, jitter });
    }

    /// Connections are accepted, bytes swallowed, nothing is ever answered.
    pub fn black_hole(&self) {
        self.both(Fault::BlackHole);
    }

    /// Stops one direction only; the other goes on.
    pub fn half_open(&self, stopped: Direction) {
        self.set(stopped, Fault::Stall);
    }

    /// Limits each direction.
    pub fn bandwidth(&self, bytes_per_s: u64) {
        self.both(Fault::Bandwidth { bytes_per_s });
    }

    fn both(&self, fault: Fault) {
        self.faults.send_replace(Faults { to_server: fault, to_client: fault });
    }

    /// Resets every connection and refuses new ones; returns when both are done.
    pub async fn cut(&self) -> io::Result<()> {
        self.command(Command::Cut).await
    }

    /// Takes every fault back; returns when new connections are accepted.
    pub async fn heal(&self) -> io::Result<()> {
        self.both(Fault::Pass);
        self.command(Command::Restore).await
    }

    async fn command(
        &self,
        build: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Command,
    ) -> io::Result<()> {
        let gone = || io::Error::other("the proxy's task has ended");
        let (done, answer) = oneshot::channel();
        self.commands.send(build(done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
