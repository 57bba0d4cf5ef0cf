//! A connection that has switched protocols (WebSocket and others): bytes both ways, until either side has been silent for
//! too long or both have ended.
//!
//! It begins only after the backend's 101 was checked and written to the client. Before that, nothing that a client sends behind
//! its request is more than the beginning of another request.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tracing::debug;

use crate::connection::Prefixed;
use crate::metrics::Metrics;
use crate::upstream::{Loan, Socket};

/// The backend's side of it, once the client's connection is free.
#[derive(Debug)]
pub(crate) struct Tunnel {
    upgrade: OnUpgrade,
    /// For as long as it lives it is one of the backend's requests in flight.
    loan: Loan,
}

impl Tunnel {
    pub(crate) fn new(upgrade: OnUpgrade, loan: Loan) -> Self {
        Self { upgrade, loan }
    }

    /// Carries bytes to the end. A half that ends is passed on as such, and the other may go on.
    pub(crate) async fn run<S>(self, client: Prefixed<S>, limits: Limits, metrics: &Metrics)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { upgrade, loan } = self;
        let Ok(Ok(upgraded)) = tokio::time::timeout(limits.half, upgrade).await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else { return };
        let mut backend = Prefixed { stream: parts.io.into_inner().into_stream(), first: parts.read_buf };
        let notes = Rc::new(Notes { last: Cell::new(Instant::now()), half: Cell::new(false) });
        let mut client = Noted { stream: client, notes: Rc::clone(&notes) };
        let _counted = Counted::new(metrics);
        let mut copying = pin!(copy_bidirectional(&mut client, &mut backend));
        loop {
            let due = notes.due(limits);
            // Half a tunnel has a shorter deadline, and may become one while this sleeps.
            let look = due.min(Instant::now() + limits.half);
            tokio::select! {
                biased;
                copied = copying.as_mut() => {
                    debug!(backend = %loan.lease.backend.address, ?copied, "tunnel ended");
                    return;
                }
                () = tokio::time::sleep_until(look.into()) => {
                    if notes.due(limits) <= Instant::now() {
                        metrics.connection_cut("tunnel");
                        return;
                    }
                }
            }
        }
    }
}

/// How long nothing may move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) whole: Duration,
    /// Once one side has ended: often the other is gone too and cannot say so.
    pub(crate) half: Duration,
}

/// When bytes moved last, and whether one side has ended.
struct Notes {
    last: Cell<Instant>,
    half: Cell<bool>,
}

impl Notes {
    fn due(&self, limits: Limits) -> Instant {
        self.last.get() + if self.half.get() { limits.half.min(limits.whole) } else { limits.whole }
    }
}

/// One open tunnel in the metrics.
struct Counted(Gauge);

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        metrics.tunnels_opened.inc();
        metrics.tunnels.inc();
        Self(metrics.tunnels.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The client's side, taking notes. What is read here is written there, so one side's are enough.
struct Noted<S> {
    stream: S,
    notes: Rc<Notes>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.notes.last.set(Instant::now());
            if buffer.filled().len() == before {
                self.notes.half.set(true);
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        if polled.is_ready() {
            self.notes.last.set(Instant::now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // The backend has ended.
        self.notes.half.set(true);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
