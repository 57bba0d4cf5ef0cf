//! The client's side of a case: raw bytes on a fresh connection, and whatever comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::case::Case;
use super::http1::{self, Kind, Message};

/// For everything; the subjects' own deadlines are two seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is sent after an answer goes out after this time, if there is none.
const THEN: Duration = Duration::from_millis(500);

/// What a client saw.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) informational: Vec<u16>,
    /// Those with a body, in order; the last may be cut.
    pub(super) answers: Vec<Message>,
    /// What followed a switch of protocols.
    pub(super) tunnel: Vec<u8>,
    /// How HTTP/2 ended without an answer: `reset` or `goaway`.
    pub(super) ended_by: Option<&'static str>,
    /// The connection was ended by the other side.
    pub(super) closed: bool,
}

/// Sends what the case says and reads until it is over: so many answers and then silence, or the end.
pub(super) async fn exchange(case: &Case, address: SocketAddr, quiet: Duration) -> Result<Exchange> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let (mut from, mut to) = stream.into_split();
    let to_head = case.send.starts_with(b"HEAD ");
    let (mut bytes, started) = (Vec::new(), Instant::now());
    // Whoever refuses early does not read on: an error here is no error.
    let _ = to.write_all(&case.send).await;
    let mut left = case.then.as_deref();
    if left.is_none() && case.end {
        let _ = to.shutdown().await;
    }
    let mut closed = false;
    while !closed && started.elapsed() < PATIENCE {
        let now = read(&bytes, to_head, false);
        let whole = now.answers.iter().filter(|answer| answer.whole).count();
        let over = whole >= case.answers || now.informational.contains(&101);
        let wait = match (over, left) {
            (true, None) => quiet,
            (_, Some(_)) => THEN,
            _ => PATIENCE.saturating_sub(started.elapsed()),
        };
        match timeout(wait, from.read_buf(&mut bytes)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => closed = true,
            Err(_) if over && left.is_none() => break,
            Err(_) => {}
        }
        if let Some(then) = left.take() {
            let _ = to.write_all(then).await;
            if case.end {
                let _ = to.shutdown().await;
            }
        }
    }
    Ok(Exchange { closed, ..read(&bytes, to_head, closed) })
}

/// Everything in the bytes so far.
fn read(mut bytes: &[u8], to_head: bool, ended: bool) -> Exchange {
    let mut exchange = Exchange::default();
    while let Some((message, used)) = http1::read(bytes, Kind::Answer { to_head, ended }) {
        bytes = &bytes[used..];
        match message.status() {
            101 => {
                exchange.informational.push(101);
                exchange.answers.push(message);
                exchange.tunnel = bytes.to_vec();
                break;
            }
            status @ 100..200 => exchange.informational.push(status),
            _ => {
                let whole = message.whole;
                exchange.answers.push(message);
                if !whole {
                    break;
                }
            }
        }
    }
    exchange
}
