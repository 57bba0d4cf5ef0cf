//! One connection to a backend, and who moves its bytes.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::body::RequestBody;
use crate::config::Upstream;
use crate::failure::Failure;
use crate::gather;
use crate::proxy_protocol::{self, Pair};
use crate::snapshot::Lease;

/// One connection to a backend.
#[derive(Debug)]
pub(super) struct Link {
    sender: SendRequest<RequestBody>,
    pub(super) driver: Driver,
    /// Whose it is, if it began with a PROXY header.
    client: Option<Box<Pair>>,
    opened: Instant,
    idle_since: Instant,
}

/// Who moves the bytes of a connection.
#[derive(Debug)]
pub(super) enum Driver {
    /// The request that uses it: no other task has to be woken for each part of an exchange.
    Request(Box<Connection<TokioIo<Socket>, RequestBody>>),
    /// A task of its own, once there was a request that cannot: an upload, whose client may take nothing of its answer
    /// before all is sent, or a switch of protocols.
    Task(#[allow(dead_code, reason = "held to end the task")] AbortOnDropHandle<()>),
    /// Nobody: it has ended.
    Ended,
}

impl Driver {
    /// Polls for something that only bytes on this connection can bring.
    pub(super) fn poll_for<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if matches!(self, Self::Task(_)) {
            return poll(cx);
        }
        // Whatever comes is brought by the poll of the driver right here: who would be woken for it is already awake.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(there) = poll(&mut nobody) {
            return Poll::Ready(there);
        }
        self.poll(cx);
        poll(&mut nobody)
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Self::Request(connection) = self
            && let Poll::Ready(ended) = Pin::new(connection).poll(cx)
        {
            if let Err(error) = ended {
                debug!(%error, "backend connection ended");
            }
            *self = Self::Ended;
        }
    }

    /// Gives it to a task, for good.
    fn detach(&mut self) {
        *self = match std::mem::replace(self, Self::Ended) {
            Self::Request(connection) => {
                Self::Task(AbortOnDropHandle::new(tokio::task::spawn_local(async move {
                    if let Err(error) = connection.with_upgrades().await {
                        debug!(%error, "backend connection ended");
                    }
                })))
            }
            other => other,
        };
    }
}

type Answer = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Link {
    /// Begins to send a request; the driver must be polled for it to go anywhere.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> (impl Future<Output = Answer>, &mut Driver) {
        if matches!(request.body(), RequestBody::Stream { .. }) || request.headers().contains_key(UPGRADE) {
            self.driver.detach();
        }
        (self.sender.try_send_request(request), &mut self.driver)
    }

    /// Nobody uses it from now on.
    pub(super) fn rest(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// Whether it is open and not too old. Sees what the backend has done to it meanwhile: nobody else drives it.
    pub(super) fn is_usable(&mut self, limits: &Upstream, now: Instant) -> bool {
        self.driver.poll(&mut Context::from_waker(Waker::noop()));
        !self.sender.is_closed()
            && now.saturating_duration_since(self.idle_since) < limits.idle_timeout
            && now.saturating_duration_since(self.opened) < limits.age_max
    }

    pub(super) fn is_ready_for(&self, client: Option<Pair>) -> bool {
        self.client.as_deref() == client.as_ref() && self.sender.is_ready()
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
    let (sender, connection) =
        handshake(TokioIo::new(Socket(stream))).await.map_err(|_| Failure::ConnectError)?;
    let now = Instant::now();
    Ok(Link {
        sender,
        driver: Driver::Request(Box::new(connection)),
        client: client.map(Box::new),
        opened: now,
        idle_since: now,
    })
}

/// A socket that is written to in the cheapest way.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) TcpStream);

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        gather::poll_write(&mut self.0, cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
