//! Against PostgreSQL's frontend protocol: the start, the cancel and the password.

use super::{Action, Kind, Payload, Then, valid};

/// A packet of the start: length, code, fields.
pub(super) fn startup(code: u32, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 8).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &code.to_be_bytes(), fields].concat()
}

pub(super) fn payloads() -> Vec<Payload> {
    const PROTOCOL: u32 = 0x0003_0000;
    let good = valid(Kind::Postgres);
    let after = |message: &[u8]| [&good, message].concat();
    let hold = |name: &str, bytes: Vec<u8>| Payload::new(name, Action::Send(bytes, Then::Hold));
    let user = |user: &[u8]| startup(PROTOCOL, &[b"user\0", user, b"\0\0"].concat());
    let sasl = |body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        after(&[b"p", &length.to_be_bytes()[..], body].concat())
    };
    let parameters: Vec<u8> =
        (0..2000).flat_map(|number| format!("key{number}\0value\0").into_bytes()).collect();
    vec![
        Payload::send("a start of length 0", [0; 8]),
        Payload::send("a start of length 4", 4_u32.to_be_bytes()),
        Payload::send("a start of negative length", [&(-1_i32).to_be_bytes()[..], b"\0\x03\0\0"].concat()),
        hold("a start of huge length", b"\x7f\xff\xff\xff\0\x03\0\0user\0".to_vec()),
        hold("a start longer than it is", b"\0\0\x10\0\0\x03\0\0user\0".to_vec()),
        Payload::send("protocol 9.9", startup(0x0009_0009, b"user\0app\0\0")),
        Payload::send("protocol 2.0", startup(0x0002_0000, &[0; 288])),
        Payload::send("no user", startup(PROTOCOL, b"\0")),
        Payload::send("a user without a value", startup(PROTOCOL, b"user\0")),
        Payload::send("parameters without an end", startup(PROTOCOL, b"user\0app\0database\0fitness")),
        Payload::send("a user of 64 KiB", user(&vec![b'u'; 64 * 1024])),
        Payload::send("a user that is no text", user(b"\xff\xfe\x80")),
        Payload::send("a user nobody knows", user(b"nobody'; drop table users; --")),
        Payload::send(
            "two thousand parameters",
            startup(PROTOCOL, &[&b"user\0app\0"[..], &parameters, b"\0"].concat()),
        ),
        Payload::send("a thousand requests for TLS", startup(80_877_103, b"").repeat(1000)),
        Payload::send("TLS asked for, then plain text", [startup(80_877_103, b""), good.clone()].concat()),
        Payload::send(
            "GSS asked for, then TLS",
            [startup(80_877_104, b""), startup(80_877_103, b"")].concat(),
        ),
        Payload::send("a cancel of nobody", startup(80_877_102, &[0xaa; 8])),
        Payload::send("a cancel without a key", startup(80_877_102, b"")),
        Payload::send("a cancel of 200 bytes", startup(80_877_102, &[1; 200])),
        Payload::send("a query before the start", b"Q\0\0\0\x0dSELECT 1\0"),
        Payload::send("a query before the password", after(b"Q\0\0\0\x0dSELECT 1\0")),
        Payload::send("an unknown message", after(b"~\0\0\0\x04")),
        Payload::send("a message of length 0", after(b"p\0\0\0\0")),
        Payload::send("a message of negative length", after(b"p\xff\xff\xff\xff")),
        hold("a message of huge length", after(b"p\x7f\xff\xff\xffSCRAM")),
        Payload::send("a farewell at once", after(b"X\0\0\0\x04")),
        Payload::send("an unknown mechanism", sasl(b"SCRAM-MD5\0\0\0\0\x01n")),
        Payload::send("a mechanism without an end", sasl(b"SCRAM-SHA-256")),
        Payload::send("a first message of -2 bytes", sasl(b"SCRAM-SHA-256\0\xff\xff\xff\xfe")),
        Payload::send("a first message longer than it is", sasl(b"SCRAM-SHA-256\0\0\0\xff\xffn,,n=,r=x")),
        Payload::send("a first message without a nonce", sasl(b"SCRAM-SHA-256\0\0\0\0\x05n,,n=")),
        Payload::send(
            "a nonce of 64 KiB",
            sasl(&[&b"SCRAM-SHA-256\0\0\x01\0\x08n,,n=,r="[..], &vec![b'r'; 64 * 1024]].concat()),
        ),
        Payload::send("a password in clear", sasl(b"secret\0")),
    ]
}
