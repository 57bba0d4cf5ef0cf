//! One client connection: hyper's HTTP/1.1 server with deadlines of our own.
//!
//! hyper has one timer for a request's head and none for anything else, and a timer per request costs. Here the socket
//! and the bodies only note what they wait for since when, and one watchdog per connection looks at the notes a few
//! times per deadline. So a deadline is kept to about a quarter of the shortest one.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

use crate::config::{ClientDeadlines, Config};
use crate::proxy;
use crate::worker::Worker;

/// Where a connection stands between its client and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    FirstByte,
    Header,
    Busy,
    KeepAlive,
}

/// What one connection waits for, and since when.
#[derive(Debug)]
pub(crate) struct Progress {
    phase: Cell<(Phase, Instant)>,
    requests: Cell<u64>,
    /// The client owes us its request's body.
    body: Cell<Option<Instant>>,
    /// The backend owes us its answer's body.
    answer: Cell<Option<Instant>>,
    /// The client takes nothing of what we send.
    write: Cell<Option<Instant>>,
}

impl Progress {
    fn new(now: Instant) -> Self {
        let none = || Cell::new(None);
        Self {
            phase: Cell::new((Phase::FirstByte, now)),
            requests: Cell::new(0),
            body: none(),
            answer: none(),
            write: none(),
        }
    }

    /// A request's head is complete; returns how many there were on this connection.
    pub(crate) fn begin(&self, now: Instant) -> u64 {
        self.phase.set((Phase::Busy, now));
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    /// Its answer is over.
    pub(crate) fn finish(&self, now: Instant) {
        self.phase.set((Phase::KeepAlive, now));
        self.body.set(None);
        self.answer.set(None);
    }

    pub(crate) fn body(&self, waits: bool) {
        note(&self.body, waits);
    }

    pub(crate) fn answer(&self, waits: bool) {
        note(&self.answer, waits);
    }

    fn has_read(&self) {
        if matches!(self.phase.get().0, Phase::FirstByte | Phase::KeepAlive) {
            self.phase.set((Phase::Header, Instant::now()));
        }
        renew(&self.body);
    }

    fn has_written(&self, waits: bool) {
        note(&self.write, waits);
        if !waits {
            // While a slow client drains what is buffered, nobody asks the backend for more: not its fault.
            renew(&self.answer);
        }
    }

    /// The deadline that is nearest, and its name.
    fn due(&self, limits: &ClientDeadlines, answer_max: Duration) -> Option<(Instant, &'static str)> {
        let (phase, since) = self.phase.get();
        let phase = match phase {
            Phase::FirstByte => Some((since + limits.first_byte, "first-byte")),
            Phase::Header => Some((since + limits.header, "header")),
            Phase::KeepAlive => Some((since + limits.keep_alive, "keep-alive")),
            Phase::Busy => None,
        };
        let waits = |cell: &Cell<Option<Instant>>, limit, name| cell.get().map(|since| (since + limit, name));
        [
            phase,
            waits(&self.body, limits.body, "request-body"),
            waits(&self.answer, answer_max, "answer-body"),
            waits(&self.write, limits.write, "write"),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

fn note(cell: &Cell<Option<Instant>>, waits: bool) {
    match (waits, cell.get()) {
        (true, None) => cell.set(Some(Instant::now())),
        (false, Some(_)) => cell.set(None),
        _ => {}
    }
}

fn renew(cell: &Cell<Option<Instant>>) {
    if cell.get().is_some() {
        cell.set(Some(Instant::now()));
    }
}

/// Returns when a deadline has passed.
async fn watch(progress: &Progress, config: &Config) -> &'static str {
    let limits = &config.server.deadlines;
    let answer_max = config.upstream.body_timeout;
    let all = [limits.first_byte, limits.header, limits.keep_alive, limits.body, limits.write, answer_max];
    let look = all.into_iter().min().expect("six deadlines") / 4;
    loop {
        let now = Instant::now();
        let next = match progress.due(limits, answer_max) {
            Some((due, name)) if due <= now => return name,
            Some((due, _)) => due.min(now + look),
            None => now + look,
        };
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Serves one connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, worker: Rc<Worker>) {
    let config = worker.shared.config.load_full();
    let progress = Rc::new(Progress::new(Instant::now()));
    let io = TokioIo::new(Watched { stream, progress: Rc::clone(&progress) });
    let service = service_fn(|request| {
        let (worker, progress) = (Rc::clone(&worker), Rc::clone(&progress));
        async move { Ok::<_, std::convert::Infallible>(proxy::serve(worker, peer, progress, request).await) }
    });
    let mut builder = http1::Builder::new();
    let header_bytes_max = config.server.header_bytes_max;
    builder.header_read_timeout(None).max_buf_size(header_bytes_max).max_header_size(header_bytes_max);
    // Beyond its default of 100 hyper allocates for each request.
    if config.server.headers_max != 100 {
        builder.max_headers(config.server.headers_max);
    }
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut watchdog = pin!(watch(&progress, &config));
    let mut stopping = pin!(worker.stopping.cancelled());
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%peer, %error, "client connection ended");
                }
                return;
            }
            reason = watchdog.as_mut() => {
                worker.shared.metrics.connection_cut(reason);
                debug!(%peer, reason, "client connection cut");
                return;
            }
            () = stopping.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The client's socket, noting its progress.
struct Watched {
    stream: TcpStream,
    progress: Rc<Progress>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.has_read();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        self.progress.has_written(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.progress.has_written(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientDeadlines = ClientDeadlines {
        first_byte: Duration::from_secs(1),
        header: Duration::from_secs(2),
        keep_alive: Duration::from_secs(3),
        body: Duration::from_secs(4),
        write: Duration::from_secs(5),
    };

    /// `r` bytes read, `b` request begins, `f` it is over; `u` the upload, `a` the answer and `w` the writing wait, in
    /// capitals no longer.
    #[track_caller]
    fn check(steps: &str, name: Option<&str>) {
        let progress = Progress::new(Instant::now());
        for step in steps.chars() {
            match step {
                'r' => progress.has_read(),
                'b' => assert!(progress.begin(Instant::now()) > 0),
                'f' => progress.finish(Instant::now()),
                'u' | 'U' => progress.body(step == 'u'),
                'a' | 'A' => progress.answer(step == 'a'),
                _ => progress.has_written(step == 'w'),
            }
        }
        let due = progress.due(&LIMITS, Duration::from_secs(6));
        assert_eq!(due.map(|(_, name)| name), name, "{steps}");
    }

    #[test]
    fn each_phase_has_its_deadline() {
        check("", Some("first-byte"));
        check("r", Some("header"));
        check("rb", None);
        check("rbf", Some("keep-alive"));
        check("rbfr", Some("header"));
    }

    #[test]
    fn a_request_in_flight_is_cut_only_for_what_is_owed() {
        check("rbu", Some("request-body"));
        check("rbuU", None);
        check("rba", Some("answer-body"));
        check("rbaA", None);
        check("rbw", Some("write"));
        check("rbwW", None);
        check("rbuaw", Some("request-body"));
    }

    #[test]
    fn reading_in_mid_request_is_not_a_new_head() {
        check("rbr", None);
    }

    #[test]
    fn an_answer_that_is_over_owes_nothing() {
        check("rbuaf", Some("keep-alive"));
    }
}
