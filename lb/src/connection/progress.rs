//! What a connection, or one stream of it, waits for and since when. Notes only: whoever watches compares them with the limits.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::config::{ClientDeadlines, Config};
use crate::head::{Facts, Heads};
use crate::limits::Pace;

/// Where a connection stands between its client and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    FirstByte,
    /// The same after the stop.
    LastCall,
    Header,
    Busy,
    KeepAlive,
    /// We have closed our side and read on until the client has closed its own.
    Lingering,
}

/// Whose notes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A connection that carries one request at a time: its reads and writes are the request's.
    Http1,
    /// A connection of many streams.
    Http2,
    /// One of the many.
    Stream,
}

/// What one connection waits for, and since when.
#[derive(Debug)]
pub(crate) struct Progress {
    of: Of,
    phase: Cell<(Phase, Instant)>,
    /// HTTP/2: we have said that we take no more.
    goodbye: Cell<bool>,
    requests: Cell<u64>,
    /// The client owes us its request's body.
    body: Cell<Option<Instant>>,
    /// The backend owes us its answer's body.
    answer: Cell<Option<Instant>>,
    /// For how long it may: its pool decides.
    answer_max: Cell<Duration>,
    /// The client takes nothing of what we send.
    write: Cell<Option<Instant>>,
    /// The request heads among the bytes read.
    heads: RefCell<Heads>,
    /// The deadline that ended it.
    cut: Cell<Option<&'static str>>,
    /// How fast the client sends its request's body, and takes its answer's.
    upload: Pace,
    download: Pace,
}

/// The names of the deadlines that end connections and streams, and of other reasons to.
pub(crate) const CUTS: [&str; 13] = [
    "first-byte",
    "header",
    "keep-alive",
    "request-body",
    "answer-body",
    "write",
    "linger",
    "tunnel",
    "resets",
    "flood",
    "proxy-header",
    "handshake",
    "tls",
];

impl Progress {
    fn new(of: Of, now: Instant, answer_max: Duration) -> Self {
        let none = || Cell::new(None);
        Self {
            of,
            phase: Cell::new((Phase::FirstByte, now)),
            goodbye: Cell::new(false),
            requests: Cell::new(0),
            body: none(),
            answer: none(),
            answer_max: Cell::new(answer_max),
            write: none(),
            heads: RefCell::new(Heads::new()),
            cut: Cell::new(None),
            upload: Pace::default(),
            download: Pace::default(),
        }
    }

    pub(super) fn http1(now: Instant, answer_max: Duration) -> Self {
        Self::new(Of::Http1, now, answer_max)
    }

    pub(super) fn http2(now: Instant, answer_max: Duration) -> Self {
        Self::new(Of::Http2, now, answer_max)
    }

    /// Of one stream of this connection.
    pub(super) fn stream(&self, now: Instant) -> Self {
        Self::new(Of::Stream, now, self.answer_max.get())
    }

    /// A request's head is complete; returns how many there were on this connection.
    pub(crate) fn begin(&self, now: Instant) -> u64 {
        self.phase.set((Phase::Busy, now));
        self.upload.restart();
        self.download.restart();
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    /// What the bytes of that request's head said. Asked once for each, in order. HTTP/2 hides nothing of it.
    pub(crate) fn facts(&self) -> Facts {
        if self.of == Of::Http1 { self.heads.borrow_mut().take() } else { Facts::default() }
    }

    /// Its answer is over.
    pub(crate) fn finish(&self, now: Instant) {
        // A stream has no other request after it.
        if self.of != Of::Stream && self.phase.get().0 != Phase::Lingering {
            self.phase.set((Phase::KeepAlive, now));
        }
        self.body.set(None);
        self.answer.set(None);
        if self.of == Of::Stream {
            self.write.set(None);
        }
    }

    /// A request is on its way, or the first may be.
    pub(super) fn is_asking(&self) -> bool {
        match self.phase.get().0 {
            Phase::FirstByte | Phase::LastCall | Phase::Header => true,
            // It came behind the one before, whose answer is taken.
            Phase::KeepAlive => !self.is_draining() && self.heads.borrow().has_begun(),
            Phase::Busy | Phase::Lingering => false,
        }
    }

    /// We are stopping: a client that has not begun to ask has a little time, and half a head that of a whole one.
    pub(super) fn hurry(&self, now: Instant) {
        match self.phase.get().0 {
            Phase::FirstByte => self.phase.set((Phase::LastCall, now)),
            Phase::KeepAlive if self.is_asking() => self.phase.set((Phase::Header, now)),
            _ => {}
        }
    }

    /// GOAWAY without an error was said: the connection ends in peace.
    pub(super) fn says_goodbye(&self) {
        self.goodbye.set(true);
    }

    /// The connection of many.
    pub(super) fn is_http2(&self) -> bool {
        self.of == Of::Http2
    }

    /// One of many on its connection, which buffers what its client has no window for.
    pub(crate) fn is_stream(&self) -> bool {
        self.of == Of::Stream
    }

    /// A deadline ends it.
    pub(super) fn cut(&self, deadline: &'static str) {
        self.cut.set(Some(deadline));
    }

    /// Which deadline ended it, if one did.
    pub(crate) fn cut_by(&self) -> Option<&'static str> {
        self.cut.get()
    }

