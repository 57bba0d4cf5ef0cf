//! Bodies on their way through. Nothing is boxed and nothing is copied; back-pressure is hyper's own, for a frame is
//! asked for only when the other side has room.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connection::Progress;
use crate::proxy::Finish;
use crate::upstream::Loan;

/// How far the upload of one request has come: shared by its body, by whoever waits for the answer, and by the answer's
/// body, which returns the connection only when the upload is over.
#[derive(Debug)]
pub(crate) struct Upload {
    finished: Cell<Option<Instant>>,
    last: Cell<Instant>,
    broken: Cell<bool>,
}

impl Upload {
    pub(crate) fn new(now: Instant) -> Self {
        Self { finished: Cell::new(None), last: Cell::new(now), broken: Cell::new(false) }
    }

    /// A new attempt begins: earlier silence was another backend's.
    pub(crate) fn restart(&self, now: Instant, finished: bool) {
        self.last.set(now);
        self.finished.set(finished.then_some(now));
    }

    pub(crate) fn finished(&self) -> Option<Instant> {
        self.finished.get()
    }

    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }

    /// The client's side of it failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    fn moved(&self, end: bool) {
        let now = Instant::now();
        self.last.set(now);
        if end {
            self.finished.set(Some(now));
        }
    }
}

/// The body of a request to a backend.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Buffered { bytes: Option<Bytes>, upload: Rc<Upload> },
    Stream { inner: Incoming, upload: Rc<Upload>, progress: Rc<Progress> },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Buffered { bytes, upload } => {
                upload.moved(true);
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Stream { inner, upload, progress } => {
                let polled = Pin::new(&mut *inner).poll_frame(cx);
                progress.body(polled.is_pending());
                match &polled {
                    Poll::Pending => {}
                    Poll::Ready(Some(Ok(_))) => upload.moved(inner.is_end_stream()),
                    Poll::Ready(Some(Err(_))) => upload.broken.set(true),
                    Poll::Ready(None) => upload.moved(true),
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Buffered { bytes, .. } => bytes.is_none(),
            Self::Stream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Buffered { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream { inner, .. } => inner.size_hint(),
        }
    }
}

/// The body of an answer to a client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// One that the balancer made.
    Own {
        bytes: Option<Bytes>,
        _finish: Finish,
    },
    Backend(BackendBody),
}

/// A backend's body, with the connection it comes from.
#[derive(Debug)]
pub(crate) struct BackendBody {
    inner: Incoming,
    ended: bool,
    upload: Rc<Upload>,
    progress: Rc<Progress>,
    loan: Option<Loan>,
    _finish: Finish,
}

impl BackendBody {
    pub(crate) fn new(
        inner: Incoming,
        loan: Loan,
        upload: Rc<Upload>,
        progress: Rc<Progress>,
        finish: Finish,
    ) -> Self {
        Self { inner, ended: false, upload, progress, loan: Some(loan), _finish: finish }
    }
}

impl Drop for BackendBody {
    fn drop(&mut self) {
        self.progress.answer(false);
        let Some(loan) = self.loan.take() else { return };
        // An answer that came before its request was sent in full leaves the rest of the request on the connection.
        if (self.ended || self.inner.is_end_stream()) && self.upload.finished().is_some() {
            loan.give_back();
        } else {
            loan.cut();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own { bytes, .. } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Backend(body) => {
                let polled = Pin::new(&mut body.inner).poll_frame(cx);
                body.progress.answer(polled.is_pending());
                body.ended |= matches!(polled, Poll::Ready(None));
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { bytes, .. } => bytes.is_none(),
            Self::Backend(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Backend(body) => body.inner.size_hint(),
        }
    }
}
