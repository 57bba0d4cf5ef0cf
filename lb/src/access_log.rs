//! The access log: one line a request, as JSON or in HAProxy's format, given to the kit's writer a few times a second. Off, it
//! costs one look at a flag.

mod escape;
mod line;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use service_kit::lines::{self, Batch, Target};
use tokio::sync::mpsc;

pub(crate) use line::{Entry, Server, Words};

/// The age at which a line is handed over at the latest.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Haproxy,
}

/// `[access_log]`, parsed; nothing at all when it is off.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AccessLog {
    pub(crate) format: Format,
    pub(crate) target: Target,
    /// The share of requests that ended well that is logged; of the others every one is.
    pub(crate) sample: f64,
}

/// What all workers share: the way to the writer.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    lines: lines::Outlet,
    /// The balancer's own name, as syslog's prefix needs it.
    instance: Arc<str>,
}

/// The workers' end and the writer's end.
pub(crate) fn channel(dropped: Counter, instance: &str) -> (Outlet, mpsc::Receiver<Batch>) {
    let (lines, inbox) = lines::channel(dropped);
    (Outlet { lines, instance: Arc::from(instance) }, inbox)
}

/// One worker's lines that were not handed over yet.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: RefCell<lines::Lines>,
    instance: Arc<str>,
}

impl Lines {
    pub(crate) fn new(outlet: Outlet) -> Self {
        Self { lines: RefCell::new(lines::Lines::new(outlet.lines)), instance: outlet.instance }
    }

    /// Adds one line, if the sample wants it.
    pub(crate) fn push(&self, log: &AccessLog, entry: &Entry<'_>) {
        if entry.ended_well() && log.sample < 1.0 && fastrand::f64() >= log.sample {
            return;
        }
        self.lines.borrow_mut().push(|bytes| match log.format {
            Format::Json => line::json(bytes, entry),
            Format::Haproxy => line::haproxy(bytes, entry, &self.instance),
        });
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        self.lines.borrow_mut().flush();
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
        assert_eq!(inbox.try_recv().unwrap().lines(), 100);
    }
}