    /// No more requests are taken; what the other side has to do about it has the deadline of a head.
    pub(super) fn closing(&self, now: Instant) {
        self.phase.set((Phase::Header, now));
    }

    /// Whether more may come that is no offence: the rest of a request that was answered before its end, what follows it, or
    /// the frames of HTTP/2 that cross our goodbye.
    pub(super) fn may_be_sent_more(&self) -> bool {
        if self.of == Of::Http1 { !self.heads.borrow().is_between() } else { self.goodbye.get() }
    }

    pub(super) fn is_lingering(&self) -> bool {
        self.phase.get().0 == Phase::Lingering
    }

    /// Our side is closed.
    pub(super) fn lingers(&self, now: Instant) {
        self.phase.set((Phase::Lingering, now));
        self.body.set(Some(now));
    }

    /// The client still sends.
    pub(super) fn lingered(&self, now: Instant) {
        self.body.set(Some(now));
    }

    pub(crate) fn body(&self, waits: bool) {
        note_paced(&self.body, waits, &self.upload);
    }

    /// So many bytes of the request's body came.
    pub(crate) fn received(&self, bytes: usize) {
        self.upload.moved(bytes);
    }

    pub(crate) fn answer(&self, waits: bool) {
        note(&self.answer, waits);
    }

    /// The pool that answers is known, and with it how long it may be silent.
    pub(crate) fn answer_within(&self, limit: Duration) {
        self.answer_max.set(limit);
    }

    /// So many bytes of an answer were handed over. While the window of a stream's client is full nobody asks for more.
    pub(crate) fn handed_over(&self, bytes: usize) {
        self.download.moved(bytes);
        if self.of == Of::Stream {
            note(&self.write, true);
        }
    }

    /// More of a stream's answer is asked for.
    pub(crate) fn asked_for(&self) {
        if self.of == Of::Stream {
            note_paced(&self.write, false, &self.download);
        }
    }

    pub(super) fn has_read(&self, bytes: &[u8]) {
        if self.of == Of::Http1 {
            self.heads.borrow_mut().feed(bytes);
        }
        match self.phase.get().0 {
            Phase::FirstByte | Phase::LastCall => self.phase.set((Phase::Header, Instant::now())),
            // In HTTP/2 a ping is no request: a connection that has nothing else to say is idle.
            Phase::KeepAlive if self.of == Of::Http1 => self.phase.set((Phase::Header, Instant::now())),
            _ => {}
        }
        if let Some(since) = self.body.get() {
            let now = Instant::now();
            self.upload.waited(now.saturating_duration_since(since));
            self.body.set(Some(now));
        }
    }

    /// These bytes were written, and were the last so far. What h2 ends a connection with is its last frame, also where the
    /// client has said goodbye first.
    pub(super) fn has_ended_with(&self, bytes: &[u8]) {
        if self.is_http2() && is_peaceful_goodbye(bytes) {
            self.says_goodbye();
        }
    }

    pub(super) fn has_written(&self, waits: bool) {
        let waited = self.write.get().is_some();
        note_paced(&self.write, waits, &self.download);
        if !waits {
            // An answer that is over for us is over for its client only when all of it is taken.
            if waited && self.phase.get().0 == Phase::KeepAlive {
                self.phase.set((Phase::KeepAlive, Instant::now()));
            }
            // While a slow client drains what is buffered, nobody asks the backend for more: not its fault.
            renew(&self.answer);
        }
    }

