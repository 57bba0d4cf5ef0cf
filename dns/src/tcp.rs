//! DNS over TCP (RFC 7766) and TLS (RFC 7858): a length before each message, many queries on one connection. They are answered as
//! they come; only a zone that is transferred takes its time, and what is asked meanwhile is answered between its messages.
//! One task owns a connection; it does not read while it writes, so a client that does not take its answers holds
//! up only itself, and its buffers are bounded by the longest query and one answer.

use crate::answer::{Transport, Verdict};
use crate::clients::{Clients, Permit};
use crate::config::{Https, TcpLimits};
use crate::exchange::Outcome;
use crate::https;
use crate::metrics::{Closed, Metrics, Path};
use crate::notify::now_s;
use crate::query_log::{Entry, Log};
use crate::tls::Secure;
use crate::transfer::Transfer;
use crate::tsig::Signer;
use crate::udp::Service;
use service_kit::{Shutdown, Tasks};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

/// Octets of answers gathered before they are written: one system call for a burst of queries.
const FLUSH_BYTES: usize = 16_384;
/// Room for each read: a handful of queries.
const READ_BYTES: usize = 512;
/// Octets of the length before each message.
const LENGTH_BYTES: usize = 2;
/// Transfers of one connection that have begun; one more is read when the first of them is over.
const TRANSFERS_MAX: usize = 16;

/// What the listeners of all addresses share.
#[derive(Debug, Clone)]
pub struct Listeners {
    pub service: Service,
    pub clients: Arc<Clients>,
    pub limits: Arc<TcpLimits>,
    pub tasks: Tasks,
    pub shutdown: Shutdown,
}

/// What the connections of one listener speak.
#[derive(Debug, Clone)]
pub enum Speaks {
    Tcp,
    Tls(Arc<Secure>),
    Https(Arc<Secure>, Arc<Https>),
}

impl Speaks {
    fn transport(&self) -> Transport {
        match self {
            Speaks::Tcp => Transport::Tcp,
            Speaks::Tls(_) => Transport::Tls,
            Speaks::Https(..) => Transport::Https,
        }
    }
}

/// Accepts until told to stop. Connections over a limit are closed at once, which tells a resolver to go elsewhere.
pub async fn accept(listener: TcpListener, speaks: Speaks, shared: Listeners) {
    let stopping = shared.shutdown.stopping();
    let via = speaks.transport();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            accepted = service_kit::net::accept(&listener) => accepted,
        };
        match Clients::admit(&shared.clients, peer.ip()) {
            Ok(permit) => {
                let opened = serve(stream, peer, permit, speaks.clone(), shared.clone());
                shared.tasks.spawn(format!("{}-connection", via.as_str()), opened);
            }
            Err(reason) => shared.service.metrics.closed(via, reason),
        }
    }
}

/// Serves one connection from its first octet to its end.
async fn serve(stream: TcpStream, peer: SocketAddr, permit: Permit, speaks: Speaks, shared: Listeners) {
    let via = speaks.transport();
    let open = OpenConnection::new(&shared.service.metrics, via);
    let aborted = shared.shutdown.aborted();
    let reason = tokio::select! {
        reason = speak(stream, peer.ip(), speaks, &shared) => reason,
        () = aborted.cancelled() => Closed::Stopping,
    };
    tracing::debug!(%peer, transport = via.as_str(), ?reason, "connection ended");
    open.metrics.closed(via, reason);
    drop(permit);
}

/// Says why it ended.
async fn speak(stream: TcpStream, client: IpAddr, speaks: Speaks, shared: &Listeners) -> Closed {
    let transport = speaks.transport();
    match speaks {
        Speaks::Tcp => Connection::new(stream, client, transport, shared).serve().await,
        Speaks::Tls(secure) => {
            let stream = match handshake(&secure, stream, shared).await {
                Ok(stream) => stream,
                Err(reason) => return reason,
            };
            let mut connection = Connection::new(stream, client, transport, shared);
            let reason = connection.serve().await;
            connection.goodbye().await;
            reason
        }
        Speaks::Https(secure, terms) => match handshake(&secure, stream, shared).await {
            Ok(stream) => https::serve(stream, client, &terms, shared).await,
            Err(reason) => reason,
        },
    }
}

