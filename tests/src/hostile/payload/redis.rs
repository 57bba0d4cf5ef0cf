//! Against RESP.

use super::{Action, Payload, Then};

pub(super) fn payloads() -> Vec<Payload> {
    let hold = |name: &str, bytes: &[u8]| Payload::new(name, Action::Send(bytes.to_vec(), Then::Hold));
    vec![
        Payload::send("an array of length -1", b"*-1\r\n"),
        Payload::send("an array of length -2147483649", b"*-2147483649\r\n"),
        Payload::send("an array of length 0", b"*0\r\n"),
        hold("an array of a billion", b"*1000000000\r\n$4\r\nPING\r\n"),
        Payload::send("an array beyond 64 bits", b"*99999999999999999999\r\n"),
        Payload::send("an array of no number", b"*x\r\n"),
        Payload::send("an array in an array", b"*1\r\n*1\r\n$4\r\nPING\r\n"),
        Payload::send("ten thousand nested arrays", b"*1\r\n".repeat(10_000)),
        Payload::send("a string of length -5", b"*1\r\n$-5\r\nPING\r\n"),
        hold("a string of half a gigabyte", b"*1\r\n$536870911\r\nPING"),
        Payload::send("a string beyond its limit", b"*1\r\n$9999999999\r\nPING\r\n"),
        Payload::send("a string beyond 64 bits", b"*1\r\n$99999999999999999999\r\n"),
        Payload::send("a string shorter than it says", b"*1\r\n$3\r\nPING\r\n"),
        Payload::send("a string without its end", b"*1\r\n$4\r\nPINGxx"),
        hold("a string that stops", b"*2\r\n$4\r\nECHO\r\n$100\r\nabc"),
        Payload::send("an integer instead of a command", b":1000\r\n"),
        Payload::send("an error instead of a command", b"-ERR no\r\n"),
        Payload::send("a map instead of a command", b"%1\r\n+a\r\n+b\r\n"),
        Payload::send("an inline command of 64 KiB", vec![b'a'; 64 * 1024]),
        Payload::send("an inline command with open quotes", b"ECHO \"abc\r\n"),
        Payload::send("an unknown command", b"*1\r\n$7\r\nNOTHING\r\n"),
        Payload::send("a command with a NUL", b"*1\r\n$4\r\nPI\0G\r\n"),
        Payload::send(
            "a command name of 64 KiB",
            [&b"*1\r\n$65536\r\n"[..], &vec![b'c'; 65_536], b"\r\n"].concat(),
        ),
        Payload::send(
            "a password of 64 KiB",
            [&b"*2\r\n$4\r\nAUTH\r\n$65536\r\n"[..], &vec![b'p'; 65_536], b"\r\n"].concat(),
        ),
        Payload::send("a protocol of 99", b"*2\r\n$5\r\nHELLO\r\n$2\r\n99\r\n"),
        Payload::send(
            "too many arguments",
            [&b"*1001\r\n$4\r\nPING\r\n"[..], &b"$1\r\na\r\n".repeat(1000)].concat(),
        ),
        Payload::send("line feeds alone", b"PING\nPING\n"),
    ]
}
