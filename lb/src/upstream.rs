//! One worker's connections to the backends.
//!
//! A stack per backend: the connection used last is used next, so the others grow old and are closed. No lock, because
//! no other thread sees them. A connection comes back only when both its request and its answer are over.

mod exchange;
mod link;

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::alarms::Alarms;
use crate::body::{RequestBody, Upload};
use crate::config::Upstream;
use crate::failure::Failure;
use crate::headers::Lines;
use crate::proxy_protocol::Pair;
use crate::snapshot::{Lease, Snapshot};
use exchange::Broken;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use exchange::write_head;
pub(crate) use link::Socket;
use link::{Driver, Link};

/// The connections of one worker that nobody uses at the moment.
#[derive(Debug)]
pub(crate) struct Upstreams {
    stacks: RefCell<HashMap<u64, Vec<Link>>>,
    alarms: Rc<Alarms>,
}

/// A connection in use, with its place in the backend's count. Cut when dropped without being given back.
#[derive(Debug)]
pub(crate) struct Loan {
    link: Option<Link>,
    /// The body of the answer, where a task reads it.
    incoming: Option<Incoming>,
    home: Rc<Upstreams>,
    idle_max: usize,
    /// It had served a request before.
    pub(crate) reused: bool,
    pub(crate) lease: Lease,
}

impl Upstreams {
    pub(crate) fn new(alarms: Rc<Alarms>) -> Self {
        Self { stacks: RefCell::default(), alarms }
    }

    /// An idle connection or a new one. With `upstream.send_proxy` it is one of this `client`'s own.
    pub(crate) async fn checkout(
        self: &Rc<Self>,
        lease: Lease,
        limits: &Upstream,
        (client, form): (Option<Pair>, Form),
        fresh: bool,
        now: Instant,
    ) -> Result<Loan, Failure> {
        let client = client.filter(|_| limits.send_proxy.is_some());
        let idle = if fresh { None } else { self.pop(lease.backend.id, limits, (client, form), now) };
        let reused = idle.is_some();
        let link = match idle {
            Some(link) => link,
            None => link::connect(&lease, limits, client).await?,
        };
        let (link, home) = (Some(link), Rc::clone(self));
        Ok(Loan { link, incoming: None, home, idle_max: limits.idle_max, reused, lease })
    }

    /// The one used last that can be used, of those that suit the request's form if there is one; those above it that no
    /// longer can be used are closed.
    fn pop(
        &self,
        backend: u64,
        limits: &Upstream,
        (client, form): (Option<Pair>, Form),
        now: Instant,
    ) -> Option<Link> {
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.get_mut(&backend)?;
        let mut other = None;
        let mut at = stack.len();
        while at > 0 {
            at -= 1;
            let link = &stack[at];
            if !link.is_usable(limits, now) {
                stack.remove(at);
                other = other.map(|other: usize| other - 1);
            } else if link.is_ready_for(client) {
                if link.suits(form) {
                    return Some(stack.remove(at));
                }
                other.get_or_insert(at);
            }
        }
        other.map(|other| stack.remove(other))
    }

    /// Closes what is too old, and everything of backends that are gone.
    pub(crate) fn prune(&self, snapshot: &Snapshot, now: Instant) {
        self.stacks.borrow_mut().retain(|id, stack| {
            let Some(pool) = snapshot.pool_of(*id) else { return false };
            stack.retain(|link| link.is_usable(&pool.config.upstream, now));
            true
        });
    }

    fn push(&self, backend: u64, link: Link, idle_max: usize) {
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.entry(backend).or_default();
        if stack.len() < idle_max {
            stack.push(link);
        }
    }
}

/// How a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// It is there as a whole.
    Whole,
    /// Its body comes while it is sent, or it asks for a switch of protocols.
    Streamed,
}

/// An attempt that got no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// Not a byte of the request can have arrived.
    pub(crate) unwritten: bool,
    /// A streamed request itself, if it was not begun.
    pub(crate) request: Option<Request<RequestBody>>,
}

/// A request that is there as a whole.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a str,
    /// Replaced by those of the answer, once there is one.
    pub(crate) headers: &'a mut HeaderMap,
    pub(crate) lines: &'a mut Lines,
    pub(crate) body: Bytes,
}

/// The head of an answer; its body comes through the loan.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) parts: response::Parts,
    /// The backend would switch protocols.
    pub(crate) switching: Option<OnUpgrade>,
}

/// Why an answer's body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Task(#[from] hyper::Error),
}

/// How long to wait for an answer's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Once the request is sent.
    pub(crate) header: Duration,
    /// For the backend to take more of the request, while it is being sent.
    pub(crate) upload: Duration,
}

const HAS_LINK: &str = "a loan has its connection until it is given back";

