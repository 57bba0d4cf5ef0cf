//! One request from its due time to its outcome: addresses, tries, deadlines.
//!
//! ```text
//! due -> sent (lag) -> [dns] -> try 1 (connect, head | try deadline) -> body -> outcome
//!                                 \-> try 2 elsewhere (what is left of the total deadline)
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{COOKIE, HOST};
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{timeout, timeout_at};

use super::names::Names;
use super::outcome::{Check, ErrorClass, Observed, Outcome};
use super::plan::{Plan, RequestSpec};
use super::pool::Pool;
use super::recorder::{Finished, Recorder, Verdict};
use super::retry::{Next, decide, may_repeat};
use crate::http_client::{BodyFault, Connection, CookieJar, Response, collect, open};

/// A visitor.
#[derive(Debug)]
struct User {
    names: Names,
    // Locked only around reading and writing the map, never across an await.
    jar: Mutex<CookieJar>,
}

/// Everything that the requests of one plan share.
#[derive(Debug)]
pub(super) struct Client {
    plan: Plan,
    started: Instant,
    users: Vec<User>,
    pool: Pool,
    opened: AtomicU64,
    recorder: Mutex<Recorder>,
}

/// How far a request has come; survives its being cut off by the total deadline.
#[derive(Debug, Default)]
struct Trail {
    tries: u32,
    address: Option<SocketAddr>,
    head: Option<http::StatusCode>,
    connecting: bool,
}

