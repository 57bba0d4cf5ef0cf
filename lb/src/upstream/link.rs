//! One connection to a backend, and who moves its bytes.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::Form;
use super::exchange::Exchange;
use crate::body::RequestBody;
use crate::config::Upstream;
use crate::failure::Failure;
use crate::gather;
use crate::proxy_protocol::{self, Pair};
use crate::snapshot::Lease;

/// One connection to a backend.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) driver: Driver,
    /// Whose it is, if it began with a PROXY header.
    client: Option<Box<Pair>>,
    opened: Instant,
    idle_since: Instant,
}

/// Who moves the bytes of a connection.
#[derive(Debug)]
pub(super) enum Driver {
    /// The request that uses it.
    Request(Box<Exchange>),
    /// A task of its own, once there was a request that cannot: an upload, whose client may take nothing of its answer
    /// before all is sent, or a switch of protocols.
    Task(Task),
}

/// A connection that hyper drives.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) sender: SendRequest<RequestBody>,
    #[allow(dead_code, reason = "held to end the task")]
    task: AbortOnDropHandle<()>,
}

impl Task {
    async fn speak(stream: TcpStream) -> Result<Self, hyper::Error> {
        let (sender, connection) = handshake(TokioIo::new(Socket::new(stream))).await?;
        let driving = async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "backend connection ended");
            }
        };
        Ok(Self { sender, task: AbortOnDropHandle::new(tokio::task::spawn_local(driving)) })
    }
}

impl Link {
    /// Gives it to a task, for good.
    pub(super) async fn detach(self) -> Result<Self, hyper::Error> {
        let driver = match self.driver {
            Driver::Request(exchange) => Driver::Task(Task::speak(exchange.into_stream()).await?),
            Driver::Task(task) => Driver::Task(task),
        };
        Ok(Self { driver, ..self })
    }

    /// Nobody uses it from now on.
    pub(super) fn rest(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// Whether it is open and not too old.
    pub(super) fn is_usable(&self, limits: &Upstream, now: Instant) -> bool {
        let is_open = match &self.driver {
            Driver::Request(exchange) => exchange.is_open(),
            Driver::Task(task) => !task.sender.is_closed(),
        };
        is_open
            && now.saturating_duration_since(self.idle_since) < limits.idle_timeout
            && now.saturating_duration_since(self.opened) < limits.age_max
    }

    /// Whether it sends such a request in the cheapest way.
    pub(super) fn suits(&self, form: Form) -> bool {
        matches!(self.driver, Driver::Request(_)) == (form == Form::Whole)
    }

    /// One that a task drives may need another turn of it after its last answer.
    pub(super) fn is_ready_for(&self, client: Option<Pair>) -> bool {
        let is_ready = match &self.driver {
            Driver::Request(_) => true,
            Driver::Task(task) => task.sender.is_ready(),
        };
        is_ready && self.client.as_deref() == client.as_ref()
    }
}

/// Opens a connection, with a PROXY header of `client` if backends get one.
pub(super) async fn connect(lease: &Lease, limits: &Upstream, client: Option<Pair>) -> Result<Link, Failure> {
    let opening = async {
        let mut stream = TcpStream::connect(lease.backend.address).await?;
        stream.set_nodelay(true)?;
        if let Some(version) = limits.send_proxy {
            stream.write_all(&proxy_protocol::encode(version, client)).await?;
        }
        Ok::<_, std::io::Error>(stream)
    };
    let stream = match tokio::time::timeout(limits.connect_timeout, opening).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(Failure::ConnectRefused);
        }
        Ok(Err(error)) => {
            debug!(backend = %lease.backend.address, %error, "cannot connect");
            return Err(Failure::ConnectError);
        }
        Err(_) => return Err(Failure::ConnectTimeout),
    };
    lease.backend.metrics.connections_opened.inc();
    let now = Instant::now();
    Ok(Link {
        driver: Driver::Request(Box::new(Exchange::new(stream))),
        client: client.map(Box::new),
        opened: now,
        idle_since: now,
    })
}

/// A socket that is written to in the cheapest way, and on which only reading fails: a backend that answers before the end of an
/// upload and closes lets our next write fail while its answer lies here unread. hyper would give up at that. So from the first
/// error on what is written goes nowhere, and reading brings the answer, or the end without one.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    deaf: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, deaf: false }
    }

    /// The socket itself, where both directions may fail.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if !self.deaf {
            match ready!(gather::poll_write(&mut self.stream, cx, pieces)) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) => {
                    debug!(%error, "backend takes no more of the request");
                    self.deaf = true;
                }
            }
        }
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
