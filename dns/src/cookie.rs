//! DNS cookies (RFC 7873) with server cookies that servers of all makers understand (RFC 9018): who returns one has been
//! where it says it is. Servers that share a secret take each other's cookies, as behind one anycast address.

use siphasher::sip::SipHasher24;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::path::Path;

/// Octets of a client's part.
pub const CLIENT_BYTES: usize = 8;
/// Octets of a server's part as RFC 9018 has it: version, three reserved, time, hash.
pub const SERVER_BYTES: usize = 16;
/// A cookie older than this is not taken (RFC 9018 section 4.3).
const AGE_MAX_S: u32 = 3_600;
/// One older than this is taken and replaced.
const AGE_RENEWED_S: u32 = 1_800;
/// How far ahead the clock of a server that shares our secret may be.
const AHEAD_MAX_S: u32 = 300;

/// The secrets: the first makes new cookies, all are taken.
#[derive(Clone)]
pub struct Ring {
    secrets: Vec<[u8; 16]>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} secrets)", self.secrets.len())
    }
}

/// What a query's cookie is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The client's part alone, or with a server's part that is not ours.
    New,
    /// Our own, in time.
    Proved,
}

impl Ring {
    /// A secret of our own: no other server takes our cookies.
    pub fn random(secret: [u8; 16]) -> Ring {
        Ring { secrets: vec![secret] }
    }

    /// Reads secrets, one a line in 32 hexadecimal digits, as BIND and NSD write them. The error shows no secret.
    pub fn from_text(text: &str) -> Result<Ring, String> {
        let mut secrets = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let octets = data_encoding::HEXLOWER_PERMISSIVE.decode(line.as_bytes()).ok();
            let secret = octets.and_then(|octets| <[u8; 16]>::try_from(octets).ok());
            secrets.push(secret.ok_or_else(|| format!("line {} is not 32 hexadecimal digits", at + 1))?);
        }
        if secrets.is_empty() { Err("it has no secret".into()) } else { Ok(Ring { secrets }) }
    }

    pub fn load(path: &Path) -> Result<Ring, String> {
        Ring::from_text(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
    }

    /// Judges the server's part of a query's cookie, and gives the one to answer with.
    pub fn judge(
        &self,
        client: [u8; CLIENT_BYTES],
        server: &[u8],
        address: IpAddr,
        now_s: u32,
    ) -> (Standing, [u8; SERVER_BYTES]) {
        let fresh = || self.make(client, address, now_s);
        let Ok(server) = <[u8; SERVER_BYTES]>::try_from(server) else { return (Standing::New, fresh()) };
        let head: [u8; 8] = server[..8].try_into().unwrap_or_default();
        let made_s = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        // Serial number arithmetic (RFC 1982): the clock goes round in 2106.
        let age_s = now_s.wrapping_sub(made_s);
        let ahead = age_s > u32::MAX / 2;
        let in_time = if ahead { made_s.wrapping_sub(now_s) <= AHEAD_MAX_S } else { age_s <= AGE_MAX_S };
        let known = self.secrets.iter().position(|secret| hash(secret, client, head, address) == server[8..]);
        match known.filter(|_| in_time && head[0] == 1) {
            None => (Standing::New, fresh()),
            Some(0) if ahead || age_s <= AGE_RENEWED_S => (Standing::Proved, server),
            Some(_) => (Standing::Proved, fresh()),
        }
    }

    fn make(&self, client: [u8; CLIENT_BYTES], address: IpAddr, now_s: u32) -> [u8; SERVER_BYTES] {
        let mut head = [1, 0, 0, 0, 0, 0, 0, 0];
        head[4..].copy_from_slice(&now_s.to_be_bytes());
        let mut cookie = [0; SERVER_BYTES];
        cookie[..8].copy_from_slice(&head);
        cookie[8..].copy_from_slice(&hash(&self.secrets[0], client, head, address));
        cookie
    }
}

