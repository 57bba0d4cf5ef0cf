//! EDNS options (RFC 6891 section 6.1.2): what a client may ask for beside its question, read, and the answers written.

use crate::cookie::{CLIENT_BYTES, SERVER_BYTES};
use std::net::IpAddr;

const NSID: u16 = 3;
const CLIENT_SUBNET: u16 = 8;
const COOKIE: u16 = 10;
const TCP_KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;
/// The longest server cookie (RFC 7873 section 4).
const SERVER_BYTES_MAX: usize = 32;

/// The options of a query that mean something here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Which server is this (RFC 5001)?
    pub nsid: bool,
    pub cookie: Option<Cookie>,
    pub subnet: Option<Subnet>,
    /// How long may a connection be idle (RFC 7828)?
    pub tcp_keepalive: bool,
    /// Is the length of the answer to be hidden (RFC 7830)?
    pub padding: bool,
}

/// A cookie as it came (RFC 7873 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    pub client: [u8; CLIENT_BYTES],
    server: [u8; SERVER_BYTES_MAX],
    server_bytes: u8,
}

impl Cookie {
    /// The server's part; empty from a client that has none yet.
    pub fn server(&self) -> &[u8] {
        &self.server[..usize::from(self.server_bytes)]
    }
}

/// Where the client of our client is (RFC 7871 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// 1 for IPv4, 2 for IPv6.
    pub family: u16,
    pub source_bits: u8,
    /// The first `source_bits` bits; the others are zero.
    pub address: [u8; 16],
}

impl Subnet {
    /// The first address of the network; `None` when the resolver tells nothing of its client, or of a family that we do
    /// not know.
    pub fn network(&self) -> Option<IpAddr> {
        let v4: [u8; 4] = self.address[..4].try_into().expect("16 octets have 4");
        match (self.source_bits, self.family) {
            (0, _) => None,
            (_, 1) => Some(IpAddr::from(v4)),
            (_, 2) => Some(IpAddr::from(self.address)),
            _ => None,
        }
    }
}

impl Options {
    /// Reads options that fill `octets`; `None` is a format error. Unknown ones are ignored (RFC 6891 section 6.1.2), and of
    /// several alike the first counts.
    pub fn read(mut octets: &[u8]) -> Option<Options> {
        let mut options = Options::default();
        while let [code_high, code_low, length_high, length_low, rest @ ..] = octets {
            let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
            let (value, tail) = rest.split_at_checked(length)?;
            match u16::from_be_bytes([*code_high, *code_low]) {
                NSID => options.nsid = true,
                TCP_KEEPALIVE => options.tcp_keepalive = true,
                PADDING => options.padding = true,
                COOKIE if options.cookie.is_none() => options.cookie = Some(cookie(value)?),
                CLIENT_SUBNET if options.subnet.is_none() => options.subnet = Some(subnet(value)?),
                _ => {}
            }
            octets = tail;
        }
        octets.is_empty().then_some(options)
    }
}

/// Eight octets, and perhaps 8 to 32 of a server's.
fn cookie(value: &[u8]) -> Option<Cookie> {
    let (client, rest) = value.split_first_chunk::<CLIENT_BYTES>()?;
    if !rest.is_empty() && !(8..=SERVER_BYTES_MAX).contains(&rest.len()) {
        return None;
    }
    let mut server = [0; SERVER_BYTES_MAX];
    server[..rest.len()].copy_from_slice(rest);
    Some(Cookie { client: *client, server, server_bytes: u8::try_from(rest.len()).ok()? })
}

/// Family, source and scope, then as many octets as the source needs, with nothing behind its last bit.
fn subnet(value: &[u8]) -> Option<Subnet> {
    let [family_high, family_low, source_bits, scope_bits, rest @ ..] = value else { return None };
    let family = u16::from_be_bytes([*family_high, *family_low]);
    let bits_max = match family {
        // No address at all: what dig sends for +subnet=0.
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return None,
    };
    let bytes = usize::from(*source_bits).div_ceil(8);
    if *source_bits > bits_max || *scope_bits != 0 || rest.len() != bytes {
        return None;
    }
    let unused = bytes * 8 - usize::from(*source_bits);
    if rest.last().is_some_and(|last| last.trailing_zeros() < u32::try_from(unused).unwrap_or(0)) {
        return None;
    }
    let mut address = [0; 16];
    address[..bytes].copy_from_slice(rest);
    Some(Subnet { family, source_bits: *source_bits, address })
}

