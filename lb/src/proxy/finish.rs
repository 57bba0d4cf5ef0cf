//! The end of a request: what it came to is counted and written down, however it ended.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::StatusCode;
use http::request::Parts;

use super::Problem;
use crate::access_log::{Entry, Server, Words};
use crate::connection::{Client, Progress};
use crate::headers::{Identity, Scheme};
use crate::record::{Cause, Phase, Record, Termination};
use crate::snapshot::{self, About, Backend, Snapshot};

/// Runs when a request and its answer are over. Whoever has it can note what happens to the request.
#[derive(Debug)]
pub(crate) struct Finish {
    client: Rc<Client>,
    progress: Rc<Progress>,
    record: RefCell<Record>,
    /// Only while there is an access log.
    logged: Option<Box<RefCell<Logged>>>,
}

/// What a line of the log needs besides the record.
#[derive(Debug)]
struct Logged {
    words: Words,
    snapshot: Arc<Snapshot>,
    pool: Option<Arc<str>>,
    server: Option<(Arc<About>, Arc<Backend>)>,
}

impl Finish {
    pub(crate) fn begin(
        client: &Rc<Client>,
        progress: &Rc<Progress>,
        snapshot: &Arc<Snapshot>,
        (head, identity): (&Parts, &Identity),
        now: Instant,
    ) -> Self {
        let metrics = &client.worker.shared.metrics;
        metrics.requests.inc();
        metrics.inflight.inc();
        metrics.version(head.version);
        let logged = snapshot.config.access_log.is_some().then(|| {
            let words = Words::new(client.address, &head.method, &head.uri, head.version, &head.headers);
            let words = words.of_request(identity.id.clone());
            let snapshot = Arc::clone(snapshot);
            Box::new(RefCell::new(Logged { words, snapshot, pool: None, server: None }))
        });
        Self {
            client: Rc::clone(client),
            progress: Rc::clone(progress),
            record: RefCell::new(Record::new(now)),
            logged,
        }
    }

    pub(crate) fn record(&self) -> RefMut<'_, Record> {
        self.record.borrow_mut()
    }

    /// Where the request belongs.
    pub(crate) fn routed(&self, pool: &snapshot::Pool) {
        if let Some(logged) = &self.logged {
            logged.borrow_mut().pool = Some(Arc::clone(&pool.config.name));
        }
    }

    /// A backend is asked.
    pub(crate) fn asks(&self, entry: &snapshot::Entry, now: Instant) {
        self.record().attempt(now);
        if let Some(logged) = &self.logged {
            logged.borrow_mut().server = Some((Arc::clone(&entry.about), Arc::clone(&entry.backend)));
        }
    }

    /// An answer without a body that no backend made, or one after which the connection is a tunnel.
    pub(super) fn bodiless(&self, status: StatusCode) {
        let mut record = self.record();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            record.answered(status, Instant::now());
            record.complete();
        } else {
            record.refuse(status, Termination::new(Cause::Local, Phase::Request, "redirect"));
        }
    }

    /// The balancer answers itself.
    pub(super) fn refused(&self, problem: &Problem, bytes: usize) {
        let mut record = self.record();
        let termination = match problem {
            Problem::Refused(refusal) => Termination::new(Cause::Proxy, Phase::Request, refusal.kind()),
            Problem::TooMany(_) => Termination::new(Cause::Proxy, Phase::Request, problem.kind()),
            Problem::Failed(failure) => Termination::failed(*failure, record.phase),
        };
        record.refuse(problem.status(), termination);
        record.bytes_out = bytes as u64;
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let now = Instant::now();
        let record = self.record.get_mut();
        if let Some(deadline) = self.progress.cut_by() {
            record.end(Termination::cut(deadline, record.phase));
        }
        let total = now.saturating_duration_since(record.started);
        let metrics = &self.client.worker.shared.metrics;
        metrics.latency.observe(total);
        metrics.inflight.dec();
        self.progress.finish(now);
        let Some(logged) = &mut self.logged else { return };
        let Logged { words, snapshot, pool, server } = logged.get_mut();
        let Some(log) = &snapshot.config.access_log else { return };
        let server = server.as_ref().map(|(about, backend)| Server {
            name: about.instance.as_deref().unwrap_or("unnamed"),
            address: backend.address,
            inflight: backend.inflight(),
        });
        let entry = Entry {
            words,
            record,
            listener: if self.client.scheme == Scheme::Https { "https" } else { "http" },
            pool: pool.as_deref().unwrap_or_default(),
            server,
            now: SystemTime::now(),
            total,
            connections: metrics.connections.get(),
            inflight: metrics.inflight.get(),
        };
        self.client.worker.log.push(log, &entry);
    }
}
