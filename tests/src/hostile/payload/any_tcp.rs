//! What any TCP listener must survive.

use super::{Action, MIB, Payload, Then};

/// Silence, noise, other protocols, and `valid` cut and changed at every byte.
pub(super) fn payloads(valid: &[u8], seed: u64) -> Vec<Payload> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut noise = |length: usize| -> Vec<u8> { (0..length).map(|_| random.u8(..)).collect() };
    let then = |name: &str, bytes: &[u8], then: Then| Payload::new(name, Action::Send(bytes.to_vec(), then));
    let mut all = vec![
        then("connect and close", b"", Then::Close),
        then("connect and reset", b"", Then::Reset),
        then("connect and stay silent", b"", Then::Hold),
        then("connect and half-close", b"", Then::HalfClose),
        Payload::new("a hundred silent connections", Action::Crowd),
        Payload::send("1 MiB of noise", noise(MIB)),
        Payload::send("1 KiB of noise", noise(1024)),
        then("noise, then silence", &noise(64), Then::Hold),
        Payload::send("one zero byte", [0]),
        Payload::send("64 KiB of zeros", vec![0; 64 * 1024]),
        Payload::send("64 KiB of 0xff", vec![0xff; 64 * 1024]),
        Payload::send("64 KiB of line ends", b"\r\n".repeat(32 * 1024)),
        Payload::new("a valid message byte by byte", Action::Drip(valid.to_vec())),
        then("a valid message, then a reset", valid, Then::Reset),
        then("a valid message, then a half-close", valid, Then::HalfClose),
        then("a valid message, the answer never read", valid, Then::Hold),
        Payload::send("a valid message, then noise", [valid, &noise(4096)].concat()),
        then("a thousand valid messages, no answer read", &valid.repeat(1000), Then::Reset),
        then("half a message, then silence", &valid[..valid.len() / 2], Then::Hold),
        Payload::send("a TLS client hello", TLS_CLIENT_HELLO),
        Payload::send("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        Payload::send("another protocol's greeting", b"SSH-2.0-OpenSSH_9.2\r\n"),
        Payload::send("a PROXY protocol line", b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 -1\r\n"),
    ];
    for length in 0..valid.len() {
        all.push(Payload::send(&format!("a valid message cut at byte {length}"), &valid[..length]));
    }
    for place in 0..valid.len() {
        let mut bytes = valid.to_vec();
        bytes[place] ^= noise(1)[0] | 1;
        all.push(Payload::send(&format!("a valid message with byte {place} changed"), bytes));
    }
    all
}

/// A record that announces more than it brings.
const TLS_CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x2a\x2a\x2a\x2a";
