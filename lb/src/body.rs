//! Bodies on their way through. Nothing is boxed and nothing is copied; back-pressure is hyper's own, for a frame is
//! asked for only when the other side has room.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connection::Progress;
use crate::failure::Failure;
use crate::proxy::Finish;
use crate::record::Termination;
use crate::upstream::{AnswerError, Loan};

/// How far the upload of one request has come: shared by its body, by whoever waits for the answer, and by the answer's
/// body, which returns the connection only when the upload is over.
#[derive(Debug)]
pub(crate) struct Upload {
    finished: Cell<Option<Instant>>,
    last: Cell<Instant>,
    /// The backend has room and the client sends nothing.
    waits: Cell<bool>,
    broken: Cell<Option<Failure>>,
    bytes: Cell<u64>,
}

impl Upload {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            finished: Cell::new(None),
            last: Cell::new(now),
            waits: Cell::new(false),
            broken: Cell::new(None),
            bytes: Cell::new(0),
        }
    }

    /// A new attempt begins: earlier silence was another backend's. `whole`: how long the body is, if it is there.
    pub(crate) fn restart(&self, now: Instant, whole: Option<usize>) {
        self.last.set(now);
        self.waits.set(false);
        self.finished.set(whole.map(|_| now));
        self.bytes.set(self.bytes.get() + whole.unwrap_or_default() as u64);
    }

    pub(crate) fn finished(&self) -> Option<Instant> {
        self.finished.get()
    }

    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }

    /// Whether it is the client who owes the next part of it, by deadlines of its own.
    pub(crate) fn waits(&self) -> bool {
        self.waits.get()
    }

    /// How the client's side of it failed, if it did.
    pub(crate) fn broken(&self) -> Option<Failure> {
        self.broken.get()
    }

    /// Bytes of it that were sent, again with each attempt.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    fn moved(&self, bytes: usize, end: bool) {
        let now = Instant::now();
        self.bytes.set(self.bytes.get() + bytes as u64);
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
    Buffered(Option<Bytes>),
    /// `left`: so many bytes may still come.
    Stream {
        inner: Incoming,
        upload: Rc<Upload>,
        progress: Rc<Progress>,
        left: u64,
    },
}

/// Why a request's body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    #[error("larger than allowed")]
    TooLarge,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Buffered(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { inner, upload, progress, left } => {
                let polled = Pin::new(&mut *inner).poll_frame(cx);
                progress.body(polled.is_pending());
                upload.waits.set(polled.is_pending());
                match &polled {
                    Poll::Pending => {}
                    // Nobody asks for more after trailers.
                    Poll::Ready(Some(Ok(frame))) => {
                        let bytes = frame.data_ref().map_or(0, Bytes::len);
                        let Some(rest) = left.checked_sub(bytes as u64) else {
                            upload.broken.set(Some(Failure::BodyLength));
                            return Poll::Ready(Some(Err(BodyError::TooLarge)));
                        };
                        *left = rest;
                        progress.received(bytes);
                        upload.moved(bytes, frame.is_trailers() || inner.is_end_stream());
                    }
                    Poll::Ready(Some(Err(_))) => upload.broken.set(Some(Failure::ClientBody)),
                    Poll::Ready(None) => upload.moved(0, true),
                }
                polled.map_err(BodyError::Broken)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Buffered(bytes) => bytes.is_none(),
            Self::Stream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Buffered(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
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
    /// The length of a body that is not sent.
    absent: Option<u64>,
    ended: bool,
    received: u64,
    /// The last byte of what came last, which is handed over when the rest is taken.
    held: Option<u8>,
    upload: Rc<Upload>,
    progress: Rc<Progress>,
    loan: Option<Loan>,
    finish: Finish,
}

/// Of a stream's answer h2 keeps so much for a client without a window, and nobody counts the time.
const UNWATCHED_MAX: usize = 4_096;

impl BackendBody {
    pub(crate) fn new(
        absent: Option<u64>,
        loan: Loan,
        upload: Rc<Upload>,
        progress: Rc<Progress>,
        finish: Finish,
    ) -> Self {
        Self { absent, ended: false, received: 0, held: None, upload, progress, loan: Some(loan), finish }
    }

    /// The next part from the backend.
    fn poll_backend(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let polled = match &mut self.loan {
            Some(loan) => loan.poll_frame(cx),
            None => Poll::Ready(None),
        };
        self.progress.answer(polled.is_pending());
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => self.received += frame.data_ref().map_or(0, Bytes::len) as u64,
            Poll::Ready(Some(Err(_))) => self.finish.record().end(Termination::BROKEN_OFF),
        }
        polled
    }

    /// Holds the last byte of what a stream gets back, so that its client's time counts until it has taken all others. hyper
    /// hands h2 a whole part as soon as there is a window of one byte, and the end behind it whatever the window is: who
    /// opens it byte by byte would have us keep that for ever (CVE-2019-9511).
    fn hold_last(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let mut data = match frame.into_data() {
            Ok(data) if self.progress.is_stream() && data.len() > UNWATCHED_MAX => data,
            Ok(data) => return Frame::data(data),
            Err(other) => return other,
        };
        self.held = data.last().copied();
        data.truncate(data.len() - 1);
        // The backend need not wait for the client.
        if self.loan.as_ref().is_some_and(Loan::is_end_stream) {
            self.part_with_backend();
        }
        Frame::data(data)
    }

    /// Gives the backend's connection back, or ends it with what is left on it.
    fn part_with_backend(&mut self) -> bool {
        let Some(loan) = self.loan.take() else { return true };
        // Nobody asks for the rest of the upload any more.
        self.progress.body(false);
        let whole = self.ended || loan.is_end_stream();
        let metrics = &loan.lease.backend.metrics;
        metrics.bytes_in.inc_by(self.upload.bytes());
        metrics.bytes_out.inc_by(self.received);
        // An answer that came before its request was sent in full leaves the rest of the request on the connection.
        if whole && self.upload.finished().is_some() {
            loan.give_back();
        } else {
            loan.cut();
        }
        whole
    }
}

impl Drop for BackendBody {
    fn drop(&mut self) {
        self.progress.answer(false);
        let whole = self.part_with_backend();
        let held = u64::from(self.held.is_some());
        let mut record = self.finish.record();
        (record.bytes_in, record.bytes_out) = (self.upload.bytes(), self.received - held);
        if whole && held == 0 && self.progress.cut_by().is_none() {
            record.complete();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self.get_mut() {
            Self::Own { bytes, .. } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Backend(body) => {
                body.progress.asked_for();
                let frame = match body.held.take() {
                    Some(last) => Ok(Frame::data(Bytes::copy_from_slice(&[last]))),
                    None => match ready!(body.poll_backend(cx)) {
                        Some(frame) => frame.map(|frame| body.hold_last(frame)),
                        None => return Poll::Ready(None),
                    },
                };
                let bytes = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                body.progress.handed_over(bytes);
                Poll::Ready(Some(frame))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { bytes, .. } => bytes.is_none(),
            Self::Backend(body) => {
                body.absent.is_none()
                    && body.held.is_none()
                    && body.loan.as_ref().is_none_or(Loan::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Backend(body) => match (body.absent, &body.loan) {
                (Some(absent), _) => SizeHint::with_exact(absent),
                (None, Some(loan)) => loan.size_hint(),
                (None, None) => SizeHint::with_exact(u64::from(body.held.is_some())),
            },
        }
    }
}
