//! Packets by the dozen: one system call takes what has arrived and one sends the answers. An answer leaves from the
//! address that was asked, also on a socket bound to a wildcard, where the kernel would choose a source by route and
//! resolvers would drop what comes from an address they did not ask.
//!
//! This is the one module with unsafe code: `recvmmsg` and `sendmmsg` take arrays of structures of pointers, and the safe
//! wrappers there are take one set of control messages for a whole batch, while here each answer has a source of its own.

#![allow(
    unsafe_code,
    reason = "recvmmsg and sendmmsg with a control message for each packet have no safe wrapper"
)]

use nix::libc::{
    AF_INET, AF_INET6, EINTR, IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, MSG_DONTWAIT, MSG_TRUNC,
    MSG_WAITFORONE, c_int, c_uint, iovec, mmsghdr, recvmmsg, sendmmsg, sockaddr_in6, socklen_t,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

/// The longest query read. Longer ones are not for a server without updates and transfers.
pub const QUERY_BYTES_MAX: usize = 4_096;
/// Packets of one batch.
pub const PACKETS_MAX: usize = 32;
/// From one packet's buffer to the next: were it a power of two, all packets would fall on the same cache lines.
const STRIDE: usize = QUERY_BYTES_MAX + 192;

/// The buffers of one socket's loop.
pub struct Batch {
    octets: Box<[u8]>,
    received: Box<[Envelope]>,
    /// For the kernel. Their pointers are set anew before each call.
    headers: Box<[mmsghdr]>,
    vectors: Box<[iovec]>,
    count: usize,
    answers: Vec<u8>,
    /// Packet by packet that gets an answer, and where that is in `answers`.
    outgoing: Vec<(usize, Range<usize>)>,
}

/// A packet apart from its octets.
#[derive(Clone, Copy)]
struct Envelope {
    /// Large enough for an IPv4 address too; which one it is, the family tells.
    source: sockaddr_in6,
    source_bytes: socklen_t,
    control: Control,
    control_bytes: usize,
    bytes: usize,
    cut: bool,
}

/// One control message with the local address of a packet: what `CMSG_SPACE(sizeof(struct in6_pktinfo))` is.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Control {
    bytes: usize,
    level: c_int,
    kind: c_int,
    /// `in_pktinfo` (interface, local address, destination) or `in6_pktinfo` (address of four words, interface).
    data: [u32; 6],
}

/// A packet received.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'b> {
    pub octets: &'b [u8],
    /// It was longer than is read.
    pub cut: bool,
    pub source: SocketAddr,
}

/// Whether a receiving call waits for a first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    ForOne,
    No,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Batch of {} packets", self.count)
    }
}

impl Default for Batch {
    fn default() -> Batch {
        let source = sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: nix::libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        };
        let envelope = Envelope {
            source,
            source_bytes: 0,
            control: Control::default(),
            control_bytes: 0,
            bytes: 0,
            cut: false,
        };
        Batch {
            octets: vec![0; PACKETS_MAX * STRIDE].into(),
            received: vec![envelope; PACKETS_MAX].into(),
            // SAFETY: these are integers and pointers, for which zero is a value.
            headers: vec![unsafe { std::mem::zeroed() }; PACKETS_MAX].into(),
            vectors: vec![iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PACKETS_MAX].into(),
            count: 0,
            answers: Vec::with_capacity(PACKETS_MAX * 512),
            outgoing: Vec::with_capacity(PACKETS_MAX),
        }
    }
}

