//! Listeners: binding with the options that servers need, and an accept loop that no error ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::Backoff;

/// Connections the kernel may hold for us; capped by net.core.somaxconn.
const BACKLOG: i32 = 4_096;

/// Binds one TCP listener (non-blocking; port 0 gives a free one). Turn it into Tokio's with `TcpListener::from_std`.
pub fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    bind(address, false)
}

/// Binds `count` listeners to the same address, one per worker: the kernel spreads connections over them.
pub fn bind_tcp_group(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if address.port() != 0 {
        // SO_REUSEPORT would silently share the port with another process of the same user, which would then get half of
        // the traffic: a plain bind finds that out.
        drop(bind(address, false)?);
    }
    let first = bind(address, true)?;
    let address = first.local_addr()?;
    let mut group = vec![first];
    for _ in 1..count.max(1) {
        group.push(bind(address, true)?);
    }
    Ok(group)
}

/// Accepts the next connection. Never fails: a connection that was gone before we took it (ECONNABORTED) is skipped, and
/// when descriptors run out (EMFILE, ENFILE) it waits until some were given back instead of spinning or ending.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_the_connections(&error) => {}
            Err(error) => {
                let delay = backoff.next_delay();
                warn!(%error, delay_ms = delay.as_millis(), "cannot accept; waiting");
                tokio::time::sleep(delay).await;
            }
        }
    }
}

fn is_the_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(named)?;
    // A restart must not wait for the TIME_WAIT of the process before.
    socket.set_reuse_address(true).map_err(named)?;
    socket.set_reuse_port(reuse_port).map_err(named)?;
    // Inherited by accepted sockets: one system call less per connection.
    socket.set_tcp_nodelay(true).map_err(named)?;
    socket.set_nonblocking(true).map_err(named)?;
    socket.bind(&address.into()).map_err(named)?;
    socket.listen(BACKLOG).map_err(named)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_group_shares_one_port_and_nobody_else_joins_it() {
        let group = bind_tcp_group(any(), 3).unwrap();
        let address = group[0].local_addr().unwrap();
        assert!(group.iter().all(|listener| listener.local_addr().unwrap() == address));
        let error = bind_tcp_group(address, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn accepted_connections_have_no_delay() {
        let listener = TcpListener::from_std(bind_tcp(any()).unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, peer) = accept(&listener).await;
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(server.nodelay().unwrap());
    }
}
