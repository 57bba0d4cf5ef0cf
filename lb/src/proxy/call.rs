//! The attempts of one request: who is tried, for how long, and what follows a failure.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, Entry, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tracing::debug;

use super::Outbound;
use crate::affinity::Affinity;
use crate::body::{RequestBody, Upload};
use crate::config::Config;
use crate::connection::Progress;
use crate::failure::Failure;
use crate::pick::{self, Pick};
use crate::retry::{self, Attempt, Decision};
use crate::roster::Event;
use crate::snapshot::{Lease, Snapshot};
use crate::upstream::{Loan, Patience};
use crate::worker::Worker;

/// A request's body, by how often it can be sent.
enum Content {
    Empty,
    Buffered(Bytes),
    /// Taken by the first attempt; comes back if nothing of it was written.
    Stream(Option<RequestBody>),
}

/// A request on its way.
pub(super) struct Call<'a> {
    worker: &'a Worker,
    config: &'a Config,
    snapshot: &'a Snapshot,
    outbound: Outbound,
    affinity: Affinity,
    progress: &'a Rc<Progress>,
    content: Content,
    upload: Rc<Upload>,
    idempotent: bool,
    tried: Vec<usize>,
    retries: u32,
    deadline: Instant,
    /// The client's own backend is well but did not take this request.
    overflowed: bool,
}

/// An answer, and what it came through.
pub(super) struct Served {
    pub(super) response: Response<Incoming>,
    pub(super) loan: Loan,
    pub(super) upload: Rc<Upload>,
    pub(super) index: usize,
    pub(super) overflowed: bool,
}

