//! One direction of one connection: reads, waits as the fault says, writes.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::{Direction, Fault, Faults};

/// 16 KiB a read: small enough that a delay is per packet rather than per page.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;
/// 64 chunks (1 MiB) in flight a direction: a delayed link holds that much, then pushes back.
const CHUNKS_MAX: usize = 64;

/// One direction of one connection.
pub(super) struct Pump<'a> {
    pub(super) direction: Direction,
    pub(super) faults: watch::Receiver<Faults>,
    pub(super) delivered: &'a AtomicU64,
    pub(super) swallowed: &'a AtomicU64,
}

/// What came out of a socket, and when.
struct Item {
    at: Instant,
    what: What,
}

enum What {
    Bytes(Vec<u8>),
    /// The peer has no more to say.
    End,
    /// The peer reset the connection. A black hole hides that from the other side like everything else.
    Abort,
}

impl Pump<'_> {
    /// Reading and writing are apart, so that a delay moves bytes later without making them fewer a second.
    pub(super) async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (queue, inbox) = mpsc::channel(CHUNKS_MAX);
        let (written, ()) = tokio::join!(self.write(to, inbox), read(from, queue));
        written
    }

    async fn write(mut self, mut to: WriteHalf<'_>, mut inbox: mpsc::Receiver<Item>) -> io::Result<()> {
        let mut lost = false;
        while let Some(item) = inbox.recv().await {
            loop {
                match self.fault() {
                    Fault::Stall => self.changed().await?,
                    Fault::BlackHole => {
                        lost = true;
                        if let What::Bytes(bytes) = &item.what {
                            self.swallowed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                            break;
                        }
                        self.changed().await?;
                    }
                    _ if lost => return Err(hole()),
                    fault => {
                        if self.wait_until_due(fault, item.at).await? {
                            self.deliver(&item.what, &mut to).await?;
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// False when the fault changed before the item's time came.
    async fn wait_until_due(&mut self, fault: Fault, read_at: Instant) -> io::Result<bool> {
        let Fault::Delay { delay, jitter } = fault else { return Ok(true) };
        tokio::select! {
            () = sleep_until(read_at + delay + jitter.mul_f64(fastrand::f64())) => Ok(true),
            changed = self.faults.changed() => changed.map(|()| false).map_err(io::Error::other),
        }
    }

    async fn deliver(&mut self, what: &What, to: &mut WriteHalf<'_>) -> io::Result<()> {
        let bytes = match what {
            What::Bytes(bytes) => bytes,
            What::End => return to.shutdown().await,
            What::Abort => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = match self.fault() {
                Fault::Bandwidth { bytes_per_s } => {
                    let length = piece_bytes(bytes_per_s).min(rest.len());
                    sleep(Duration::from_secs_f64(length as f64 / bytes_per_s.max(1) as f64)).await;
                    length
                }
                _ => rest.len(),
            };
            to.write_all(&rest[..length]).await?;
            self.delivered.fetch_add(length as u64, Ordering::Relaxed);
            rest = &rest[length..];
        }
        Ok(())
    }

    fn fault(&mut self) -> Fault {
        self.faults.borrow_and_update().of(self.direction)
    }

    async fn changed(&mut self) -> io::Result<()> {
        self.faults.changed().await.map_err(io::Error::other)
    }
}

/// Fifty pieces a second: smooth, and a new fault waits for one piece at most.
fn piece_bytes(bytes_per_s: u64) -> usize {
    usize::try_from((bytes_per_s / 50).max(1)).unwrap_or(usize::MAX)
}

fn hole() -> io::Error {
    io::Error::other("the stream lost bytes")
}

/// Ends with the stream; a writer that has ended drops the queue.
async fn read(mut from: ReadHalf<'_>, queue: mpsc::Sender<Item>) {
    loop {
        let mut bytes = vec![0; CHUNK_BYTES];
        let what = tokio::select! {
            read = from.read(&mut bytes) => match read {
                Ok(0) => What::End,
                Ok(length) => {
                    bytes.truncate(length);
                    What::Bytes(bytes)
                }
                Err(_) => What::Abort,
            },
            () = queue.closed() => return,
        };
        let last = !matches!(what, What::Bytes(_));
        if queue.send(Item { at: Instant::now(), what }).await.is_err() || last {
            return;
        }
    }
}