/// Appends one option.
fn put(out: &mut Vec<u8>, code: u16, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend(code.to_be_bytes());
    out.extend(u16::try_from(length).unwrap_or(0).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

pub fn put_nsid(out: &mut Vec<u8>, nsid: &[u8]) {
    put(out, NSID, &[nsid]);
}

pub fn put_cookie(out: &mut Vec<u8>, client: &[u8; CLIENT_BYTES], server: &[u8; SERVER_BYTES]) {
    put(out, COOKIE, &[client, server]);
}

/// The subnet as it came, with how many of its bits the answer rests on.
pub fn put_subnet(out: &mut Vec<u8>, subnet: &Subnet, scope_bits: u8) {
    let bytes = usize::from(subnet.source_bits).div_ceil(8);
    let head = [subnet.family.to_be_bytes(), [subnet.source_bits, scope_bits]].concat();
    put(out, CLIENT_SUBNET, &[&head, &subnet.address[..bytes]]);
}

/// The idle time in tenths of a second.
pub fn put_tcp_keepalive(out: &mut Vec<u8>, tenths: u16) {
    put(out, TCP_KEEPALIVE, &[&tenths.to_be_bytes()]);
}

/// So many octets that say nothing.
pub fn put_padding(out: &mut Vec<u8>, bytes: usize) {
    put(out, PADDING, &[&vec![0; bytes]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[track_caller]
    fn check(hex: &str, expected: &str) {
        let octets = HEXLOWER.decode(hex.replace(' ', "").as_bytes()).unwrap();
        let got = Options::read(&octets).map_or("FORMERR".to_string(), |options| {
            let mut words = Vec::new();
            if options.nsid {
                words.push("nsid".to_string());
            }
            if options.tcp_keepalive {
                words.push("keepalive".to_string());
            }
            if options.padding {
                words.push("padding".to_string());
            }
            if let Some(cookie) = options.cookie {
                words.push(format!("cookie {}/{}", HEXLOWER.encode(&cookie.client), cookie.server().len()));
            }
            if let Some(Subnet { family, source_bits, address }) = options.subnet {
                words.push(format!("subnet {family} {}/{source_bits}", HEXLOWER.encode(&address[..4])));
            }
            words.join(", ")
        });
        assert_eq!(got, expected);
    }

    #[test]
    fn what_is_known_is_read_and_the_rest_ignored() {
        check("", "");
        check("0003 0000 ff01 0002 abcd 000b 0000", "nsid, keepalive");
        check("000c 0003 000000", "padding");
        check("ff01 0003 abcd", "FORMERR");
        check("ff01 00", "FORMERR");
    }
    #[test]
    fn cookies() {
        check("000a 0008 0102030405060708", "cookie 0102030405060708/0");
        check("000a 0010 0102030405060708 0102030405060708", "cookie 0102030405060708/8");
        check("000a 0007 01020304050607", "FORMERR");
        check("000a 000f 0102030405060708 01020304050607", "FORMERR");
        check(&format!("000a 0029 {}", "00".repeat(41)), "FORMERR");
    }
    #[test]
    fn subnets() {
        check("0008 0007 0001 18 00 c00002", "subnet 1 c0000200/24");
        check("0008 0004 0001 00 00", "subnet 1 00000000/0");
        check("0008 0006 0002 0c 00 2010", "subnet 2 20100000/12");
        check("0008 0004 0000 00 00", "subnet 0 00000000/0");
        check("0008 0005 0000 08 00 0a", "FORMERR");
        check("0008 0006 0002 0b 00 2010", "FORMERR");
        check("0008 0007 0001 18 18 c00002", "FORMERR");
        check("0008 0006 0001 18 00 c000", "FORMERR");
        check("0008 0008 0001 18 00 c0000200", "FORMERR");
        check("0008 0009 0001 21 00 c000020000", "FORMERR");
        check("0008 0007 0003 18 00 c00002", "FORMERR");
        check("0008 0003 0001 18", "FORMERR");
    }
}