/// RFC 9018 section 4.4: SipHash-2-4 over the client's part, the first half of the server's, and the client's address.
fn hash(secret: &[u8; 16], client: [u8; CLIENT_BYTES], head: [u8; 8], address: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&client);
    hasher.write(&head);
    match address.to_canonical() {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const CLIENT: &str = "2464c4abcf10c957";

    /// A cookie of `client`, whole, judged `at`; says what it is worth and what it is answered with.
    #[track_caller]
    fn check(secrets: &str, cookie: &str, address: &str, at: u32, expected: (Standing, &str)) {
        let octets = HEXLOWER.decode(cookie.as_bytes()).unwrap();
        let (client, server) = octets.split_first_chunk().unwrap();
        let ring = Ring::from_text(secrets).unwrap();
        let (standing, answered) = ring.judge(*client, server, address.parse().unwrap(), at);
        assert_eq!((standing, HEXLOWER.encode(&answered).as_str()), expected);
    }

    #[test]
    fn the_vectors_of_rfc_9018_appendix_a() {
        check(
            SECRET,
            CLIENT,
            "198.51.100.100",
            1_559_731_985,
            (Standing::New, "010000005cf79f111f8130c3eee29480"),
        );
        let old = "fc93fc62807ddb86010000005cf79f111f8130c3eee29480";
        check(
            SECRET,
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            "198.51.100.100",
            1_559_734_385,
            (Standing::Proved, "010000005cf7a871d4a564a1442aca77"),
        );
        // A client's part of another is not taken.
        let (standing, _) = Ring::from_text(SECRET).unwrap().judge(
            HEXLOWER.decode(&old.as_bytes()[..16]).unwrap().try_into().unwrap(),
            &HEXLOWER.decode(&old.as_bytes()[16..]).unwrap(),
            "198.51.100.100".parse().unwrap(),
            1_559_731_985,
        );
        assert_eq!(standing, Standing::New);
    }

    #[test]
    fn time_place_and_secret_count() {
        const MADE_S: u32 = 1_559_731_985;
        const COOKIE: &str = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        let other = "00000000000000000000000000000001";
        for (secrets, address, at, expected) in [
            (SECRET.to_string(), "198.51.100.100", MADE_S, Standing::Proved),
            (SECRET.to_string(), "::ffff:198.51.100.100", MADE_S, Standing::Proved),
            (SECRET.to_string(), "198.51.100.101", MADE_S, Standing::New),
            (SECRET.to_string(), "198.51.100.100", MADE_S + 3_600, Standing::Proved),
            (SECRET.to_string(), "198.51.100.100", MADE_S + 3_601, Standing::New),
            (SECRET.to_string(), "198.51.100.100", MADE_S - 300, Standing::Proved),
            (SECRET.to_string(), "198.51.100.100", MADE_S - 301, Standing::New),
            (other.to_string(), "198.51.100.100", MADE_S, Standing::New),
            (format!("# new\n{other}\n{SECRET}\n"), "198.51.100.100", MADE_S, Standing::Proved),
        ] {
            let octets = HEXLOWER.decode(COOKIE.as_bytes()).unwrap();
            let (client, server) = octets.split_first_chunk().unwrap();
            let ring = Ring::from_text(&secrets).unwrap();
            let (standing, answered) = ring.judge(*client, server, address.parse().unwrap(), at);
            assert_eq!(standing, expected, "{secrets} {address} {at}");
            // What is given is taken.
            let again = ring.judge(*client, &answered, address.parse().unwrap(), at);
            assert_eq!(again.0, Standing::Proved);
        }
    }

    #[test]
    fn secrets_are_whole_and_never_shown() {
        assert_eq!(Ring::from_text("# nothing\n").unwrap_err(), "it has no secret");
        let error = Ring::from_text("\nabcdef\n").unwrap_err();
        assert_eq!(error, "line 2 is not 32 hexadecimal digits");
        assert_eq!(format!("{:?}", Ring::from_text(SECRET).unwrap()), "Ring(1 secrets)");
    }
}
