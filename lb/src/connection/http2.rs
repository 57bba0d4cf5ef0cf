//! HTTP/2 towards a client: every stream is one request, served by a task of its own on the same thread.
//!
//! hyper's HTTP/2 knows no deadlines of streams. Each has its own notes here; the connection's one watchdog looks at all of
//! them, and ends the task of a stream that is late, which resets that stream and no other (RFC 9113, 6.4).

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body::Body as _;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::debug;

use super::Client;
use super::io::Watched;
use super::progress::{Progress, look_every};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proxy;

/// Serves one connection until either side ends it.
pub(super) async fn serve<S>(stream: S, client: Rc<Client>, config: Arc<Config>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let streams = Rc::new(Streams::new(Instant::now(), config.pools[0].upstream.body_timeout));
    let io = TokioIo::new(Watched::new(stream, Rc::clone(&streams.connection)));
    let service = service_fn(|request| {
        // What h2 still hands out while we linger is asked by nobody any more, and reset.
        let progress = (!streams.connection.is_lingering()).then(|| streams.begin(Instant::now()));
        let (client, streams) = (Rc::clone(&client), Rc::clone(&streams));
        async move {
            let Some(progress) = progress else { return std::future::pending().await };
            let mut unanswered = Unanswered(Some(streams));
            let response = proxy::serve(client, Rc::clone(&progress), request).await;
            unanswered.answered();
            if !response.body().is_end_stream() {
                progress.handed_over(0);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let builder = builder(&streams, &config);
    let mut connection = builder.serve_connection(io, service);
    let (worker, peer) = (&client.worker, client.address);
    let metrics = &worker.shared.metrics;
    let mut stopping = pin!(worker.stopping.cancelled());
    let mut told = false;
    loop {
        let goodbye = tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    if is_flood(&error) {
                        metrics.connection_cut("flood");
                    }
                    debug!(%peer, %error, "client connection ended");
                }
                break;
            }
            reason = streams.watch(&config, metrics) => {
                metrics.connection_cut(reason);
                debug!(%peer, reason, "client connection cut");
                // An idle client is told first; it has the time of a head to go by itself.
                if told || reason != KEEP_ALIVE { break }
                streams.connection.closing(Instant::now());
                true
            }
            () = streams.changed.notified() => {
                if streams.abused(config.http2.resets_max) {
                    metrics.connection_cut("resets");
                    debug!(%peer, "client connection cut: it cancels what it asks for");
                    break;
                }
                streams.begun() >= config.server.requests_per_connection_max
            }
            () = stopping.as_mut(), if !told => true,
        };
        if goodbye && !told {
            told = true;
            streams.connection.says_goodbye();
            streams.connection.hurry(Instant::now());
            // GOAWAY: what has begun is finished, nothing new is taken.
            Pin::new(&mut connection).graceful_shutdown();
        }
    }
    streams.abort_all();
}

/// The reason of a cut for idleness, as [`Progress`] names it.
const KEEP_ALIVE: &str = "keep-alive";

fn builder(streams: &Rc<Streams>, config: &Config) -> http2::Builder<OnThisThread> {
    let limits = &config.http2;
    let mut builder = http2::Builder::new(OnThisThread(Rc::clone(streams)));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_header_list_size(u32::try_from(config.server.header_bytes_max).unwrap_or(u32::MAX))
        .max_send_buf_size(limits.send_buffer_max)
        // Of those that it cancels before we have seen them h2 would take 20.
        .max_pending_accept_reset_streams(usize::try_from(limits.resets_max).unwrap_or(usize::MAX))
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout);
    builder
}

