//! Binds UDP and TCP to the same port: resolvers that get a cut answer ask again over TCP, and know no other port.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// Free ports tried before giving up on one that is free for both transports.
const ATTEMPTS_MAX: usize = 64;

/// The sockets of one address.
#[derive(Debug)]
pub struct Bound {
    /// With the port that was found where 0 was asked for.
    pub address: SocketAddr,
    pub tcp: std::net::TcpListener,
    /// One for each worker: the kernel spreads packets over them by source address and port.
    pub udp: Vec<std::net::UdpSocket>,
}

/// Binds one address for `workers` workers. All sockets are non-blocking so far.
pub fn bind(address: SocketAddr, workers: usize, receive_buffer_bytes: usize) -> io::Result<Bound> {
    let mut attempt = 1;
    loop {
        // TCP first: its ephemeral ports are scarcer, and a listener excludes all others by itself.
        let tcp = service_kit::net::bind_tcp(address)?;
        let found = tcp.local_addr()?;
        match bind_udp_group(found, workers, receive_buffer_bytes) {
            Ok(udp) => return Ok(Bound { address: found, tcp, udp }),
            Err(error) if address.port() == 0 && attempt < ATTEMPTS_MAX && taken(&error) => attempt += 1,
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("cannot serve UDP on {found}: {error}")));
            }
        }
    }
}

fn taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn bind_udp_group(
    address: SocketAddr,
    count: usize,
    receive_buffer_bytes: usize,
) -> io::Result<Vec<std::net::UdpSocket>> {
    // SO_REUSEPORT would silently share the port with another process of the same user, which would then get part of the
    // queries: a plain bind finds that out.
    drop(bind_udp(address, false, receive_buffer_bytes)?);
    (0..count.max(1)).map(|_| bind_udp(address, true, receive_buffer_bytes)).collect()
}

fn bind_udp(
    address: SocketAddr,
    reuse_port: bool,
    receive_buffer_bytes: usize,
) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(reuse_port)?;
    // The kernel caps this at net.core.rmem_max without an error.
    socket.set_recv_buffer_size(receive_buffer_bytes)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn both_transports_get_one_port() {
        let bound = bind(any(), 3, 65_536).unwrap();
        assert_ne!(bound.address.port(), 0);
        assert_eq!(bound.udp.len(), 3);
        for socket in &bound.udp {
            assert_eq!(socket.local_addr().unwrap(), bound.address);
        }
        assert_eq!(bound.tcp.local_addr().unwrap(), bound.address);
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let holder = std::net::UdpSocket::bind(any()).unwrap();
        let address = holder.local_addr().unwrap();
        let error = bind(address, 1, 65_536).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_second_server_does_not_share_the_port_unseen() {
        let first = bind(any(), 1, 65_536).unwrap();
        drop(first.tcp);
        let kept = first.udp;
        assert_eq!(bind(first.address, 1, 65_536).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(kept);
    }
}
