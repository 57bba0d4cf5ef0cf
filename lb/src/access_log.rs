//! The access log: one line a request, as JSON or in HAProxy's format.
//!
//! A worker formats lines into a buffer of its own and hands the whole buffer over a few times a second; one writer thread
//! writes each with a single call. So a request costs no system call and waits for no disk. What does not fit is dropped
//! and counted: a log must not stop the traffic that it tells about. Off, it costs one look at a flag.

mod escape;
mod line;
mod writer;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

pub(crate) use line::{Entry, Server, Words};
pub(crate) use writer::{Orders, write};

/// A buffer that has so much in it is handed over at once.
const BATCH_BYTES: usize = 64 * 1_024;
/// Batches that may wait for the disk; with the workers' own buffers that is at most some 20 MiB.
pub(crate) const BATCHES_MAX: usize = 256;
/// The age at which a line is handed over at the latest.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Haproxy,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

/// `[access_log]`, parsed; nothing at all when it is off.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AccessLog {
    pub(crate) format: Format,
    pub(crate) target: Target,
    /// The share of requests that ended well that is logged; of the others every one is.
    pub(crate) sample: f64,
}

/// Whole lines on their way to the writer.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

/// What all workers share: the way to the writer, and what did not fit.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    batches: mpsc::Sender<Batch>,
    dropped: Counter,
    /// The balancer's own name, as syslog's prefix needs it.
    instance: Arc<str>,
}

/// The workers' end and the writer's end.
pub(crate) fn channel(dropped: Counter, instance: &str) -> (Outlet, mpsc::Receiver<Batch>) {
    let (batches, inbox) = mpsc::channel(BATCHES_MAX);
    (Outlet { batches, dropped, instance: Arc::from(instance) }, inbox)
}

/// One worker's lines that were not handed over yet.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    outlet: Outlet,
}

impl Lines {
    pub(crate) fn new(outlet: Outlet) -> Self {
        Self { bytes: RefCell::default(), lines: Cell::new(0), outlet }
    }

    /// Adds one line, if the sample wants it.
    pub(crate) fn push(&self, log: &AccessLog, entry: &Entry<'_>) {
        if entry.ended_well() && log.sample < 1.0 && fastrand::f64() >= log.sample {
            return;
        }
        let mut bytes = self.bytes.borrow_mut();
        match log.format {
            Format::Json => line::json(&mut bytes, entry),
            Format::Haproxy => line::haproxy(&mut bytes, entry, &self.outlet.instance),
        }
        self.lines.set(self.lines.get() + 1);
        let full = bytes.len() >= BATCH_BYTES;
        drop(bytes);
        if full {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let lines = self.lines.replace(0);
        if lines == 0 {
            return;
        }
        let bytes = self.bytes.take();
        // The next buffer is as large at once: it will hold about as much.
        *self.bytes.borrow_mut() = Vec::with_capacity(bytes.len());
        if self.outlet.batches.try_send(Batch { bytes, lines }).is_err() {
            self.outlet.dropped.inc_by(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use line::tests::{entry, words};

    fn log(sample: f64) -> AccessLog {
        AccessLog { format: Format::Json, target: Target::Stdout, sample }
    }

    #[test]
    fn what_the_writer_cannot_take_is_counted() {
        let (outlet, mut inbox) = channel(Counter::default(), "lb-1");
        let lines = Lines::new(outlet.clone());
        let words = words("/");
        for _ in 0..BATCHES_MAX + 3 {
            lines.push(&log(1.0), &entry(&words, "ahd."));
            lines.push(&log(1.0), &entry(&words, "ahd."));
            lines.flush();
        }
        assert_eq!(outlet.dropped.get(), 6);
        assert_eq!(inbox.try_recv().unwrap().lines, 2);
        lines.flush();
        assert_eq!(outlet.dropped.get(), 6, "nothing to hand over is nothing to drop");
    }

    #[test]
    fn a_sample_leaves_out_only_what_ended_well() {
        let (outlet, mut inbox) = channel(Counter::default(), "lb-1");
        let lines = Lines::new(outlet);
        let words = words("/");
        for _ in 0..100 {
            lines.push(&log(0.0), &entry(&words, "ahd."));
        }
        lines.flush();
        assert!(inbox.try_recv().is_err());
        for _ in 0..100 {
            lines.push(&log(0.0), &entry(&words, "ahd!"));
        }
        lines.flush();
        assert_eq!(inbox.try_recv().unwrap().lines, 100);
    }

    #[test]
    fn a_full_buffer_goes_at_once() {
        let (outlet, mut inbox) = channel(Counter::default(), "lb-1");
        let lines = Lines::new(outlet);
        let words = words(&format!("/{}", "a".repeat(BATCH_BYTES / 2)));
        lines.push(&log(1.0), &entry(&words, "ahd."));
        assert!(inbox.try_recv().is_err());
        lines.push(&log(1.0), &entry(&words, "ahd."));
        assert_eq!(inbox.try_recv().unwrap().lines, 2);
    }
}