/// No TLS is begun while stopping.
async fn handshake(
    secure: &Secure,
    stream: TcpStream,
    shared: &Listeners,
) -> Result<Box<tokio_rustls::server::TlsStream<TcpStream>>, Closed> {
    let stopping = shared.shutdown.stopping();
    tokio::select! {
        biased;
        accepted = secure.accept(stream) => accepted,
        () = stopping.cancelled() => Err(Closed::Stopping),
    }
}

struct Connection<S> {
    stream: S,
    client: IpAddr,
    transport: Transport,
    service: Service,
    limits: Arc<TcpLimits>,
    shutdown: Shutdown,
    log: Log,
    /// Whole zones on their way, one after the other, each with what signs its messages.
    transfers: VecDeque<(Transfer, Option<Signer>)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, client: IpAddr, transport: Transport, shared: &Listeners) -> Connection<S> {
        Connection {
            stream,
            client,
            transport,
            service: shared.service.clone(),
            limits: shared.limits.clone(),
            shutdown: shared.shutdown.clone(),
            log: shared.service.log.worker(),
            transfers: VecDeque::new(),
        }
    }

    /// Serves until something ends the connection; says what did.
    async fn serve(&mut self) -> Closed {
        let mut input: Vec<u8> = Vec::new();
        let mut output: Vec<u8> = Vec::new();
        let mut random = fastrand::Rng::new();
        loop {
            if let Err(reason) = self.wait_for_query(&mut input).await {
                return reason;
            }
            let mut end = self.answer_all(&mut input, &mut output, &mut random).await;
            // Who has nothing more to ask, or nothing that is a query, gets what was asked before.
            while !self.transfers.is_empty()
                && matches!(end, Ok(()) | Err(Closed::Client | Closed::Malformed))
            {
                end = match self.advance(&mut output).await {
                    Ok(()) if end.is_ok() => self.overtake(&mut input, &mut output, &mut random).await,
                    Ok(()) => end,
                    Err(reason) => Err(reason),
                };
            }
            if let Err(reason) = end {
                self.transfers.iter().for_each(|_| self.service.metrics.transferred(false));
                return reason;
            }
        }
    }

    /// Reads until there is a complete query at the front of the input.
    async fn wait_for_query(&mut self, input: &mut Vec<u8>) -> Result<(), Closed> {
        let stopping = self.shutdown.stopping();
        let deadline = Instant::now() + self.limits.idle_timeout;
        while complete(input).is_none() {
            // A refused length is refused before its octets are waited for.
            if wanted(input).is_some_and(|bytes| bytes > self.limits.query_bytes_max) {
                return Err(Closed::Malformed);
            }
            let between_queries = input.is_empty();
            input.reserve(READ_BYTES);
            let read = timeout_at(deadline, self.stream.read_buf(input));
            let read = tokio::select! {
                biased;
                read = read => read,
                () = stopping.cancelled(), if between_queries => return Err(Closed::Stopping),
            };
            match read {
                Err(_) => return Err(Closed::Idle),
                // Few clients take leave of TLS before they close.
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof && input.is_empty() => {
                    return Err(Closed::Client);
                }
                Ok(Err(_)) => return Err(Closed::Broken),
                Ok(Ok(0)) if input.is_empty() => return Err(Closed::Client),
                Ok(Ok(0)) => return Err(Closed::Malformed),
                Ok(Ok(_)) => {}
            }
        }
        Ok(())
    }

    /// Answers what has been asked since, and waits for nothing.
    async fn overtake(
        &mut self,
        input: &mut Vec<u8>,
        output: &mut Vec<u8>,
        random: &mut fastrand::Rng,
    ) -> Result<(), Closed> {
        input.reserve(READ_BYTES);
        let read = tokio::select! {
            biased;
            read = self.stream.read_buf(input) => read,
            () = std::future::ready(()) => return Ok(()),
        };
        match read {
            Ok(0) => Err(Closed::Client),
            Ok(_) => self.answer_all(input, output, random).await,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Closed::Client),
            Err(_) => Err(Closed::Broken),
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
            if bytes > self.limits.query_bytes_max {
                end = Err(Closed::Malformed);
                break;
            }
            match self.one(&input[start..at], output, random) {
                Outcome::Told(Verdict::Answered { .. }) => {}
                Outcome::Told(Verdict::Ignored(_) | Verdict::Limited) => {
                    end = Err(Closed::Malformed);
                    break;
                }
                Outcome::Transfer(transfer, signer) => {
                    while self.transfers.len() >= TRANSFERS_MAX {
                        self.advance(output).await?;
                    }
                    self.transfers.push_back((transfer, signer));
                }
            }
            if output.len() >= FLUSH_BYTES {
                self.flush(output).await?;
            }
        }
        input.drain(..at);
        self.log.flush();
        self.flush(output).await?;
        end
    }

    /// Appends the answer to one query with its length, unless it is none or a transfer.
    fn one(&mut self, query: &[u8], output: &mut Vec<u8>, random: &mut fastrand::Rng) -> Outcome {
        let Service { zones, metrics, exchange, .. } = &self.service;
        let terms = self.service.terms(self.transport, self.client);
        let length_at = begin(output);
        let zones = zones.load();
        let outcome = exchange.message(query, &zones, terms, &mut |bound| random.usize(..bound), output);
        let Outcome::Told(verdict) = outcome else {
            output.truncate(length_at);
            return outcome;
        };
        metrics.verdict(self.transport, verdict);
        if self.log.is_on() {
            let bytes = output.len() - length_at - LENGTH_BYTES;
            let (transport, client, now_ms) = (self.transport, self.client, terms.now_ms);
            let (path, zones) = (Path::Slow, &zones);
            let entry = Entry { now_ms, transport, client, query, bytes, verdict, path, zones };
            self.log.push(entry, || random.f64());
        }
        match verdict {
            Verdict::Answered { .. } => finish(output, length_at),
            _ => output.truncate(length_at),
        }
        outcome
    }

    /// Sends the next message of the first transfer, when the client took the one before.
    async fn advance(&mut self, output: &mut Vec<u8>) -> Result<(), Closed> {
        let Some((transfer, signer)) = self.transfers.front_mut() else { return Ok(()) };
        let (zone, serial) = (transfer.zone().origin().to_string(), transfer.zone().soa().1.serial);
        let length_at = begin(output);
        if transfer.message(output).is_err() {
            tracing::error!(%zone, serial, client = %self.client, "a record does not fit a message: transfer given up");
            return Err(Closed::Broken);
        }
        if let Some(signer) = signer {
            signer.sign(output, length_at + LENGTH_BYTES, now_s());
        }
        let (is_complete, signed) = (transfer.is_complete(), signer.is_some());
        finish(output, length_at);
        self.flush(output).await?;
        if is_complete {
            self.transfers.pop_front();
            self.service.metrics.transferred(true);
            tracing::info!(%zone, serial, client = %self.client, signed, "zone transferred");
        }
        Ok(())
    }

    async fn flush(&mut self, output: &mut Vec<u8>) -> Result<(), Closed> {
        let write = async {
            self.stream.write_all(output).await?;
            // TLS may hold records back.
            self.stream.flush().await
        };
        let written = timeout(self.limits.write_timeout, write).await;
        output.clear();
        // A large answer is rare; its room is not kept for the life of a connection.
        output.shrink_to(FLUSH_BYTES);
        match written {
            Err(_) => Err(Closed::SlowReader),
            Ok(Err(_)) => Err(Closed::Broken),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Ends TLS in form, so that the client knows that nothing was cut off.
    async fn goodbye(&mut self) {
        let _ = timeout(self.limits.write_timeout, self.stream.shutdown()).await;
    }
}

/// Makes room for the length of a message; where it is.
fn begin(output: &mut Vec<u8>) -> usize {
    output.extend_from_slice(&[0; LENGTH_BYTES]);
    output.len() - LENGTH_BYTES
}

/// Writes the length of the message that ends here.
fn finish(output: &mut [u8], length_at: usize) {
    let bytes = output.len() - length_at - LENGTH_BYTES;
    let bytes = u16::try_from(bytes).expect("answers over TCP are limited to 65535 octets");
    output[length_at..length_at + LENGTH_BYTES].copy_from_slice(&bytes.to_be_bytes());
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
    via: Transport,
}

impl OpenConnection {
    fn new(metrics: &Metrics, via: Transport) -> OpenConnection {
        metrics.connections(via).inc();
        OpenConnection { metrics: metrics.clone(), via }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.connections(self.via).dec();
    }
}
