//! One worker's connections to the backends.
//!
//! A stack per backend: the connection used last is used next, so the others grow old and are closed. No lock, because
//! no other thread sees them. A connection comes back only when both its request and its answer are over.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tracing::debug;

use crate::body::{RequestBody, Upload};
use crate::config::Upstream;
use crate::failure::Failure;
use crate::snapshot::{Lease, Snapshot};

/// One connection to a backend.
#[derive(Debug)]
struct Link {
    sender: SendRequest<RequestBody>,
    driver: AbortHandle,
    opened: Instant,
    idle_since: Instant,
}

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    stacks: RefCell<HashMap<u64, Vec<Link>>>,
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
    /// An idle connection or a new one.
    pub(crate) async fn checkout(
        self: &Rc<Self>,
        lease: Lease,
        limits: &Upstream,
        fresh: bool,
    ) -> Result<Loan, Failure> {
        let idle = if fresh { None } else { self.pop(lease.backend.id, limits, Instant::now()) };
        let reused = idle.is_some();
        let link = match idle {
            Some(link) => link,
            None => connect(&lease, limits.connect_timeout).await?,
        };
        Ok(Loan { link: Some(link), home: Rc::clone(self), idle_max: limits.idle_max, reused, lease })
    }

    fn pop(&self, backend: u64, limits: &Upstream, now: Instant) -> Option<Link> {
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.get_mut(&backend)?;
        stack.retain(|link| is_usable(link, limits, now));
        // One that just came back may need another turn of its driver until it is ready.
        let at = stack.iter().rposition(|link| link.sender.is_ready())?;
        Some(stack.remove(at))
    }

    /// Closes what is too old, and everything of backends that are gone.
    pub(crate) fn prune(&self, snapshot: &Snapshot, limits: &Upstream, now: Instant) {
        self.stacks.borrow_mut().retain(|id, stack| {
            stack.retain(|link| is_usable(link, limits, now));
            snapshot.entries.iter().any(|entry| entry.backend.id == *id)
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

fn is_usable(link: &Link, limits: &Upstream, now: Instant) -> bool {
    !link.sender.is_closed()
        && now.saturating_duration_since(link.idle_since) < limits.idle_timeout
        && now.saturating_duration_since(link.opened) < limits.age_max
}

async fn connect(lease: &Lease, timeout: Duration) -> Result<Link, Failure> {
    let stream = match tokio::time::timeout(timeout, TcpStream::connect(lease.backend.address)).await {
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
    stream.set_nodelay(true).map_err(|_| Failure::ConnectError)?;
    lease.backend.metrics.connections_opened.inc();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Failure::ConnectError)?;
    let driver = tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            debug!(%error, "backend connection ended");
        }
    });
    let now = Instant::now();
    Ok(Link { sender, driver: driver.abort_handle(), opened: now, idle_since: now })
}

/// An attempt that got no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// The request itself, if not a byte of it was written.
    pub(crate) unwritten: Option<Request<RequestBody>>,
}

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
        let mut answer = std::pin::pin!(link.sender.try_send_request(request));
        loop {
            let now = Instant::now();
            let due = match upload.finished() {
                Some(at) => at + patience.header,
                None => upload.last() + patience.upload,
            };
            if due <= now {
                return Err(Unanswered { failure: Failure::HeaderTimeout, unwritten: None });
            }
            // While the upload goes on the end of it may bring an earlier deadline.
            let look = due.min(now + patience.header);
            tokio::select! {
                biased;
                answered = answer.as_mut() => return answered.map_err(|mut error| {
                    let unwritten = error.take_message();
                    Unanswered { failure: classify(error.error(), upload), unwritten }
                }),
                () = tokio::time::sleep_until(look.into()) => {}
            }
        }
    }

    /// Both request and answer are over: the next request may use the connection.
    pub(crate) fn give_back(mut self) {
        if let Some(mut link) = self.link.take() {
            link.idle_since = Instant::now();
            self.home.push(self.lease.backend.id, link, self.idle_max);
        }
    }

    /// Something is left on the connection: nobody may use it again.
    pub(crate) fn cut(self) {
        drop(self);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.driver.abort();
        }
    }
}

fn classify(error: &hyper::Error, upload: &Upload) -> Failure {
    if upload.is_broken() {
        Failure::ClientBody
    } else if error.is_parse() {
        Failure::BadResponse
    } else {
        Failure::Reset
    }
}
