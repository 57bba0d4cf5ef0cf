//! The attempts of one request: who is tried, for how long, and what follows a failure.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Request, Uri, response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tracing::debug;

use super::choosing::Choosing;
use super::{Finish, Outbound};
use crate::balance::Algorithm;
use crate::balance::load::Outcome;
use crate::body::{RequestBody, Upload};
use crate::config::Config;
use crate::connection::{Client, Progress};
use crate::explain::Trace;
use crate::failure::Failure;
use crate::headers;
use crate::record::Phase;
use crate::retry::{self, Attempt, Decision};
use crate::roster::Event;
use crate::snapshot::{Entry as SeenEntry, Lease};
use crate::upstream::{Answer, Form, Loan, Patience, Whole};
use crate::validate;
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
    client: &'a Client,
    worker: &'a Worker,
    config: &'a Config,
    choosing: Choosing<'a>,
    outbound: Outbound,
    progress: &'a Rc<Progress>,
    finish: &'a Finish,
    content: Content,
    upload: Rc<Upload>,
    idempotent: bool,
    retries: u32,
    /// When it was looked at last.
    now: Instant,
    deadline: Instant,
}

/// An answer, and what it came through.
pub(super) struct Served<'a> {
    pub(super) answer: Answer,
    pub(super) loan: Loan,
    pub(super) upload: Rc<Upload>,
    /// The backend, as the request saw it.
    pub(super) entry: &'a SeenEntry,
    pub(super) overflowed: bool,
    pub(super) trace: Trace,
}

