//! A connection to a backend that its request drives itself: no task to wake, no channel in between, and nothing copied
//! that can be shared. Written for what most requests are: without a body, or with one that is there as a whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{HeaderValue, Method, Response, response};
use http_body::Frame;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::answer::{self, Framing, Malformed, Part, Places};
use crate::gather;

/// How much is asked for in one read, at first and where answers are large.
const READ_MIN: usize = 8 * 1_024;
const READ_MAX: usize = 64 * 1_024;

/// One connection with at most one request on it.
#[derive(Debug)]
pub(super) struct Exchange {
    stream: TcpStream,
    /// What was read and is not yet understood.
    read: BytesMut,
    /// How much the next read asks for.
    read_next: usize,
    /// The last read filled less than half of that.
    read_less: bool,
    /// The head of the request.
    head: Vec<u8>,
    /// Its body.
    body: Bytes,
    /// Bytes of both that were written.
    written: usize,
    to_head: bool,
    places: Places,
    framing: Framing,
    /// Nothing has happened that forbids another request.
    persistent: bool,
}

/// Why there is no answer, or not the whole of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection to the backend ended")]
    Closed,
    #[error("reading from the backend: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Exchange {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            read_next: READ_MIN,
            read_less: false,
            head: Vec::new(),
            body: Bytes::new(),
            written: 0,
            to_head: false,
            places: Places::new(),
            framing: Framing::OVER,
            persistent: true,
        }
    }

    /// Whether it waits for the next request. Sees what the backend has done meanwhile, by what the runtime knows of the socket:
    /// closing is normal, and bytes that nobody asked for belong to no request.
    pub(super) fn is_open(&self) -> bool {
        let untouched = self.stream.try_read(&mut [0]);
        self.is_reusable() && matches!(untouched, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Request and answer are over, both whole, and another may follow.
    fn is_reusable(&self) -> bool {
        self.persistent && self.framing.is_over() && self.read.is_empty() && self.is_written()
    }

    /// The socket, for somebody else to speak on.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Begins a request with these fields and more whole lines; it goes out with the first poll.
    pub(super) fn begin(&mut self, method: &Method, target: &str, fields: (&HeaderMap, &[u8]), body: Bytes) {
        write_head(&mut self.head, method, target, fields);
        (self.body, self.written, self.to_head) = (body, 0, *method == Method::HEAD);
    }

    /// Not a byte of the request has left.
    pub(super) fn is_unwritten(&self) -> bool {
        self.written == 0
    }

    /// Sends the request and waits for the head of its answer, whose fields replace `headers`.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        headers: &mut HeaderMap,
    ) -> Poll<Result<response::Parts, Broken>> {
        self.write(cx);
        loop {
            if let Some(head) = answer::head(&mut self.read, self.to_head, &mut self.places, headers)? {
                (self.framing, self.persistent) = (head.framing, self.persistent && head.persistent);
                let mut parts = Response::new(()).into_parts().0;
                parts.status = head.status;
                parts.headers = std::mem::take(headers);
                if let Some(reason) = head.reason {
                    parts.extensions.insert(reason);
                }
                return Poll::Ready(Ok(parts));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// The next part of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.write(cx);
        loop {
            match self.framing.next(&mut self.read) {
                Ok(Some(Part::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Part::Trailers(trailers))) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(None) if self.framing.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(self.broken(malformed.into())))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if self.framing.closed().is_err() => {
                    return Poll::Ready(Some(Err(self.broken(Broken::Closed))));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error.into())))),
            }
        }
    }

    /// Nothing more of the answer is to come.
    pub(super) fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// How long the rest of the answer's body is, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.framing.left()
    }

    fn broken(&mut self, why: Broken) -> Broken {
        self.persistent = false;
        why
    }

    fn is_written(&self) -> bool {
        self.written == self.head.len() + self.body.len()
    }

    /// Writes what the socket takes. An error ends only the writing: the backend may have answered before it closed.
    fn write(&mut self, cx: &mut Context<'_>) {
        while !self.is_written() {
            let head = self.head.get(self.written..).unwrap_or_default();
            let body = &self.body[self.written.saturating_sub(self.head.len())..];
            let polled = if body.is_empty() {
                Pin::new(&mut self.stream).poll_write(cx, head)
            } else {
                gather::poll_write(&mut self.stream, cx, &[io::IoSlice::new(head), io::IoSlice::new(body)])
            };
            match polled {
                Poll::Ready(Ok(count)) if count > 0 => self.written += count,
                Poll::Ready(_) => {
                    self.persistent = false;
                    self.body = Bytes::new();
                    self.head.truncate(self.written);
                    self.written = self.head.len();
                }
                Poll::Pending => return,
            }
        }
    }

    /// Reads once; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.read_next);
        let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read));
        if let Ok(count) = count {
            self.persistent &= count > 0;
            let less = count < self.read_next / 2;
            if count >= self.read_next {
                self.read_next = (self.read_next * 2).min(READ_MAX);
            } else if less && self.read_less {
                self.read_next = (self.read_next / 2).max(READ_MIN);
            }
            self.read_less = less;
        }
        Poll::Ready(count)
    }
}

/// The head of a request as it goes over the wire; replaces what was in `text`.
pub(crate) fn write_head(
    text: &mut Vec<u8>,
    method: &Method,
    target: &str,
    (headers, more): (&HeaderMap, &[u8]),
) {
    text.clear();
    text.extend_from_slice(method.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(HeaderValue::as_bytes(value));
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(more);
    text.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
