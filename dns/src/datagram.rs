//! A UDP socket whose answers leave from the address that was asked. On a socket bound to a wildcard the kernel would
//! choose a source by route, and a resolver drops an answer from an address it did not ask.

use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
}

/// A received packet, apart from its octets.
#[derive(Debug)]
pub struct Datagram {
    pub bytes: usize,
    /// It was longer than the buffer.
    pub cut: bool,
    pub source: SocketAddr,
    asked: Option<Asked>,
}

/// The local address a packet was sent to, in the form in which the kernel takes it back as the answer's source.
#[derive(Debug, Clone, Copy)]
enum Asked {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Socket {
    /// Takes over a bound, non-blocking socket. Needs a Tokio runtime.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Socket> {
        let address = socket.local_addr()?;
        if address.ip().is_unspecified() {
            match address {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        Ok(Socket { socket: UdpSocket::from_std(socket)? })
    }

    /// Waits until there may be something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives one packet, or `WouldBlock`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        self.socket.try_io(Interest::READABLE, || {
            let mut slices = [IoSliceMut::new(buffer)];
            let mut control = cmsg_space!(in6_pktinfo);
            let descriptor = self.socket.as_raw_fd();
            let message =
                recvmsg::<SockaddrStorage>(descriptor, &mut slices, Some(&mut control), MsgFlags::empty())?;
            let source = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
            let asked = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(Asked::V4(info)),
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(Asked::V6(info)),
                _ => None,
            });
            let cut = message.flags.contains(MsgFlags::MSG_TRUNC);
            Ok(Datagram { bytes: message.bytes, cut, source, asked })
        })
    }

    /// Sends an answer to whoever sent `to`; never waits.
    pub fn send(&self, octets: &[u8], to: &Datagram) -> io::Result<()> {
        let slices = [IoSlice::new(octets)];
        let destination = SockaddrStorage::from(to.source);
        let descriptor = self.socket.as_raw_fd();
        let none = MsgFlags::empty();
        match to.asked {
            None => sendmsg(descriptor, &slices, &[], none, Some(&destination)),
            Some(Asked::V4(mut info)) => {
                // The route chooses the interface; `ipi_spec_dst` is the source.
                info.ipi_ifindex = 0;
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(descriptor, &slices, &control, none, Some(&destination))
            }
            Some(Asked::V6(mut info)) => {
                // A link-local source means something on its own link only.
                if !Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local() {
                    info.ipi6_ifindex = 0;
                }
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(descriptor, &slices, &control, none, Some(&destination))
            }
        }?;
        Ok(())
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}