/// A failed attempt.
struct Missed {
    failure: Failure,
    written: bool,
    reused: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        client: &'a Client,
        config: &'a Config,
        choosing: Choosing<'a>,
        outbound: Outbound,
        (progress, finish): (&'a Rc<Progress>, &'a Finish),
        now: Instant,
    ) -> Self {
        let worker = &*client.worker;
        worker.budget.borrow_mut().deposit(config.retry.budget);
        Self {
            idempotent: retry::is_idempotent(&outbound.method),
            client,
            worker,
            config,
            choosing,
            outbound,
            progress,
            finish,
            content: Content::Empty,
            upload: Rc::new(Upload::new(now)),
            retries: 0,
            now,
            deadline: now + config.retry.total_timeout,
        }
    }

    /// Buffers a small body of an idempotent request, so that it can be sent twice; leaves any other to be streamed.
    /// A streamed body is first asked for when its backend is connected: that is also when `100 Continue` goes out.
    pub(super) async fn take_body(&mut self, body: Incoming, bytes_max: u64) -> Result<(), Failure> {
        headers::canonical_length(&mut self.outbound.headers, body.size_hint().exact());
        if body.is_end_stream() {
            return Ok(());
        }
        let small =
            body.size_hint().upper().is_some_and(|bytes| bytes <= self.config.retry.body_bytes_max as u64);
        let body = RequestBody::Stream {
            inner: body,
            upload: Rc::clone(&self.upload),
            progress: Rc::clone(self.progress),
            left: bytes_max,
        };
        self.content = if self.idempotent && small {
            let bytes = body.collect().await;
            let broken = |_| self.upload.broken().unwrap_or(Failure::ClientBody);
            let bytes = bytes.map_err(broken)?.to_bytes();
            self.now = Instant::now();
            self.deadline = self.now + self.config.retry.total_timeout;
            Content::Buffered(bytes)
        } else {
            Content::Stream(Some(body))
        };
        Ok(())
    }

    /// Tries until somebody answers or nothing is left to try.
    pub(super) async fn run(mut self) -> Result<Served<'a>, Failure> {
        let mut last = None;
        let mut fresh = false;
        loop {
            let mut began = self.now;
            let (index, lease) = match self.choosing.take(fresh, began) {
                Ok(chosen) => chosen,
                Err(lack) => {
                    self.finish.record().enter(Phase::Queue, began);
                    let waited = self.choosing.wait(lack, self.deadline).await;
                    began = Instant::now();
                    waited.map_err(|none| last.unwrap_or(none))?
                }
            };
            let missed = match self.attempt(index, lease, fresh, began).await {
                Ok(served) => return Ok(served),
                Err(missed) => missed,
            };
            self.blame(index, &missed, began);
            match self.decide(&missed) {
                Decision::GiveUp => return Err(missed.failure),
                Decision::Elsewhere => fresh = false,
                Decision::SameBackend => fresh = true,
            }
            last = Some(missed.failure);
        }
    }

    /// Asks one backend, from `began` on.
    async fn attempt(
        &mut self,
        index: usize,
        lease: Lease,
        fresh: bool,
        began: Instant,
    ) -> Result<Served<'a>, Missed> {
        let pool = self.choosing.pool;
        let limits = &pool.config.upstream;
        let unwritten = |failure| Missed { failure, written: false, reused: false };
        self.finish.asks(&pool.entries[index], began);
        let streams = matches!(self.content, Content::Stream(_));
        let form = if streams || self.outbound.upgrades { Form::Streamed } else { Form::Whole };
        let upstreams = &self.worker.upstreams;
        let loan = upstreams.checkout(lease, limits, (self.client.pair, form), fresh, began).await;
        let mut loan = loan.map_err(unwritten)?;
        let now = if loan.reused { began } else { Instant::now() };
        self.finish.record().enter(Phase::Header, now);
        let patience = Patience { header: self.header_timeout(streams, now), upload: limits.body_timeout };
        let whole = match &self.content {
            Content::Empty => Some(Bytes::new()),
            Content::Buffered(bytes) => Some(bytes.clone()),
            Content::Stream(_) => None,
        };
        self.upload.restart(now, whole.as_ref().map(Bytes::len));
        let answered = match (form, whole) {
            (Form::Whole, Some(body)) => {
                let Outbound { method, target, headers, lines, .. } = &mut self.outbound;
                let request = Whole { method, target: target.as_str(), headers, lines, body };
                loan.send(request, &self.upload, patience).await
            }
            _ => loan.stream(self.request(), &self.upload, patience).await,
        };
        match answered {
            Ok(mut answer) => {
                match self.check(&mut answer.parts) {
                    Ok(true) => {}
                    Ok(false) => loan.use_no_more(),
                    Err(validate::Ambiguous) => {
                        return Err(Missed {
                            failure: Failure::BadResponse,
                            written: true,
                            reused: loan.reused,
                        });
                    }
                }
                let entry = &pool.entries[index];
                self.answered(entry, &answer.parts, now);
                let choosing = &self.choosing;
                let (why, attempts, waited) = (choosing.why, choosing.attempts(), choosing.waited);
                Ok(Served {
                    answer,
                    loan,
                    upload: Rc::clone(&self.upload),
                    entry,
                    overflowed: choosing.overflowed,
                    trace: Trace { why, attempts, waited },
                })
            }
            Err(unanswered) => {
                self.take_back(unanswered.request);
                let (failure, written) = (unanswered.failure, !unanswered.unwritten);
                Err(Missed { failure, written, reused: loan.reused })
            }
        }
    }

    /// Whether an answer can be passed on, and whether another may follow it. One that cannot is a failed attempt: who answers
    /// nonsense at once must not look fast.
    fn check(&self, answer: &mut response::Parts) -> Result<bool, validate::Ambiguous> {
        if answer.status.is_informational() {
            // What follows a switch that nobody asked for is no answer.
            return if self.outbound.upgrades { Ok(true) } else { Err(validate::Ambiguous) };
        }
        validate::answer(&mut answer.headers)
    }

    /// What an answer teaches of its backend's load, in a pool that asks for it.
    fn answered(&self, entry: &SeenEntry, answer: &response::Parts, sent: Instant) {
        let Algorithm::Ewma(terms) = self.choosing.pool.config.balance.algorithm else { return };
        // An answer that came before the end of the upload says nothing of how long one takes.
        let Some(uploaded) = self.upload.finished() else { return };
        let now = Instant::now();
        let latency = now.saturating_duration_since(sent.max(uploaded));
        entry.backend.load.observe(latency, outcome_of(answer), terms, now);
    }

    /// What another attempt needs of a streamed request that was not written.
    fn take_back(&mut self, unwritten: Option<Request<RequestBody>>) {
        if let Some(request) = unwritten {
            let (head, sent) = request.into_parts();
            self.outbound.headers = head.headers;
            if let Content::Stream(body) = &mut self.content {
                *body = Some(sent);
            }
        }
    }

    /// Short while another backend could still be asked; never beyond the total of all attempts. A streamed body may
    /// take its time, so its total begins when it is sent.
    fn header_timeout(&self, streams: bool, now: Instant) -> Duration {
        let limits = &self.choosing.pool.config.upstream;
        if streams {
            return limits.header_timeout;
        }
        let may_go_elsewhere =
            self.idempotent && self.retries < self.config.retry.retries_max && self.choosing.others();
        let timeout = if may_go_elsewhere { limits.try_timeout } else { limits.header_timeout };
        timeout.min(self.deadline.saturating_duration_since(now))
    }

    /// The request in the form for a task. Its headers are kept where it may be sent again after it was written.
    fn request(&mut self) -> Request<RequestBody> {
        self.outbound.lines.move_to(&mut self.outbound.headers);
        let (body, headers) = match &mut self.content {
            Content::Empty => (RequestBody::Empty, self.outbound.headers.clone()),
            Content::Buffered(bytes) => {
                (RequestBody::Buffered(Some(bytes.clone())), self.outbound.headers.clone())
            }
            Content::Stream(body) => {
                let body = body.take().expect("a retry of a stream has its body back");
                (body, std::mem::take(&mut self.outbound.headers))
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.outbound.method.clone();
        *request.uri_mut() = Uri::from(self.outbound.target.clone());
        *request.headers_mut() = headers;
        // Without it hyper drops the body of a GET.
        if self.outbound.chunked && matches!(self.content, Content::Stream(_)) {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        request
    }

    fn decide(&mut self, missed: &Missed) -> Decision {
        let now = Instant::now();
        self.now = now;
        let attempt = Attempt {
            failure: missed.failure,
            idempotent: self.idempotent,
            replayable: !matches!(self.content, Content::Stream(None)),
            written: missed.written,
            reused: missed.reused,
            retries: self.retries,
            others: self.choosing.others(),
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
    fn blame(&mut self, index: usize, missed: &Missed, began: Instant) {
        if !missed.failure.blames_backend() {
            return;
        }
        let pool = self.choosing.pool;
        let backend = &pool.entries[index].backend;
        backend.metrics.attempts_failed.inc();
        self.choosing.missed(index, missed.failure);
        // An old connection may just have been closed for its age.
        let by_age = missed.reused && missed.failure != Failure::BadResponse;
        if missed.failure == Failure::HeaderTimeout || !by_age {
            self.worker.judge(pool, backend, Err(missed.failure));
        }
        if let Algorithm::Ewma(terms) = pool.config.balance.algorithm {
            let (now, outcome) = (Instant::now(), Outcome::Failed { rest: None });
            backend.load.observe(now.saturating_duration_since(began), outcome, terms, now);
        }
        // A full queue knows already that something is wrong.
        let counts = !by_age && missed.failure != Failure::HeaderTimeout;
        let _ = self.worker.shared.events.try_send(Event::Failed {
            id: backend.id,
            failure: missed.failure,
            counts,
        });
    }
}

/// Server errors are failures: an instance that only answers 500 must not look fast. `Retry-After` counts in seconds;
/// its other form, a date, is for people's caches and is not read.
fn outcome_of(answer: &response::Parts) -> Outcome {
    if !answer.status.is_server_error() {
        return Outcome::Answered;
    }
    let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Outcome::Failed { rest: seconds.map(Duration::from_secs) }
}
