//! Networks as people write them: `192.0.2.0/24`, `2001:db8::/32`, `192.0.2.1`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// All addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    network: IpAddr,
    bits: u8,
}

/// It is no address, or has more bits than its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address or network")]
pub struct NotANetwork;

impl Prefix {
    /// The network of the first `bits` of an address; more than it has are all of them.
    pub fn new(address: IpAddr, bits: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let bits = bits.min(32);
                let rest = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
                Self { network: IpAddr::V4((address.to_bits() & !rest).into()), bits }
            }
            IpAddr::V6(address) => {
                let bits = bits.min(128);
                let rest = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
                Self { network: IpAddr::V6((address.to_bits() & !rest).into()), bits }
            }
        }
    }

    /// How many bits its addresses share.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Its first address.
    pub fn network(self) -> IpAddr {
        self.network
    }

    /// Whether an address is in it; an IPv4 address written as IPv6 (`::ffff:192.0.2.1`) counts as itself.
    pub fn contains(self, address: IpAddr) -> bool {
        self.shared_bits(address).is_some_and(|shared| shared >= self.bits)
    }

    /// How many first bits an address has in common with the network's; `None`: it is of the other family.
    pub fn shared_bits(self, address: IpAddr) -> Option<u8> {
        let zeros = match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros()
            }
            _ => return None,
        };
        u8::try_from(zeros).ok()
    }
}

impl FromStr for Prefix {
    type Err = NotANetwork;

    /// `address` or `address/bits`.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width { Err(NotANetwork) } else { Ok(Self::new(address, bits)) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.bits)
    }
}

/// A list of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Prefix>);

impl Networks {
    /// Reads `address` or `address/bits` entries; the error is the entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let parse = |entry: &String| entry.parse().map_err(|_| entry.clone());
        entries.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, address: &str, expected: bool) {
        let networks = Networks::parse(&[network.to_owned()]).unwrap();
        assert_eq!(networks.contain(address.parse().unwrap()), expected, "{address} in {network}");
    }

    #[test]
    fn networks_are_matched_by_their_bits() {
        check("192.0.2.0/25", "192.0.2.127", true);
        check("192.0.2.0/25", "192.0.2.128", false);
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("0.0.0.0/0", "203.0.113.1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("192.0.2.0/24", "::ffff:192.0.2.1", true);
    }

    #[test]
    fn what_is_no_network() {
        for wrong in ["192.0.2.0/33", "x", "192.0.2.0/", "2001:db8::/129"] {
            assert_eq!(Networks::parse(&[wrong.to_owned()]), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn printed_without_the_bits_that_do_not_count() {
        for (text, printed) in
            [("192.0.2.77/24", "192.0.2.0/24"), ("::1", "::1/128"), ("10.1.2.3/0", "0.0.0.0/0")]
        {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn shared_bits_are_those_before_the_first_difference() {
        let prefix: Prefix = "192.0.2.0/24".parse().unwrap();
        assert_eq!(prefix.shared_bits("192.0.3.0".parse().unwrap()), Some(23));
        assert_eq!(prefix.shared_bits("192.0.2.0".parse().unwrap()), Some(32));
        assert_eq!(prefix.shared_bits("::1".parse().unwrap()), None);
    }
}
