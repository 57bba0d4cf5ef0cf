//! The PROXY protocol, versions 1 and 2: one header before everything else in which a proxy says who the client is. No
//! sockets.
//!
//! Source: haproxy.org, proxy-protocol.txt of 2020/03/05, sections 2.1 and 2.2. TLVs of version 2 are skipped, checksums among
//! them. Both are bounded: whoever sends more than that before a request is not a proxy.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with; no text protocol and no TLS hello does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// Longest line of version 1, with its CRLF (section 2.1).
const LINE_MAX: usize = 107;
/// Version 2 before its addresses.
const FIXED: usize = 16;
/// Longest header of version 2 that is taken: addresses and some KB of TLVs (certificates' names, unique ids).
pub(crate) const HEADER_MAX: usize = 4_096;

/// Whom the header speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The proxy itself (LOCAL: a health check), or a client that it cannot name (UNKNOWN, a Unix socket): the socket's own
    /// addresses hold.
    Itself,
    /// A client and the address that it connected to.
    Client(Pair),
}

/// Both ends of a connection, of the same family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// Why something is no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("no PROXY header where one is required")]
    Absent,
    #[error("a PROXY header of version 1 that is not as it should be")]
    Line,
    #[error("a PROXY header of version 2 that is not as it should be")]
    Binary,
    #[error("a PROXY header longer than any proxy's")]
    TooLong,
}

/// Reads a header at the beginning of `bytes`: its length and whom it speaks of, or nothing while more bytes are needed.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(usize, Source)>, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, two)| one == two);
    if begins(&SIGNATURE) {
        if bytes.len() < FIXED { Ok(None) } else { binary(bytes) }
    } else if begins(WORD) {
        if bytes.len() < WORD.len() { Ok(None) } else { line(bytes) }
    } else {
        Err(Malformed::Absent)
    }
}

fn line(bytes: &[u8]) -> Result<Option<(usize, Source)>, Malformed> {
    let Some(end) = bytes.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_MAX { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let text = bytes[WORD.len()..end].strip_suffix(b"\r").ok_or(Malformed::Line)?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Line)?;
    let mut words = text.split(' ');
    let family = words.next().ok_or(Malformed::Line)?;
    if family == "UNKNOWN" {
        return Ok(Some((end + 1, Source::Itself)));
    }
    let mut word = || words.next().ok_or(Malformed::Line);
    let (client, server) = (word()?, word()?);
    let (client_port, server_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Malformed::Line);
    }
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Malformed::Line),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Malformed::Line),
            _ => Err(Malformed::Line),
        }
    };
    let pair = Pair {
        client: SocketAddr::new(address(client)?, client_port),
        server: SocketAddr::new(address(server)?, server_port),
    };
    Ok(Some((end + 1, Source::Client(pair))))
}

/// Decimal without sign or leading zeros.
fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().map_err(|_| Malformed::Line) } else { Err(Malformed::Line) }
}

fn binary(bytes: &[u8]) -> Result<Option<(usize, Source)>, Malformed> {
    let (version_command, family) = (bytes[12], bytes[13]);
    let length = FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if version_command >> 4 != 2 {
        return Err(Malformed::Binary);
    }
    if length > HEADER_MAX {
        return Err(Malformed::TooLong);
    }
    if bytes.len() < length {
        return Ok(None);
    }
    let block = &bytes[FIXED..length];
    let source = match (version_command & 0xf, family) {
        // LOCAL: the family and the addresses mean nothing.
        (0, _) => Source::Itself,
        (1, 0x11) => Source::Client(pair::<4>(block)?),
        (1, 0x21) => Source::Client(pair::<16>(block)?),
        // Unspecified, datagrams and Unix sockets: nothing that a client of ours could have.
        (1, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Source::Itself,
        _ => return Err(Malformed::Binary),
    };
    Ok(Some((length, source)))
}

/// Two addresses of `N` bytes, then two ports.
fn pair<const N: usize>(block: &[u8]) -> Result<Pair, Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let (client, rest) = block.split_first_chunk::<N>().ok_or(Malformed::Binary)?;
    let (server, rest) = rest.split_first_chunk::<N>().ok_or(Malformed::Binary)?;
    let (ports, _tlvs) = rest.split_first_chunk::<4>().ok_or(Malformed::Binary)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Ok(Pair {
        client: SocketAddr::new(IpAddr::from(*client), port(0)),
        server: SocketAddr::new(IpAddr::from(*server), port(2)),
    })
}

/// Which header is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// The header that says `pair`; with nobody to name (health checks), LOCAL or UNKNOWN.
pub(crate) fn encode(version: Version, pair: Option<Pair>) -> Vec<u8> {
    let pair = pair.map(same_family);
    match version {
        Version::V1 => encode_line(pair),
        Version::V2 => encode_binary(pair),
    }
}

/// A client of one family at a listener of the other (`::ffff:192.0.2.1` at `[::]:80`): both as IPv4 if they can be, else
/// both as IPv6.
fn same_family(pair: Pair) -> Pair {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (client, server) = (canonical(pair.client), canonical(pair.server));
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if client.is_ipv4() == server.is_ipv4() {
        Pair { client, server }
    } else {
        Pair { client: wide(client), server: wide(server) }
    }
}

fn encode_line(pair: Option<Pair>) -> Vec<u8> {
    let Some(Pair { client, server }) = pair else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (one, two, from, to) = (client.ip(), server.ip(), client.port(), server.port());
    format!("PROXY {family} {one} {two} {from} {to}\r\n").into_bytes()
}

fn encode_binary(pair: Option<Pair>) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    match pair.map(|pair| (pair.client.ip(), pair.server.ip(), pair)) {
        Some((IpAddr::V4(client), IpAddr::V4(server), pair)) => {
            bytes.extend_from_slice(&[0x21, 0x11, 0, 12]);
            bytes.extend_from_slice(&client.octets());
            bytes.extend_from_slice(&server.octets());
            put_ports(&mut bytes, pair);
        }
        Some((IpAddr::V6(client), IpAddr::V6(server), pair)) => {
            bytes.extend_from_slice(&[0x21, 0x21, 0, 36]);
            bytes.extend_from_slice(&client.octets());
            bytes.extend_from_slice(&server.octets());
            put_ports(&mut bytes, pair);
        }
        _ => bytes.extend_from_slice(&[0x20, 0x00, 0, 0]),
    }
    bytes
}

fn put_ports(bytes: &mut Vec<u8>, pair: Pair) {
    for port in [pair.client.port(), pair.server.port()] {
        bytes.write_all(&port.to_be_bytes()).expect("a vector takes every byte");
    }
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
