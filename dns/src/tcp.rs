//! DNS over TCP (RFC 7766): a length before each message, many queries on one connection, answered in the order they
//! came. One task owns a connection; it does not read while it writes, so a client that does not take its answers holds
//! up only itself, and its buffers are bounded by the longest query and one answer.

use crate::answer::{Transport, Verdict, answer};
use crate::clients::{Clients, Permit};
use crate::config::TcpLimits;
use crate::metrics::{Closed, Metrics};
use crate::udp::Service;
use service_kit::{Shutdown, Tasks};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

/// Octets of answers gathered before they are written: one system call for a burst of queries.
const FLUSH_BYTES: usize = 16_384;
/// Room for each read: a handful of queries.
const READ_BYTES: usize = 512;
/// Octets of the length before each message.
const LENGTH_BYTES: usize = 2;

/// What the listeners of all addresses share.
#[derive(Debug, Clone)]
pub struct Listeners {
    pub service: Service,
    pub clients: Arc<Clients>,
    pub limits: Arc<TcpLimits>,
    pub tasks: Tasks,
    pub shutdown: Shutdown,
}

/// Accepts until told to stop. Connections over a limit are closed at once, which tells a resolver to go elsewhere.
pub async fn accept(listener: TcpListener, shared: Listeners) {
    let Listeners { service, clients, limits, tasks, shutdown } = shared;
    let stopping = shutdown.stopping();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            accepted = service_kit::net::accept(&listener) => accepted,
        };
        match Clients::admit(&clients, peer.ip()) {
            Ok(permit) => {
                let connection = Connection {
                    stream,
                    client: peer.ip(),
                    service: service.clone(),
                    limits: limits.clone(),
                    shutdown: shutdown.clone(),
                };
                tasks.spawn("tcp-connection", connection.run(peer, permit));
            }
            Err(reason) => service.metrics.closed(reason),
        }
    }
}

struct Connection {
    stream: TcpStream,
    client: IpAddr,
    service: Service,
    limits: Arc<TcpLimits>,
    shutdown: Shutdown,
}

impl Connection {
    async fn run(mut self, peer: SocketAddr, permit: Permit) {
        let open = OpenConnection::new(&self.service.metrics);
        let aborted = self.shutdown.aborted();
        let reason = tokio::select! {
            reason = self.serve() => reason,
            () = aborted.cancelled() => Closed::Stopping,
        };
        tracing::debug!(%peer, ?reason, "connection ended");
        open.metrics.closed(reason);
        drop(permit);
    }

    /// Serves until something ends the connection; says what did.
    async fn serve(&mut self) -> Closed {
        let stopping = self.shutdown.stopping();
        let mut input: Vec<u8> = Vec::new();
        let mut output: Vec<u8> = Vec::new();
        let mut random = fastrand::Rng::new();
        loop {
            let deadline = Instant::now() + self.limits.idle_timeout;
            // Ends with a complete query at the front of the input, or for good.
            while complete(&input).is_none() {
                // A refused length is refused before its octets are waited for.
                if wanted(&input).is_some_and(|bytes| bytes > self.limits.query_bytes_max) {
                    return Closed::Malformed;
                }
                let between_queries = input.is_empty();
                input.reserve(READ_BYTES);
                let read = timeout_at(deadline, self.stream.read_buf(&mut input));
                let read = tokio::select! {
                    biased;
                    read = read => read,
                    () = stopping.cancelled(), if between_queries => return Closed::Stopping,
                };
                match read {
                    Err(_) => return Closed::Idle,
                    Ok(Err(_)) => return Closed::Broken,
                    Ok(Ok(0)) if input.is_empty() => return Closed::Client,
                    Ok(Ok(0)) => return Closed::Malformed,
                    Ok(Ok(_)) => {}
                }
            }
            if let Err(reason) = self.answer_all(&mut input, &mut output, &mut random).await {
                return reason;
            }
        }
    }

    /// Answers every complete query of the input and leaves the rest there.
    async fn answer_all(
        &mut self,
        input: &mut Vec<u8>,
        output: &mut Vec<u8>,
        random: &mut fastrand::Rng,
    ) -> Result<(), Closed> {
        let mut at = 0;
        let mut end = Ok(());
        while let Some(bytes) = complete(&input[at..]) {
            let start = at + LENGTH_BYTES;
            at = start + bytes;
            // Whoever sends what is no query gets the answers to what was one, and then the end.
            let answered =
                bytes <= self.limits.query_bytes_max && self.one(&input[start..at], output, random);
            if !answered {
                end = Err(Closed::Malformed);
                break;
            }
            if output.len() >= FLUSH_BYTES {
                self.flush(output).await?;
            }
        }
        input.drain(..at);
        self.flush(output).await?;
        end
    }

    /// Appends the answer to one query with its length; says whether there was one.
    fn one(&self, query: &[u8], output: &mut Vec<u8>, random: &mut fastrand::Rng) -> bool {
        let Service { zones, metrics, .. } = &self.service;
        let terms = self.service.terms(Transport::Tcp, self.client);
        let length_at = output.len();
        output.extend_from_slice(&[0; LENGTH_BYTES]);
        let verdict = answer(query, &zones.load(), terms, &mut |bound| random.usize(..bound), output);
        metrics.verdict(Transport::Tcp, verdict);
        match verdict {
            Verdict::Ignored(_) | Verdict::Limited => {
                output.truncate(length_at);
                false
            }
            Verdict::Answered { .. } => {
                let bytes = output.len() - length_at - LENGTH_BYTES;
                let bytes = u16::try_from(bytes).expect("answers over TCP are limited to 65535 octets");
                output[length_at..length_at + LENGTH_BYTES].copy_from_slice(&bytes.to_be_bytes());
                true
            }
        }
    }

    async fn flush(&mut self, output: &mut Vec<u8>) -> Result<(), Closed> {
        let written = timeout(self.limits.write_timeout, self.stream.write_all(output)).await;
        output.clear();
        // A large answer is rare; its room is not kept for the life of a connection.
        output.shrink_to(FLUSH_BYTES);
        match written {
            Err(_) => Err(Closed::SlowReader),
            Ok(Err(_)) => Err(Closed::Broken),
            Ok(Ok(())) => Ok(()),
        }
    }
}

/// The length that the input starts with.
fn wanted(input: &[u8]) -> Option<usize> {
    input.first_chunk::<LENGTH_BYTES>().map(|length| usize::from(u16::from_be_bytes(*length)))
}

/// The length of the message at the front of the input, when all of it is there.
fn complete(input: &[u8]) -> Option<usize> {
    wanted(input).filter(|bytes| input.len() >= LENGTH_BYTES + bytes)
}

/// Keeps the gauge of open connections right on every path.
struct OpenConnection {
    metrics: Metrics,
}

impl OpenConnection {
    fn new(metrics: &Metrics) -> OpenConnection {
        metrics.tcp_connections.inc();
        OpenConnection { metrics: metrics.clone() }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.tcp_connections.dec();
    }
}