impl Loan {
    /// Sends a request that is there as a whole and waits for its answer's head.
    pub(crate) async fn send(
        &mut self,
        request: Whole<'_>,
        upload: &Upload,
        patience: Patience,
    ) -> Result<Answer, Unanswered> {
        let Whole { method, target, headers, lines, body } = request;
        let link = self.link.as_mut().expect(HAS_LINK);
        let exchange = match &mut link.driver {
            Driver::Request(exchange) => exchange,
            Driver::Task(_) => {
                let body =
                    if body.is_empty() { RequestBody::Empty } else { RequestBody::Buffered(Some(body)) };
                let mut request = Request::new(body);
                *request.method_mut() = method.clone();
                *request.uri_mut() = target.parse().expect("a checked target is one");
                lines.move_to(headers);
                *request.headers_mut() = headers.clone();
                return self.stream(request, upload, patience).await;
            }
        };
        exchange.begin(method, target, (headers, lines.as_bytes()), body);
        let answered = answered(&self.home.alarms, upload, patience, |cx| {
            exchange.poll_answer(cx, headers).map_err(|broken| {
                let malformed = matches!(broken, Broken::Malformed(_));
                let failure = if malformed { Failure::BadResponse } else { Failure::Reset };
                Unanswered { failure, unwritten: exchange.is_unwritten(), request: None }
            })
        });
        Ok(Answer { parts: answered.await?, switching: None })
    }

    /// The same with one whose body comes while it is sent, or that asks for a switch of protocols.
    pub(crate) async fn stream(
        &mut self,
        request: Request<RequestBody>,
        upload: &Upload,
        patience: Patience,
    ) -> Result<Answer, Unanswered> {
        let link = self.link.take().expect(HAS_LINK);
        let link = match link.detach().await {
            Ok(link) => self.link.insert(link),
            Err(_) => {
                let (failure, request) = (Failure::Reset, Some(request));
                return Err(Unanswered { failure, unwritten: true, request });
            }
        };
        let Driver::Task(task) = &mut link.driver else { unreachable!("it was given to a task") };
        let mut answer = std::pin::pin!(task.sender.try_send_request(request));
        let answered = answered(&self.home.alarms, upload, patience, |cx| {
            answer.as_mut().poll(cx).map_err(|mut error| {
                let request = error.take_message();
                let failure = classify(error.error(), upload);
                Unanswered { failure, unwritten: request.is_some(), request }
            })
        });
        let mut response = answered.await?;
        let switching = Some(hyper::upgrade::on(&mut response));
        let (parts, body) = response.into_parts();
        self.incoming = Some(body);
        Ok(Answer { parts, switching })
    }

    /// Polls for more of the answer's body.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match (&mut self.incoming, &mut self.link) {
            (Some(incoming), _) => Pin::new(incoming).poll_frame(cx).map_err(AnswerError::from),
            (None, Some(Link { driver: Driver::Request(exchange), .. })) => {
                exchange.poll_frame(cx).map_err(AnswerError::from)
            }
            (None, _) => Poll::Ready(None),
        }
    }

    /// Nothing more of the answer's body is to come.
    pub(crate) fn is_end_stream(&self) -> bool {
        match (&self.incoming, &self.link) {
            (Some(incoming), _) => incoming.is_end_stream(),
            (None, Some(Link { driver: Driver::Request(exchange), .. })) => exchange.is_over(),
            (None, _) => true,
        }
    }

    /// How long the rest of the answer's body is.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match (&self.incoming, &self.link) {
            (Some(incoming), _) => incoming.size_hint(),
            (None, Some(Link { driver: Driver::Request(exchange), .. })) => {
                exchange.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            (None, _) => SizeHint::with_exact(0),
        }
    }

    /// This answer is the connection's last.
    pub(crate) fn use_no_more(&mut self) {
        self.idle_max = 0;
    }

    /// Both request and answer are over: the next request may use the connection.
    pub(crate) fn give_back(mut self) {
        if let Some(mut link) = self.link.take() {
            link.rest(Instant::now());
            self.home.push(self.lease.backend.id, link, self.idle_max);
        }
    }

    /// Something is left on the connection: nobody may use it again.
    pub(crate) fn cut(self) {
        drop(self);
    }
}

/// Polls for an answer until there is one or the backend has taken too long.
async fn answered<T>(
    alarms: &Rc<Alarms>,
    upload: &Upload,
    patience: Patience,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, Unanswered>>,
) -> Result<T, Unanswered> {
    let mut alarm = alarms.alarm();
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answered) = poll(cx) {
            return Poll::Ready(answered);
        }
        let now = Instant::now();
        let due = match upload.finished() {
            Some(at) => at + patience.header,
            // Looked at again below: a client that sends nothing is no fault of the backend's.
            None if upload.waits() => now + patience.upload,
            None => upload.last() + patience.upload,
        };
        if due <= now {
            let failure = Failure::HeaderTimeout;
            return Poll::Ready(Err(Unanswered { failure, unwritten: false, request: None }));
        }
        // While the upload goes on the end of it may bring an earlier deadline.
        alarm.set(due.min(now + patience.header), cx);
        Poll::Pending
    })
    .await
}

fn classify(error: &hyper::Error, upload: &Upload) -> Failure {
    if let Some(failure) = upload.broken() {
        failure
    } else if error.is_parse() {
        Failure::BadResponse
    } else {
        Failure::Reset
    }
}