    /// What was written is on its way, or is not yet: TLS takes bytes before the socket does.
    pub(super) fn has_flushed(&self, waits: bool) {
        if waits || self.write.get().is_some() {
            self.has_written(waits);
        }
    }

    /// Which way the client is too slow, if it is.
    pub(super) fn slow(&self, limits: &ClientDeadlines, now: Instant) -> Option<&'static str> {
        let waiting = |cell: &Cell<Option<Instant>>| {
            cell.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
        };
        let busy = self.phase.get().0 == Phase::Busy;
        if self.of == Of::Http2 || !(busy || self.is_draining()) {
            None
        } else if busy && self.upload.is_slow(limits.upload, waiting(&self.body)) {
            Some("slow-upload")
        } else if self.download.is_slow(limits.download, waiting(&self.write)) {
            Some("slow-download")
        } else {
            None
        }
    }

    /// The end of an answer waits in our buffers for its client: it is not idle, and the deadlines of writing hold.
    fn is_draining(&self) -> bool {
        self.phase.get().0 == Phase::KeepAlive && self.write.get().is_some()
    }

    /// The deadline that is nearest, and its name.
    pub(super) fn due(&self, limits: &ClientDeadlines) -> Option<(Instant, &'static str)> {
        let (phase, since) = self.phase.get();
        let phase = match phase {
            Phase::Lingering => {
                let silent = self.body.get().unwrap_or(since) + limits.linger;
                return Some((silent.min(since + limits.body), "linger"));
            }
            Phase::FirstByte => Some((since + limits.first_byte, "first-byte")),
            Phase::LastCall => Some((since + limits.linger.min(limits.first_byte), "first-byte")),
            Phase::Header => Some((since + limits.header, "header")),
            Phase::KeepAlive if self.is_draining() => None,
            Phase::KeepAlive => Some((since + limits.keep_alive, "keep-alive")),
            // A connection of many streams has no request of its own.
            Phase::Busy if self.of == Of::Http2 => None,
            Phase::Busy => limits.total.map(|total| (since + total, "total")),
        };
        let waits = |cell: &Cell<Option<Instant>>, limit, name| cell.get().map(|since| (since + limit, name));
        [
            phase,
            waits(&self.body, limits.body, "request-body"),
            waits(&self.answer, self.answer_max.get(), "answer-body"),
            waits(&self.write, limits.write, "write"),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Whether they end with a GOAWAY frame of NO_ERROR (RFC 9113, 6.8).
fn is_peaceful_goodbye(bytes: &[u8]) -> bool {
    const HEAD: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    bytes.last_chunk::<17>().is_some_and(|frame| frame[..9] == HEAD && frame[13..] == [0; 4])
}

fn note(cell: &Cell<Option<Instant>>, waits: bool) {
    match (waits, cell.get()) {
        (true, None) => cell.set(Some(Instant::now())),
        (false, Some(_)) => cell.set(None),
        _ => {}
    }
}

/// The same; what was waited counts as the client's time.
fn note_paced(cell: &Cell<Option<Instant>>, waits: bool, pace: &Pace) {
    match (waits, cell.get()) {
        (true, None) => cell.set(Some(Instant::now())),
        (false, Some(since)) => {
            pace.waited(since.elapsed());
            cell.set(None);
        }
        _ => {}
    }
}

fn renew(cell: &Cell<Option<Instant>>) {
    if cell.get().is_some() {
        cell.set(Some(Instant::now()));
    }
}

/// How often the notes are looked at: a deadline is kept to about a quarter of the shortest. Lingering does not count: it is
/// short, and ten thousand idle connections need not look more often for its sake.
pub(super) fn look_every(config: &Config) -> Duration {
    let limits = &config.server.deadlines;
    let clients = [limits.first_byte, limits.header, limits.keep_alive, limits.body, limits.write];
    let answers = config.pools.iter().map(|pool| pool.upstream.body_timeout);
    let others = limits.total.into_iter().chain([limits.upload.grace]);
    clients.into_iter().chain(answers).chain(others).min().expect("seven deadlines") / 4
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