/// Whether h2 has ended the connection because its client makes work for nothing: resets that come faster than we can look at
/// them, heads without an end, empty frames.
fn is_flood(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_library() && cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// The streams of one connection.
struct Streams {
    connection: Rc<Progress>,
    open: RefCell<Vec<Open>>,
    begun: Cell<u64>,
    /// Begun a moment ago, without a task yet.
    fresh: Cell<Option<u64>>,
    /// Requests that the client cancelled before they were answered, and all others that are over.
    cancelled: Cell<u64>,
    answered: Cell<u64>,
    changed: Notify,
}

struct Open {
    id: u64,
    progress: Rc<Progress>,
    task: Option<AbortHandle>,
}

impl Streams {
    fn new(now: Instant, answer_max: Duration) -> Self {
        Self {
            connection: Rc::new(Progress::http2(now, answer_max)),
            open: RefCell::default(),
            begun: Cell::new(0),
            fresh: Cell::new(None),
            cancelled: Cell::new(0),
            answered: Cell::new(0),
            changed: Notify::new(),
        }
    }

    fn begin(&self, now: Instant) -> Rc<Progress> {
        let id = self.connection.begin(now);
        let progress = Rc::new(self.connection.stream(now));
        self.open.borrow_mut().push(Open { id, progress: Rc::clone(&progress), task: None });
        self.begun.set(id);
        self.fresh.set(Some(id));
        self.changed.notify_one();
        progress
    }

    fn begun(&self) -> u64 {
        self.begun.get()
    }

    fn end(&self, id: u64) {
        let mut open = self.open.borrow_mut();
        open.retain(|one| one.id != id);
        if open.is_empty() {
            self.connection.finish(Instant::now());
        }
    }

    /// Whether far more was cancelled than finished: every request that is begun and cancelled costs us much and its client
    /// nothing (CVE-2023-44487). People who leave pages early stay far below.
    fn abused(&self, resets_max: u64) -> bool {
        self.cancelled.get() > self.answered.get() + resets_max
    }

    /// Ends streams that are late; returns when the connection itself is.
    async fn watch(&self, config: &Config, metrics: &Metrics) -> &'static str {
        let limits = &config.server.deadlines;
        let look = look_every(config);
        loop {
            let now = Instant::now();
            if let Some((due, name)) = self.connection.due(limits)
                && due <= now
            {
                return name;
            }
            for one in self.open.borrow().iter() {
                let late = one.progress.due(limits).filter(|(due, _)| *due <= now).map(|(_, name)| name);
                if let Some(name) = late.or_else(|| one.progress.slow(limits, now))
                    && let Some(task) = one.task.as_ref().filter(|task| !task.is_finished())
                {
                    one.progress.cut(name);
                    metrics.stream_cut(name);
                    task.abort();
                }
            }
            tokio::time::sleep(look).await;
        }
    }

    fn abort_all(&self) {
        for one in self.open.borrow().iter() {
            if let Some(task) = &one.task {
                task.abort();
            }
        }
    }
}

/// A request on its way. Dropped before there is an answer, its client has cancelled it.
struct Unanswered(Option<Rc<Streams>>);

impl Unanswered {
    fn answered(&mut self) {
        if let Some(streams) = self.0.take() {
            streams.answered.set(streams.answered.get() + 1);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(streams) = self.0.take() {
            streams.cancelled.set(streams.cancelled.get() + 1);
            streams.changed.notify_one();
        }
    }
}

/// Takes a stream off the list when its task is over, however it ended.
struct Listed {
    streams: Rc<Streams>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.streams.end(self.id);
    }
}

/// Spawns the task of a stream. hyper asks for one right after it has called the service, so the stream that was begun last is
/// the one that it is for.
#[derive(Clone)]
struct OnThisThread(Rc<Streams>);

impl<F> Executor<F> for OnThisThread
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let Some(id) = self.0.fresh.take() else {
            tokio::task::spawn_local(stream);
            return;
        };
        let listed = Listed { streams: Rc::clone(&self.0), id };
        let task = tokio::task::spawn_local(async move {
            let _listed = listed;
            stream.await;
        });
        if let Some(open) = self.0.open.borrow_mut().iter_mut().find(|one| one.id == id) {
            open.task = Some(task.abort_handle());
        }
    }
}
