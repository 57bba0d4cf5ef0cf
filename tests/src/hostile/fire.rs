//! Carries out payloads: connects, sends, and leaves as each of them says.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::payload::{Action, Payload, Then};
use super::target::Target;

/// A server that does not read lets a write wait; then the payload has done what it can.
const WRITE_DEADLINE: Duration = Duration::from_secs(3);
/// A handshake that takes longer means a full backlog.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a payload that waits for an answer does so.
const READ_DEADLINE: Duration = Duration::from_millis(300);
/// Between the bytes of a slow sender.
const DRIP_PAUSE: Duration = Duration::from_millis(15);
/// Connections of the crowd.
const CROWD: usize = 100;

/// Gives back how many got no connection.
pub(super) async fn fire_all(target: &Target, all: &[Payload]) -> usize {
    let fired = futures_util::stream::iter(all).map(|payload| fire(target.address, &payload.action));
    let results: Vec<io::Result<Vec<TcpStream>>> =
        fired.buffer_unordered(target.bounds.parallel.max(1)).collect().await;
    // What is held is in the results, and is closed at the end of this function.
    sleep(target.bounds.hold).await;
    results.iter().filter(|result| result.is_err()).count()
}

/// Errors are those of connecting; afterwards the server may do with us what it likes.
async fn fire(address: SocketAddr, action: &Action) -> io::Result<Vec<TcpStream>> {
    let bytes = match action {
        Action::Datagrams(datagrams) => return send_datagrams(address, datagrams).await.map(|()| Vec::new()),
        Action::Crowd => {
            return futures_util::future::try_join_all((0..CROWD).map(|_| connect(address))).await;
        }
        Action::Drip(bytes) | Action::Send(bytes, _) => bytes,
    };
    let mut stream = connect(address).await?;
    let then = match action {
        Action::Send(_, then) => {
            // The server may have closed already, or may not read.
            let _ = timeout(WRITE_DEADLINE, stream.write_all(bytes)).await;
            *then
        }
        _ => {
            for byte in bytes {
                if stream.write_all(&[*byte]).await.is_err() {
                    break;
                }
                sleep(DRIP_PAUSE).await;
            }
            Then::Close
        }
    };
    let mut answer = vec![0; 4096];
    match then {
        Then::Hold => return Ok(vec![stream]),
        Then::Reset => stream.set_zero_linger()?,
        Then::HalfClose => {
            let _ = stream.shutdown().await;
            let _ = timeout(READ_DEADLINE, async {
                while stream.read(&mut answer).await.is_ok_and(|read| read > 0) {}
            })
            .await;
        }
        Then::Close => drop(timeout(READ_DEADLINE, stream.read(&mut answer)).await),
    }
    Ok(Vec::new())
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await?
}

async fn send_datagrams(address: SocketAddr, datagrams: &[Vec<u8>]) -> io::Result<()> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    for datagram in datagrams {
        let _ = timeout(WRITE_DEADLINE, socket.send_to(datagram, address)).await;
    }
    Ok(())
}
