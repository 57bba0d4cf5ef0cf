//! One connection: dialled to the server, or held in a black hole, then carried both ways.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::counts::Counters;
use super::fault::{Direction, Fault, Faults};
use super::pump::{CHUNK_BYTES, Pump};

/// A server that does not answer the proxy's own connect within this is refused to the client.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Connects to the server; none when the client must be reset.
pub(super) async fn dial(
    client: &mut TcpStream,
    server: SocketAddr,
    mut faults: watch::Receiver<Faults>,
    counters: &Counters,
) -> Option<TcpStream> {
    if swallow_while_black(client, &mut faults, counters).await {
        return None;
    }
    let server = timeout(CONNECT_DEADLINE, TcpStream::connect(server)).await.ok()?.ok()?;
    server.set_nodelay(true).ok()?;
    Some(server)
}

/// Carries one connection until both directions ended in order.
pub(super) async fn carry(
    client: &mut TcpStream,
    server: &mut TcpStream,
    faults: watch::Receiver<Faults>,
    counters: &Counters,
) -> io::Result<()> {
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let swallowed = &counters.swallowed;
    let (direction, delivered) = (Direction::ToServer, &counters.to_server);
    let there = Pump { direction, faults: faults.clone(), delivered, swallowed };
    let (direction, delivered) = (Direction::ToClient, &counters.to_client);
    let back = Pump { direction, faults, delivered, swallowed };
    tokio::try_join!(there.run(from_client, to_server), back.run(from_server, to_client)).map(drop)
}

/// A client that comes while its bytes go into a black hole: nothing is dialled; true when it lost bytes or left.
async fn swallow_while_black(
    client: &mut TcpStream,
    faults: &mut watch::Receiver<Faults>,
    counters: &Counters,
) -> bool {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lost = false;
    while faults.borrow_and_update().to_server == Fault::BlackHole {
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return true },
            read = client.read(&mut chunk) => match read {
                // The end of the stream goes into the hole as well: wait for the healing, hold the connection.
                Ok(0) => {
                    lost = true;
                    drop(faults.changed().await);
                }
                Ok(length) => {
                    lost = true;
                    counters.swallowed.fetch_add(length as u64, Ordering::Relaxed);
                }
                Err(_) => return true,
            },
        }
    }
    lost
}