impl Client {
    pub(super) fn new(plan: Plan, started: Instant, recorder: Recorder) -> Self {
        let user = |_| User { names: Names::new(&plan.target), jar: Mutex::default() };
        Self {
            users: (0..plan.users).map(user).collect(),
            pool: Pool::new(plan.limits.idle_per_address_max, plan.limits.idle_timeout),
            opened: AtomicU64::new(0),
            recorder: Mutex::new(recorder),
            started,
            plan,
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that fell due while too many were in flight.
    pub(super) fn refuse(&self, sequence: u64, due: Duration) {
        let lag = self.started.elapsed().saturating_sub(due);
        let outcome = Outcome::Failed { class: ErrorClass::Saturated, reason: "too many in flight".into() };
        let spec = self.plan.mix.request(sequence);
        self.finish(sequence, due, lag, &spec, &Trail::default(), &outcome);
    }

    /// Sends one request now and records how it ended.
    pub(super) async fn send(&self, sequence: u64, due: Duration) {
        let lag = self.started.elapsed().saturating_sub(due);
        self.recorder().sent();
        let spec = self.plan.mix.request(sequence);
        let mut trail = Trail::default();
        let deadline = self.started + due + self.plan.limits.total_deadline;
        let tries = self.tries(self.user(sequence), &spec, &mut trail);
        let outcome = match timeout_at(deadline.into(), tries).await {
            Ok(outcome) => outcome,
            Err(_) => out_of_time(&trail),
        };
        self.finish(sequence, due, lag, &spec, &trail, &outcome);
    }

    fn user(&self, sequence: u64) -> &User {
        &self.users[self.user_number(sequence)]
    }

    fn user_number(&self, sequence: u64) -> usize {
        usize::try_from(sequence % self.users.len() as u64).unwrap_or(0)
    }

    fn finish(
        &self,
        sequence: u64,
        due: Duration,
        lag: Duration,
        spec: &RequestSpec,
        trail: &Trail,
        outcome: &Outcome,
    ) {
        let latency = self.started.elapsed().saturating_sub(due);
        let check = self.plan.observer.as_ref().map_or(Check::Accept, |observer| {
            (observer.0)(&Observed {
                sequence,
                client: self.plan.kind,
                user: self.user_number(sequence),
                request: spec,
                outcome,
                address: trail.address,
                tries: trail.tries,
                due,
                latency,
            })
        });
        let verdict = match (outcome, outcome.error_class(), check) {
            (Outcome::Truncated { .. }, _, _) => Verdict::Truncated,
            (_, Some(class), _) => Verdict::Failed(class),
            (_, None, Check::Reject) => Verdict::Failed(ErrorClass::Content),
            (_, None, Check::Accept) => Verdict::Ok,
        };
        let finished = Finished { due, lag, latency, verdict, address: trail.address, tries: trail.tries };
        let opened = self.opened.load(Ordering::Relaxed);
        self.recorder().record(&finished, opened, || reason(outcome));
    }

    async fn tries(&self, user: &User, spec: &RequestSpec, trail: &mut Trail) -> Outcome {
        let addresses = match user.names.addresses().await {
            Ok(addresses) => addresses,
            Err(error) => return Outcome::Failed { class: ErrorClass::Dns, reason: error.to_string() },
        };
        let most = addresses.len().min(self.plan.limits.tries_max);
        for (number, address) in addresses[..most].iter().enumerate() {
            let has_next = number + 1 < most;
            trail.tries += 1;
            trail.address = Some(*address);
            let outcome = self.one_try(*address, user, spec, has_next, trail).await;
            if decide(self.plan.kind, spec.idempotent, has_next, &outcome) == Next::Done {
                return outcome;
            }
        }
        Outcome::Failed { class: ErrorClass::Dns, reason: "the name has no address".into() }
    }

    async fn one_try(
        &self,
        address: SocketAddr,
        user: &User,
        spec: &RequestSpec,
        has_next: bool,
        trail: &mut Trail,
    ) -> Outcome {
        let repeatable = may_repeat(self.plan.kind, spec.idempotent, has_next);
        let head = self.head(address, user, spec, trail);
        let answered = if repeatable {
            timeout(self.plan.limits.try_deadline, head).await.unwrap_or_else(|_| {
                Err((ErrorClass::Timeout, format!("no head within {:?}", self.plan.limits.try_deadline)))
            })
        } else {
            head.await
        };
        let (connection, response) = match answered {
            Ok(answered) => answered,
            Err((class, reason)) => return Outcome::Failed { class, reason },
        };
        trail.head = Some(response.status());
        self.body(address, user, connection, response).await
    }

    /// Sends the request and reads the response's head. A kept-alive connection that turns out closed before a byte
    /// was written is no try: the request goes out on a new one.
    async fn head(
        &self,
        address: SocketAddr,
        user: &User,
        spec: &RequestSpec,
        trail: &mut Trail,
    ) -> Result<(Connection, http::Response<Incoming>), (ErrorClass, String)> {
        let mut request = self.build(user, spec)?;
        if let Some(mut kept) = self.pool.take(address, Instant::now())
            && kept.sender.ready().await.is_ok()
        {
            match kept.sender.try_send_request(request).await {
                Ok(response) => return Ok((kept, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(error.error())),
                },
            }
        }
        trail.connecting = true;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let late = |_| {
            (
                ErrorClass::Connect,
                format!("no connection to {address} within {:?}", self.plan.limits.connect_deadline),
            )
        };
        let mut fresh = timeout(self.plan.limits.connect_deadline, open(address))
            .await
            .map_err(late)?
            .map_err(|error| (ErrorClass::Connect, error.to_string()))?;
        trail.connecting = false;
        match fresh.sender.send_request(request).await {
            Ok(response) => Ok((fresh, response)),
            Err(error) => Err(broken(&error)),
        }
    }

    async fn body(
        &self,
        address: SocketAddr,
        user: &User,
        connection: Connection,
        response: http::Response<Incoming>,
    ) -> Outcome {
        let (head, body) = response.into_parts();
        match collect(body, self.plan.limits.body_bytes_max).await {
            Ok(body) => {
                self.pool.give_back(address, connection, Instant::now());
                if self.plan.cookies {
                    user.jar.lock().unwrap_or_else(PoisonError::into_inner).store(&head.headers);
                }
                Outcome::Complete(Response { status: head.status, headers: head.headers, body })
            }
            Err((BodyFault::Cut, reason)) => Outcome::Truncated { status: head.status, reason },
            Err((BodyFault::TooLong, reason)) => Outcome::Failed { class: ErrorClass::Content, reason },
        }
    }

    fn build(&self, user: &User, spec: &RequestSpec) -> Result<Request<Full<Bytes>>, (ErrorClass, String)> {
        let bad = |reason: String| (ErrorClass::Protocol, format!("the request cannot be built: {reason}"));
        let mut request = Request::new(Full::new(spec.body.clone()));
        *request.method_mut() = spec.method.clone();
        *request.uri_mut() = spec.path.parse().map_err(|error| bad(format!("{}: {error}", spec.path)))?;
        *request.headers_mut() = spec.headers.clone();
        let host = HeaderValue::from_str(&self.plan.host).map_err(|error| bad(error.to_string()))?;
        request.headers_mut().entry(HOST).or_insert(host);
        if self.plan.cookies {
            let cookies = user.jar.lock().unwrap_or_else(PoisonError::into_inner).header();
            if let Some(cookies) = cookies {
                request.headers_mut().insert(COOKIE, cookies);
            }
        }
        Ok(request)
    }
}

fn broken(error: &hyper::Error) -> (ErrorClass, String) {
    let class = if error.is_parse() { ErrorClass::Protocol } else { ErrorClass::Reset };
    (class, format!("{error:?}"))
}

/// What the total deadline cut off.
fn out_of_time(trail: &Trail) -> Outcome {
    let (class, stage) = match (trail.address, trail.connecting, trail.head) {
        (None, ..) => (ErrorClass::Dns, "the name's addresses"),
        (_, true, _) => (ErrorClass::Connect, "a connection"),
        (_, false, None) => (ErrorClass::Timeout, "a response"),
        (_, false, Some(_)) => (ErrorClass::Timeout, "the rest of a body"),
    };
    Outcome::Failed { class, reason: format!("out of time waiting for {stage}") }
}

fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Complete(response) if response.status.is_success() => "its content was refused".into(),
        Outcome::Complete(response) => format!("status {}", response.status),
        Outcome::Truncated { status, reason } => format!("body of a {status} was cut: {reason}"),
        Outcome::Failed { reason, .. } => reason.clone(),
    }
}
