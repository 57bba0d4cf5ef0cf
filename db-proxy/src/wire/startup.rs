//! The first packet of a connection: it has no tag, and it comes from anyone.

use std::collections::BTreeMap;

use thiserror::Error;

/// As in Postgres (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// The names under which a client knows its connection when it cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// The "process id" that the proxy made up.
    pub process_id: i32,
    /// The secret beside it.
    pub secret: i32,
}

/// A parsed first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// The client asks for TLS.
    Ssl,
    /// The client asks for GSSAPI encryption.
    GssEncryption,
    /// Another connection's query shall stop.
    Cancel(CancelKey),
    /// A session begins.
    Startup(Startup),
}

/// What a client says about its session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Startup {
    /// Minor protocol version asked for; the proxy speaks 0.
    pub minor: u16,
    /// The role to log in as.
    pub user: String,
    /// The database; defaults to the user's name.
    pub database: String,
    /// Run-time parameters, among them those that came inside `options`.
    pub parameters: BTreeMap<String, String>,
    /// `_pq_.` options, none of which the proxy knows.
    pub unknown_options: Vec<String>,
}

/// Why a first packet was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadStartup {
    /// The length cannot be true.
    #[error("the startup packet says that it is {0} bytes long; 8 to {STARTUP_BYTES_MAX} are accepted")]
    Length(u32),
    /// Not version 3.
    #[error("protocol version {major}.{minor} is not spoken here; use version 3")]
    Version {
        /// Asked for.
        major: u16,
        /// Asked for.
        minor: u16,
    },
    /// Text that does not follow the format.
    #[error("the startup packet is malformed: {0}")]
    Malformed(&'static str),
    /// Logical or physical replication.
    #[error("replication connections do not go through the proxy; connect to the Postgres node itself")]
    Replication,
}