/// A failed attempt.
struct Missed {
    failure: Failure,
    written: bool,
    reused: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        config: &'a Config,
        snapshot: &'a Snapshot,
        outbound: Outbound,
        affinity: Affinity,
        progress: &'a Rc<Progress>,
    ) -> Self {
        let now = Instant::now();
        worker.budget.borrow_mut().deposit(config.retry.budget);
        Self {
            idempotent: retry::is_idempotent(&outbound.method),
            worker,
            config,
            snapshot,
            outbound,
            affinity,
            progress,
            content: Content::Empty,
            upload: Rc::new(Upload::new(now)),
            tried: Vec::new(),
            retries: 0,
            deadline: now + config.retry.total_timeout,
            overflowed: false,
        }
    }

    /// Buffers a small body of an idempotent request, so that it can be sent twice; leaves any other to be streamed.
    /// A streamed body is first asked for when its backend is connected: that is also when `100 Continue` goes out.
    pub(super) async fn take_body(&mut self, body: Incoming) -> Result<(), Failure> {
        // One canonical length: `5, 5` in two lines and `005` were accepted, and others may read them differently.
        if let (Some(bytes), Entry::Occupied(mut length)) =
            (body.size_hint().exact(), self.outbound.headers.entry(CONTENT_LENGTH))
        {
            length.insert(HeaderValue::from(bytes));
        }
        if body.is_end_stream() {
            return Ok(());
        }
        let small =
            body.size_hint().upper().is_some_and(|bytes| bytes <= self.config.retry.body_bytes_max as u64);
        let body = RequestBody::Stream {
            inner: body,
            upload: Rc::clone(&self.upload),
            progress: Rc::clone(self.progress),
        };
        self.content = if self.idempotent && small {
            let bytes = body.collect().await.map_err(|_| Failure::ClientBody)?.to_bytes();
            self.deadline = Instant::now() + self.config.retry.total_timeout;
            Content::Buffered(bytes)
        } else {
            Content::Stream(Some(body))
        };
        Ok(())
    }

    /// Tries until somebody answers or nothing is left to try.
    pub(super) async fn run(mut self) -> Result<Served, Failure> {
        let mut last = None;
        let mut fresh = false;
        loop {
            let (index, lease) = self.choose(fresh).map_err(|none| last.unwrap_or(none))?;
            let missed = match self.attempt(index, lease, fresh).await {
                Ok(served) => return Ok(served),
                Err(missed) => missed,
            };
            self.blame(index, &missed);
            match self.decide(&missed) {
                Decision::GiveUp => return Err(missed.failure),
                Decision::Elsewhere => fresh = false,
                Decision::SameBackend => fresh = true,
            }
            last = Some(missed.failure);
        }
    }

    /// The next backend: the client's own first, then whose turn it is; `again` stays with the one just tried.
    fn choose(&mut self, again: bool) -> Result<(usize, Lease), Failure> {
        let max = self.config.upstream.inflight_max;
        let lease = |index: usize| self.snapshot.entries[index].backend.lease(max);
        let same = self.tried.last().copied().filter(|_| again);
        let own = self.affinity.prefer.filter(|_| self.tried.is_empty());
        if let Some(index) = same.or(own) {
            if let Some(lease) = lease(index) {
                self.mark(index);
                return Ok((index, lease));
            }
            self.overflowed = own.is_some();
        }
        let mut turn = self.worker.turn.get();
        let has_room = |index: usize| self.snapshot.entries[index].backend.inflight() < max;
        let picked = pick::pick(&self.snapshot.tiers(), &mut turn, &self.tried, has_room);
        self.worker.turn.set(turn);
        match picked {
            Pick::One(index) => {
                if self.snapshot.panics() {
                    self.worker.shared.metrics.panic_picks.inc();
                }
                // Another worker may have taken the last place in between.
                let lease = lease(index).ok_or(Failure::Overloaded)?;
                self.mark(index);
                Ok((index, lease))
            }
            Pick::Full => Err(Failure::Overloaded),
            Pick::Nobody => Err(Failure::NoBackend),
        }
    }

    fn mark(&mut self, index: usize) {
        if !self.tried.contains(&index) {
            self.tried.push(index);
        }
    }

    async fn attempt(&mut self, index: usize, lease: Lease, fresh: bool) -> Result<Served, Missed> {
        let limits = &self.config.upstream;
        let unwritten = |failure| Missed { failure, written: false, reused: false };
        let mut loan = self.worker.upstreams.checkout(lease, limits, fresh).await.map_err(unwritten)?;
        let request = self.request();
        let now = Instant::now();
        let streams = matches!(self.content, Content::Stream(_));
        self.upload.restart(now, matches!(self.content, Content::Empty));
        let patience = Patience { header: self.header_timeout(streams, now), upload: limits.body_timeout };
        match loan.send(request, &self.upload, patience).await {
            Ok(response) => Ok(Served {
                response,
                loan,
                upload: Rc::clone(&self.upload),
                index,
                overflowed: self.overflowed,
            }),
            Err(unanswered) => {
                let written = unanswered.unwritten.is_none();
                if let (Content::Stream(body), Some(request)) = (&mut self.content, unanswered.unwritten) {
                    *body = Some(request.into_body());
                }
                Err(Missed { failure: unanswered.failure, written, reused: loan.reused })
            }
        }
    }

    /// Short while another backend could still be asked; never beyond the total of all attempts. A streamed body may
    /// take its time, so its total begins when it is sent.
    fn header_timeout(&self, streams: bool, now: Instant) -> Duration {
        let limits = &self.config.upstream;
        if streams {
            return limits.header_timeout;
        }
        let may_go_elsewhere = self.idempotent
            && self.retries < self.config.retry.retries_max
            && pick::others(&self.snapshot.tiers(), &self.tried);
        let timeout = if may_go_elsewhere { limits.try_timeout } else { limits.header_timeout };
        timeout.min(self.deadline.saturating_duration_since(now))
    }

    fn request(&mut self) -> Request<RequestBody> {
        let body = match &mut self.content {
            Content::Empty => RequestBody::Empty,
            Content::Buffered(bytes) => {
                RequestBody::Buffered { bytes: Some(bytes.clone()), upload: Rc::clone(&self.upload) }
            }
            Content::Stream(body) => body.take().expect("a retry of a stream has its body back"),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.outbound.method.clone();
        *request.uri_mut() = self.outbound.uri.clone();
        *request.headers_mut() = self.outbound.headers.clone();
        // Without it hyper drops the body of a GET.
        if self.outbound.chunked && matches!(self.content, Content::Stream(_)) {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        request
    }

    fn decide(&mut self, missed: &Missed) -> Decision {
        let now = Instant::now();
        let attempt = Attempt {
            failure: missed.failure,
            idempotent: self.idempotent,
            replayable: !matches!(self.content, Content::Stream(None)),
            written: missed.written,
            reused: missed.reused,
            retries: self.retries,
            others: pick::others(&self.snapshot.tiers(), &self.tried),
        };
        let decision = retry::decide(&attempt, self.config.retry.retries_max);
        if decision == Decision::GiveUp || now >= self.deadline {
            return Decision::GiveUp;
        }
        let metrics = &self.worker.shared.metrics;
        if !self.worker.budget.borrow_mut().withdraw(self.config.retry.budget, now) {
            metrics.budget_empty.inc();
            return Decision::GiveUp;
        }
        self.retries += 1;
        metrics.retried(missed.failure);
        debug!(reason = missed.failure.kind(), ?decision, "trying again");
        decision
    }

    /// Tells the roster, which looks at once; the request does not wait for that.
    fn blame(&mut self, index: usize, missed: &Missed) {
        if !missed.failure.blames_backend() {
            return;
        }
        let backend = &self.snapshot.entries[index].backend;
        backend.metrics.attempts_failed.inc();
        // A slow answer moves this request, not the session: probes decide whether the backend is gone.
        self.overflowed |= missed.failure == Failure::HeaderTimeout && self.affinity.prefer == Some(index);
        // An old connection may just have been closed for its age. A full queue knows already that something is wrong.
        let counts = !missed.reused && missed.failure != Failure::HeaderTimeout;
        let _ = self.worker.shared.events.try_send(Event::Failed {
            id: backend.id,
            failure: missed.failure,
            counts,
        });
    }
}