impl Batch {
    /// Receives what is there, and forgets the batch before. A call that waits ends when the socket is shut down for
    /// reading, with a packet that has no source and is not counted.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, wait: Wait) -> io::Result<usize> {
        self.count = 0;
        self.answers.clear();
        self.outgoing.clear();
        let (headers, vectors) = (&mut self.headers, &mut self.vectors);
        let buffers = self.octets.chunks_exact_mut(STRIDE).zip(&mut self.received);
        for ((header, vector), (octets, envelope)) in headers.iter_mut().zip(vectors.iter_mut()).zip(buffers)
        {
            *vector = iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: QUERY_BYTES_MAX };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut envelope.source).cast();
            header.msg_hdr.msg_namelen = size_of::<sockaddr_in6>() as socklen_t;
            header.msg_hdr.msg_control = (&raw mut envelope.control).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>();
            header.msg_hdr.msg_flags = 0;
        }
        let flags = match wait {
            Wait::ForOne => MSG_WAITFORONE,
            Wait::No => MSG_DONTWAIT,
        };
        // SAFETY: every header points to buffers of `self` and of this frame with their true lengths, no two share one, and
        // none is used by anybody else until the call returns; the kernel keeps no pointer.
        let count = unsafe {
            let most = PACKETS_MAX as c_uint;
            recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), most, flags as _, ptr::null_mut())
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, envelope) in headers[..count].iter().zip(&mut self.received) {
            envelope.bytes = (header.msg_len as usize).min(QUERY_BYTES_MAX);
            envelope.cut = header.msg_hdr.msg_flags & MSG_TRUNC != 0;
            envelope.source_bytes = header.msg_hdr.msg_namelen;
            envelope.control_bytes = header.msg_hdr.msg_controllen;
        }
        // What a shut down socket gives in place of waiting has no source; packets before it are real.
        self.count = self.received[..count].iter().take_while(|it| it.source_bytes > 0).count();
        Ok(self.count)
    }

    /// A packet of this batch, and the buffer to which its answer is to be appended.
    pub fn packet(&mut self, at: usize) -> (Packet<'_>, &mut Vec<u8>) {
        let envelope = &self.received[..self.count][at];
        let octets = &self.octets[at * STRIDE..][..envelope.bytes];
        let packet = Packet { octets, cut: envelope.cut, source: envelope.source() };
        (packet, &mut self.answers)
    }

    /// Octets of all answers so far: where the next one starts.
    pub fn answer_bytes(&self) -> usize {
        self.answers.len()
    }

    /// Says that what was appended from `start` on is the answer to a packet.
    pub fn answered(&mut self, at: usize, start: usize) {
        debug_assert!(at < self.count);
        self.outgoing.push((at, start..self.answers.len()));
    }

    /// Sends the answers, without waiting for room. Returns how many the system did not take.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let (headers, vectors) = (&mut self.headers, &mut self.vectors);
        let answers = self.answers.as_mut_ptr();
        for ((header, vector), (at, range)) in headers.iter_mut().zip(vectors.iter_mut()).zip(&self.outgoing)
        {
            let envelope = &mut self.received[*at];
            envelope.control.become_source();
            // SAFETY: ranges lie within the answers.
            let start = unsafe { answers.add(range.start) };
            *vector = iovec { iov_base: start.cast(), iov_len: range.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut envelope.source).cast();
            header.msg_hdr.msg_namelen = envelope.source_bytes;
            header.msg_hdr.msg_control = (&raw mut envelope.control).cast();
            header.msg_hdr.msg_controllen = envelope.control_bytes;
        }
        let total = self.outgoing.len();
        let (mut sent, mut failed) = (0, 0);
        while sent + failed < total {
            let rest = &mut headers[sent + failed..total];
            // SAFETY: as for receiving; the kernel only reads.
            let count = unsafe {
                sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as c_uint, MSG_DONTWAIT as _)
            };
            match usize::try_from(count) {
                Ok(count) => sent += count,
                Err(_) if io::Error::last_os_error().raw_os_error() == Some(EINTR) => {}
                // The first of the rest was not taken; those behind it may be.
                Err(_) => failed += 1,
            }
        }
        failed
    }
}

impl Envelope {
    fn source(&self) -> SocketAddr {
        let port = u16::from_be(self.source.sin6_port);
        let ip = match c_int::from(self.source.sin6_family) {
            // In `sockaddr_in` the address stands where IPv6 has the flow.
            AF_INET => IpAddr::V4(Ipv4Addr::from(u32::from_be(self.source.sin6_flowinfo))),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(self.source.sin6_addr.s6_addr)),
            _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(ip, port)
    }
}

impl Control {
    /// From "came to this address by that interface" to "leaves from this address": the route chooses the interface.
    fn become_source(&mut self) {
        match (self.level, self.kind) {
            (IPPROTO_IP, IP_PKTINFO) => self.data[0] = 0,
            // A link-local source means something on its own link only.
            (IPPROTO_IPV6, IPV6_PKTINFO) => {
                let [first, second, ..] = self.data[0].to_ne_bytes();
                if first != 0xFE || second & 0xC0 != 0x80 {
                    self.data[4] = 0;
                }
            }
            _ => {}
        }
    }
}