/// How long the packet is, once its first four bytes are here.
pub fn packet_bytes(bytes: &[u8]) -> Result<Option<usize>, BadStartup> {
    let Some((&length, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(length);
    if length < 8 || length as usize > STARTUP_BYTES_MAX {
        return Err(BadStartup::Length(length));
    }
    Ok(Some(length as usize))
}

/// Parses one whole packet, its length included.
pub fn parse(packet: &[u8]) -> Result<First, BadStartup> {
    let word = |at: usize| -> Option<u32> {
        packet.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes)
    };
    let code = word(4).ok_or(BadStartup::Malformed("no version"))?;
    match code {
        SSL_REQUEST if packet.len() == 8 => Ok(First::Ssl),
        GSSENC_REQUEST if packet.len() == 8 => Ok(First::GssEncryption),
        CANCEL_REQUEST if packet.len() == 16 => {
            let key = |at| word(at).map_or(0, u32::cast_signed);
            Ok(First::Cancel(CancelKey { process_id: key(8), secret: key(12) }))
        }
        SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST => {
            Err(BadStartup::Malformed("a request of wrong length"))
        }
        version => {
            let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
            if major != 3 {
                return Err(BadStartup::Version { major, minor });
            }
            parameters(&packet[8..], minor).map(First::Startup)
        }
    }
}

fn parameters(mut rest: &[u8], minor: u16) -> Result<Startup, BadStartup> {
    let mut startup = Startup { minor, ..Startup::default() };
    let mut options = String::new();
    loop {
        let (name, value);
        (name, rest) = text(rest)?;
        if name.is_empty() {
            if !rest.is_empty() {
                return Err(BadStartup::Malformed("bytes after the last parameter"));
            }
            break;
        }
        (value, rest) = text(rest)?;
        match name {
            "user" => startup.user = value.to_owned(),
            "database" => startup.database = value.to_owned(),
            "options" => options = value.to_owned(),
            "replication" if !matches!(value, "false" | "off" | "no" | "0") => {
                return Err(BadStartup::Replication);
            }
            "replication" => {}
            _ if name.starts_with("_pq_.") => startup.unknown_options.push(name.to_owned()),
            _ => drop(startup.parameters.insert(name.to_ascii_lowercase(), value.to_owned())),
        }
    }
    for (name, value) in command_line(&options)? {
        startup.parameters.entry(name).or_insert(value);
    }
    if startup.user.is_empty() {
        return Err(BadStartup::Malformed("no user name"));
    }
    if startup.database.is_empty() {
        startup.database.clone_from(&startup.user);
    }
    Ok(startup)
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), BadStartup> {
    let (text, rest) =
        super::frame::split_text(bytes).ok_or(BadStartup::Malformed("text without its end"))?;
    Ok((str::from_utf8(text).map_err(|_| BadStartup::Malformed("text is not UTF-8"))?, rest))
}

/// `-c name=value`, `-cname=value` and `--name=value`, with backslashes before spaces: what drivers put into `options`.
fn command_line(options: &str) -> Result<Vec<(String, String)>, BadStartup> {
    let mut settings = Vec::new();
    let mut words = split_words(options).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().unwrap_or_default()
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(BadStartup::Malformed("options may hold -c name=value and --name=value only"));
        };
        let (name, value) = setting.split_once('=').ok_or(BadStartup::Malformed("an option without '='"))?;
        settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.extend(characters.next()),
            space if space.is_ascii_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => word.push(other),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = (body.len() as u32 + 8).to_be_bytes().to_vec();
        packet.extend(version.to_be_bytes());
        packet.extend(body);
        packet
    }

    #[track_caller]
    fn check(version: u32, body: &[u8], expected: &str) {
        let packet = packet(version, body);
        assert_eq!(packet_bytes(&packet), Ok(Some(packet.len())));
        let got = match parse(&packet) {
            Ok(First::Startup(s)) => {
                format!("3.{} {}@{} {:?} {:?}", s.minor, s.user, s.database, s.parameters, s.unknown_options)
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("refused: {error}"),
        };
        assert!(got.starts_with(expected), "got {got}");
    }

    const V3: u32 = 3 << 16;

    #[test]
    fn requests_before_the_session() {
        check(SSL_REQUEST, b"", "Ssl");
        check(GSSENC_REQUEST, b"", "GssEncryption");
        check(
            CANCEL_REQUEST,
            b"\0\0\0\x07\xff\xff\xff\xff",
            "Cancel(CancelKey { process_id: 7, secret: -1 })",
        );
        check(CANCEL_REQUEST, b"\0\0\0\x07", "refused");
        check(SSL_REQUEST, b"more", "refused");
    }

    #[test]
    fn names_and_parameters() {
        check(V3, b"user\0app\0\0", "3.0 app@app {} []");
        check(V3 + 2, b"user\0app\0database\0d\0_pq_.x\0y\0\0", "3.2 app@d {} [\"_pq_.x\"]");
        check(V3, b"user\0a\0TimeZone\0UTC\0\0", "3.0 a@a {\"timezone\": \"UTC\"}");
        check(
            V3,
            b"user\0a\0options\0-c a=1 --b-c=x\\ y -cd=2\0\0",
            r#"3.0 a@a {"a": "1", "b_c": "x y", "d": "2"}"#,
        );
    }

    #[test]
    fn malformed_packets_are_refused() {
        check(V3, b"user\0app\0", "refused");
        check(V3, b"\0", "refused");
        check(V3, b"user\0app\0\0x", "refused");
        check(V3, b"user\0app", "refused");
        check(V3, b"user\0\xff\0\0", "refused");
        check(V3, b"user\0a\0options\0-x\0\0", "refused");
        check(V3, b"user\0a\0replication\0database\0\0", "refused: replication");
        check(2 << 16, b"user\0app\0\0", "refused: protocol version 2.0");
    }

    #[test]
    fn lengths_are_checked_first() {
        assert_eq!(packet_bytes(&[0, 0]), Ok(None));
        assert_eq!(packet_bytes(&[0, 0, 0, 7]), Err(BadStartup::Length(7)));
        assert_eq!(packet_bytes(&[0xff; 4]), Err(BadStartup::Length(u32::MAX)));
        assert!(packet_bytes(&10_001u32.to_be_bytes()).is_err());
    }
}
