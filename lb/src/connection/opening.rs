//! From an accepted socket to a stream of HTTP of a known version: PROXY header, TLS, HTTP/2's preface. Every step has a
//! deadline of its own, because no server of HTTP begins to count before it has a head.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustls::HandshakeKind;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Speaks;
use super::io::Prefixed;
use crate::config::{Config, ProxyHeader};
use crate::metrics::{Handshake, Metrics};
use crate::proxy_protocol::{self, Malformed, Pair, Source};
use crate::tls;

/// The beginning of HTTP/2's preface (RFC 9113, 3.4); no request of HTTP/1 begins like it.
const PREFACE: &[u8] = b"PRI ";
/// Enough for any PROXY header and most heads.
const READ: usize = 4_096;

/// A stream that may be spoken on.
#[derive(Debug)]
pub(super) enum Stream {
    Http1(Prefixed<TcpStream>),
    Http2(Prefixed<TcpStream>),
    TlsHttp1(Box<TlsStream<Prefixed<TcpStream>>>),
    TlsHttp2(Box<TlsStream<Prefixed<TcpStream>>>),
}

/// It, and who is at its ends.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) client: SocketAddr,
    /// What the client connected to, if anybody wants to know.
    pub(super) server: Option<SocketAddr>,
}

/// Why a connection was closed before its first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unopened {
    #[error("no first byte in time")]
    FirstByte,
    #[error("no complete PROXY header or preface in time")]
    Header,
    #[error("the client left")]
    Left,
    #[error("{0}")]
    Proxy(#[from] Malformed),
    #[error("a PROXY header is required, and this address may not send one")]
    Stranger,
    #[error("no TLS handshake in time")]
    HandshakeTimeout,
    #[error("TLS handshake: {0}")]
    Handshake(std::io::Error),
}

impl Unopened {
    /// The label of `connections_cut`; nothing for a client that just left.
    pub(super) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::FirstByte => Some("first-byte"),
            Self::Header => Some("header"),
            Self::Left => None,
            Self::Proxy(_) | Self::Stranger => Some("proxy-header"),
            Self::HandshakeTimeout => Some("handshake"),
            Self::Handshake(_) => Some("tls"),
        }
    }
}

/// Opens a connection of either kind of listener.
pub(super) async fn open(
    mut stream: TcpStream,
    peer: SocketAddr,
    speaks: Speaks,
    config: &Config,
    live: &tls::Live,
    metrics: &Metrics,
) -> Result<Opened, Unopened> {
    let mut first = Vec::new();
    let pair = match config.server.proxy_protocol.of(peer.ip()) {
        ProxyHeader::None => None,
        ProxyHeader::Perhaps => proxy_header(&mut stream, &mut first, false, config).await?,
        ProxyHeader::Required => proxy_header(&mut stream, &mut first, true, config).await?,
        ProxyHeader::Refused => return Err(Unopened::Stranger),
    };
    let (client, server) = match pair {
        Some(pair) => (pair.client, Some(pair.server)),
        None => (peer, if config.names_clients() { stream.local_addr().ok() } else { None }),
    };
    let stream = match speaks {
        Speaks::Https => Box::pin(handshake(stream, first, config, live, metrics)).await?,
        Speaks::Http if config.http2.cleartext => sniff(stream, first, config).await?,
        Speaks::Http => Stream::Http1(Prefixed { stream, first: first.into() }),
    };
    Ok(Opened { stream, client, server })
}

/// Reads the PROXY header and leaves in `first` what came after it.
async fn proxy_header(
    stream: &mut TcpStream,
    first: &mut Vec<u8>,
    required: bool,
    config: &Config,
) -> Result<Option<Pair>, Unopened> {
    let deadlines = &config.server.deadlines;
    read(stream, first, deadlines.first_byte, Unopened::FirstByte).await?;
    let whole = async {
        loop {
            match proxy_protocol::parse(first) {
                Ok(Some((length, source))) => {
                    first.drain(..length);
                    return Ok(match source {
                        Source::Itself => None,
                        Source::Client(pair) => Some(pair),
                    });
                }
                Ok(None) => more(stream, first).await?,
                Err(Malformed::Absent) if !required => return Ok(None),
                Err(malformed) => return Err(malformed.into()),
            }
        }
    };
    tokio::time::timeout(deadlines.header, whole).await.unwrap_or(Err(Unopened::Header))
}

async fn handshake(
    stream: TcpStream,
    first: Vec<u8>,
    config: &Config,
    live: &tls::Live,
    metrics: &Metrics,
) -> Result<Stream, Unopened> {
    // Without `[tls]` nothing listens for it; a reload that takes it away takes the listener away at the next start.
    let (Some(tls), Some(server)) = (&config.tls, live.server()) else { return Err(Unopened::Left) };
    let accepting = TlsAcceptor::from(server).accept(Prefixed { stream, first: first.into() });
    let accepted = match tokio::time::timeout(tls.handshake_timeout, accepting).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            metrics.handshake(Handshake::Failed);
            return Err(Unopened::Handshake(error));
        }
        Err(_) => {
            metrics.handshake(Handshake::Failed);
            return Err(Unopened::HandshakeTimeout);
        }
    };
    let session = accepted.get_ref().1;
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    metrics.handshake(if resumed { Handshake::Resumed } else { Handshake::Full });
    let http2 = session.alpn_protocol() == Some(b"h2");
    let stream = Box::new(accepted);
    Ok(if http2 { Stream::TlsHttp2(stream) } else { Stream::TlsHttp1(stream) })
}

/// Reads until it is clear which version the client speaks.
async fn sniff(mut stream: TcpStream, mut first: Vec<u8>, config: &Config) -> Result<Stream, Unopened> {
    let deadlines = &config.server.deadlines;
    if first.is_empty() {
        read(&mut stream, &mut first, deadlines.first_byte, Unopened::FirstByte).await?;
    }
    if first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let whole = async {
            while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
                more(&mut stream, &mut first).await?;
            }
            Ok(())
        };
        tokio::time::timeout(deadlines.header, whole).await.unwrap_or(Err(Unopened::Header))?;
    }
    let http2 = first.starts_with(PREFACE);
    let stream = Prefixed { stream, first: Bytes::from(first) };
    Ok(if http2 { Stream::Http2(stream) } else { Stream::Http1(stream) })
}

async fn read(
    stream: &mut TcpStream,
    first: &mut Vec<u8>,
    limit: Duration,
    late: Unopened,
) -> Result<(), Unopened> {
    tokio::time::timeout(limit, more(stream, first)).await.unwrap_or(Err(late))
}

/// Appends what comes next. The buffer is on the stack of the poll that finds bytes: whoever is silent costs no memory.
async fn more(stream: &mut TcpStream, first: &mut Vec<u8>) -> Result<(), Unopened> {
    std::future::poll_fn(|cx| {
        let mut bytes = [std::mem::MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
        Poll::Ready(match read {
            Ok(()) if buffer.filled().has_remaining() => {
                first.extend_from_slice(buffer.filled());
                Ok(())
            }
            _ => Err(Unopened::Left),
        })
    })
    .await
}
