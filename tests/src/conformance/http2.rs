//! One HTTP/2 request made by hand, because no library sends what these cases need. Every field is a literal without
//! Huffman code (RFC 7541, 6.2.2); of what comes back only the status, the length and how it ended are read.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::case::Case;
use super::exchange::Exchange;
use super::http1::Message;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(10);
/// Types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub(super) async fn exchange(
    case: &Case,
    fields: &[(Vec<u8>, Vec<u8>)],
    address: SocketAddr,
    quiet: Duration,
) -> Result<Exchange> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    let mut bytes = PREFACE.to_vec();
    put(&mut bytes, SETTINGS, 0, 0, &[]);
    let end = if case.has_data { 0 } else { END_STREAM };
    put(&mut bytes, HEADERS, END_HEADERS | end, 1, &block(fields));
    if case.has_data {
        put(&mut bytes, DATA, END_STREAM, 1, &case.send);
    }
    let _ = stream.write_all(&bytes).await;
    let (mut exchange, mut got, started) = (Exchange::default(), Vec::new(), Instant::now());
    loop {
        while let Some((kind, flags, payload)) = take(&mut got) {
            note(&mut exchange, kind, flags, &payload);
            if kind == SETTINGS && flags & ACK == 0 {
                let mut ack = Vec::new();
                put(&mut ack, SETTINGS, ACK, 0, &[]);
                let _ = stream.write_all(&ack).await;
            }
        }
        let over = exchange.ended_by.is_some() || exchange.answers.iter().any(|answer| answer.whole);
        let wait = if over { quiet } else { PATIENCE.saturating_sub(started.elapsed()) };
        match timeout(wait, stream.read_buf(&mut got)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => {
                exchange.closed = true;
                return Ok(exchange);
            }
            Err(_) => return Ok(exchange),
        }
    }
}

fn put(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames of cases are short");
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("texts of cases are shorter than 127 bytes"));
            block.extend_from_slice(text);
        }
    }
    block
}

/// Takes one whole frame off the front: type, flags, payload.
fn take(bytes: &mut Vec<u8>) -> Option<(u8, u8, Vec<u8>)> {
    let head: [u8; 9] = bytes.get(..9)?.try_into().ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = bytes.get(9..9 + length)?.to_vec();
    bytes.drain(..9 + length);
    Some((head[3], head[4], payload))
}

fn note(exchange: &mut Exchange, kind: u8, flags: u8, payload: &[u8]) {
    match kind {
        HEADERS => match status(payload) {
            Some(status @ 100..200) => exchange.informational.push(status),
            Some(status) => {
                let line = format!("HTTP/2 {status}");
                exchange.answers.push(Message { line, ..Message::default() });
            }
            // Trailers.
            None => {}
        },
        DATA => {
            if let Some(answer) = exchange.answers.last_mut() {
                answer.body.extend_from_slice(payload);
            }
        }
        RST_STREAM => exchange.ended_by = Some("reset"),
        GOAWAY => exchange.ended_by = exchange.ended_by.or(Some("goaway")),
        _ => {}
    }
    if matches!(kind, HEADERS | DATA)
        && flags & END_STREAM != 0
        && let Some(answer) = exchange.answers.last_mut()
    {
        answer.whole = true;
    }
}

/// `:status`, which comes first: an entry of the static table, or a literal under its name (RFC 7541, 6.1 and 6.2).
fn status(block: &[u8]) -> Option<u16> {
    let block = &block[block.iter().position(|byte| byte >> 5 != 0b001)?..];
    let (first, rest) = block.split_first()?;
    match first {
        0x88..=0x8e => Some([200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)]),
        0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => {
            let (length, rest) = rest.split_first()?;
            let value = rest.get(..usize::from(length & 0x7f))?;
            let digits = if length & 0x80 == 0 { super::http1::text(value) } else { huffman_digits(value)? };
            digits.parse().ok()
        }
        _ => None,
    }
}

/// Digits in Huffman code (RFC 7541, B): 0, 1 and 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Option<String> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u8, |number, bit| number << 1 | bit);
    let (mut digits, mut at) = (String::new(), 0);
    while let Some(five) = bits.get(at..at + 5) {
        let (digit, length) = match number(five) {
            short @ 0..=2 => (short, 5),
            // What is left of the last byte is ones.
            31 => break,
            _ => (number(bits.get(at..at + 6)?).checked_sub(0b01_1001)? + 3, 6),
        };
        digits.push(char::from(b'0' + digit));
        at += length;
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_form() {
        for (block, expected) in [
            (&[0x88_u8][..], Some(200)),
            (&[0x8c], Some(400)),
            (&[0x20, 0x8d], Some(404)),
            (b"\x48\x03502", Some(502)),
            (b"\x08\x03431", Some(431)),
            // 405: 011010 00000 011011, then ones.
            (&[0x48, 0x83, 0b0110_1000, 0b0000_1101, 0b1111_1111], Some(405)),
            (b"\x00\x01x\x01y", None),
        ] {
            assert_eq!(status(block), expected, "{block:x?}");
        }
    }
}
