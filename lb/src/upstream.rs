//! One worker's connections to the backends.
//!
//! A stack per backend: the connection used last is used next, so the others grow old and are closed. No lock, because
//! no other thread sees them. A connection comes back only when both its request and its answer are over.

mod link;

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use crate::alarms::Alarms;
use crate::body::{RequestBody, Upload};
use crate::config::Upstream;
use crate::failure::Failure;
use crate::proxy_protocol::Pair;
use crate::snapshot::{Lease, Snapshot};
use link::Link;
pub(crate) use link::Socket;

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
        client: Option<Pair>,
        fresh: bool,
    ) -> Result<Loan, Failure> {
        let client = client.filter(|_| limits.send_proxy.is_some());
        let idle = if fresh { None } else { self.pop(lease.backend.id, limits, client, Instant::now()) };
        let reused = idle.is_some();
        let link = match idle {
            Some(link) => link,
            None => link::connect(&lease, limits, client).await?,
        };
        Ok(Loan { link: Some(link), home: Rc::clone(self), idle_max: limits.idle_max, reused, lease })
    }

    /// The one used last that can be used; those above it that no longer can are closed.
    fn pop(&self, backend: u64, limits: &Upstream, client: Option<Pair>, now: Instant) -> Option<Link> {
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.get_mut(&backend)?;
        let mut at = stack.len();
        while at > 0 {
            at -= 1;
            if !stack[at].is_usable(limits, now) {
                stack.remove(at);
            } else if stack[at].is_ready_for(client) {
                return Some(stack.remove(at));
            }
            // One that just came back may need another turn of its driver until it is ready.
        }
        None
    }

    /// Closes what is too old, and everything of backends that are gone.
    pub(crate) fn prune(&self, snapshot: &Snapshot, now: Instant) {
        self.stacks.borrow_mut().retain(|id, stack| {
            let Some(pool) = snapshot.pool_of(*id) else { return false };
            stack.retain_mut(|link| link.is_usable(&pool.config.upstream, now));
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

/// An attempt that got no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// The request itself, if not a byte of it was written.
    pub(crate) unwritten: Option<Request<RequestBody>>,
}

type PolledFrame = Result<Frame<Bytes>, hyper::Error>;

/// How long to wait for an answer's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Once the request is sent.
    pub(crate) header: Duration,
    /// For the backend to take more of the request, while it is being sent.
    pub(crate) upload: Duration,
}

impl Loan {
    /// Sends a request and waits for its answer's head.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        upload: &Upload,
        patience: Patience,
    ) -> Result<Response<Incoming>, Unanswered> {
        let link = self.link.as_mut().expect("a loan has its connection until it is given back");
        let (answer, driver) = link.send(request);
        let mut answer = std::pin::pin!(answer);
        let mut alarm = self.home.alarms.alarm();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answered) = driver.poll_for(cx, |cx| answer.as_mut().poll(cx)) {
                return Poll::Ready(answered.map_err(|mut error| {
                    let unwritten = error.take_message();
                    Unanswered { failure: classify(error.error(), upload), unwritten }
                }));
            }
            let due = match upload.finished() {
                Some(at) => at + patience.header,
                None => upload.last() + patience.upload,
            };
            let now = Instant::now();
            if due <= now {
                return Poll::Ready(Err(Unanswered { failure: Failure::HeaderTimeout, unwritten: None }));
            }
            // While the upload goes on the end of it may bring an earlier deadline.
            alarm.set(due.min(now + patience.header), cx);
            Poll::Pending
        })
        .await
    }

    /// Polls for more of the answer's body.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<PolledFrame>> {
        let link = self.link.as_mut().expect("a loan has its connection until it is given back");
        link.driver.poll_for(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
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

fn classify(error: &hyper::Error, upload: &Upload) -> Failure {
    if let Some(failure) = upload.broken() {
        failure
    } else if error.is_parse() {
        Failure::BadResponse
    } else {
        Failure::Reset
    }
}
