//! The client's byte stream: with what was read of it already, and with its progress noted.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::progress::Progress;
use crate::gather;

/// A stream of which the first bytes were read before anybody knew what it is.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    pub(crate) stream: S,
    pub(crate) first: Bytes,
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.advance(length);
        // Its memory is not kept for the life of the connection.
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The client's stream, noting its progress.
///
/// It is closed in two steps where the client may still be sending (RFC 9112, 9.6): our side first, and the socket once the
/// client has closed its own or its time is up ([`Progress::due`]). Closed at once, the kernel would answer what still comes with a
/// reset, and a client that is told so may never read the answer that lies before it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    progress: Rc<Progress>,
    side: Side,
}

/// Our side of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Open,
    Lingering,
    Closed,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, progress: Rc<Progress>) -> Self {
        Self { stream, progress, side: Side::Open }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// What became of writing these pieces.
    fn noted(
        &self,
        polled: Poll<std::io::Result<usize>>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.progress.has_written(polled.is_pending());
        if let Poll::Ready(Ok(count)) = polled
            && self.progress.is_http2()
            && let Some(last) = pieces.iter().rfind(|piece| !piece.is_empty())
            && count == pieces.iter().map(|piece| piece.len()).sum::<usize>()
        {
            self.progress.has_ended_with(last);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Throws away what still comes. An error is an end as well: the answer was written.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [MaybeUninit::uninit(); LINGER_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.progress.lingered(Instant::now()),
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// Read at once of what nobody wants.
const LINGER_BYTES: usize = 8_192;

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.has_read(&buffer.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        self.noted(polled, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = gather::poll_write(&mut self.stream, cx, data);
        self.noted(polled, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.progress.has_flushed(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.side == Side::Open {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.side = if self.progress.may_be_sent_more() { Side::Lingering } else { Side::Closed };
            if self.side == Side::Lingering {
                self.progress.lingers(Instant::now());
            }
        }
        if self.side == Side::Lingering {
            ready!(self.poll_linger(cx));
            self.side = Side::Closed;
        }
        Poll::Ready(Ok(()))
    }
}
