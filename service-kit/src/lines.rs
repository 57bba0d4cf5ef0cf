//! Lines for a log that must not hold up what it tells about: an access log, a query log.
//!
//! A worker formats lines into a buffer of its own and hands the whole buffer over; one writer thread writes each with a
//! single call. So a line costs no system call and waits for no disk. What does not fit is dropped and counted: a log must
//! not stop the traffic that it tells about.

mod writer;

use std::path::PathBuf;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

pub use writer::{Orders, write};

use crate::Invalid;

/// A buffer that has so much in it is handed over at once.
pub const BATCH_BYTES: usize = 64 * 1_024;
/// Batches that may wait for the disk; with the workers' own buffers that is at most some 20 MiB.
pub const BATCHES_MAX: usize = 256;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Stdout,
    File(PathBuf),
}

impl Target {
    /// `stdout`, or a path. `key` is the key of the configuration that says so.
    pub fn parse(key: &str, text: &str) -> Result<Self, Invalid> {
        match text {
            "" => {
                let remedy = "write a path, stdout, or format = \"off\"";
                Err(Invalid::new(key, "''", "no place for the lines", remedy))
            }
            "stdout" => Ok(Self::Stdout),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

/// Whole lines on their way to the writer.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl Batch {
    /// How many there are.
    pub fn lines(&self) -> u64 {
        self.lines
    }
}

/// What all workers share: the way to the writer, and what did not fit.
#[derive(Debug, Clone)]
pub struct Outlet {
    batches: mpsc::Sender<Batch>,
    dropped: Counter,
}

/// The workers' end and the writer's end.
pub fn channel(dropped: Counter) -> (Outlet, mpsc::Receiver<Batch>) {
    let (batches, inbox) = mpsc::channel(BATCHES_MAX);
    (Outlet { batches, dropped }, inbox)
}

/// One worker's lines that were not handed over yet.
#[derive(Debug)]
pub struct Lines {
    bytes: Vec<u8>,
    lines: u64,
    outlet: Outlet,
}

impl Lines {
    pub fn new(outlet: Outlet) -> Self {
        Self { bytes: Vec::new(), lines: 0, outlet }
    }

    /// Adds the line that `write` appends, and hands over a buffer that is full.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.lines += 1;
        if self.bytes.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        // The next buffer is as large at once: it will hold about as much.
        let next = Vec::with_capacity(self.bytes.len());
        let bytes = std::mem::replace(&mut self.bytes, next);
        if self.outlet.batches.try_send(Batch { bytes, lines }).is_err() {
            self.outlet.dropped.inc_by(lines);
        }
    }
}

/// A worker that ends leaves nothing behind.
impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: usize) -> impl FnOnce(&mut Vec<u8>) {
        move |out| {
            out.resize(out.len() + bytes, b'x');
            out.push(b'\n');
        }
    }

    #[test]
    fn what_the_writer_cannot_take_is_counted() {
        let dropped = Counter::default();
        let (outlet, mut inbox) = channel(dropped.clone());
        let mut lines = Lines::new(outlet);
        for _ in 0..BATCHES_MAX + 3 {
            lines.push(line(9));
            lines.push(line(9));
            lines.flush();
        }
        assert_eq!(dropped.get(), 6);
        assert_eq!(inbox.try_recv().unwrap().lines, 2);
        lines.flush();
        assert_eq!(dropped.get(), 6, "nothing to hand over is nothing to drop");
    }

    #[test]
    fn a_full_buffer_goes_at_once() {
        let (outlet, mut inbox) = channel(Counter::default());
        let mut lines = Lines::new(outlet);
        lines.push(line(BATCH_BYTES / 2));
        assert!(inbox.try_recv().is_err());
        lines.push(line(BATCH_BYTES / 2));
        assert_eq!(inbox.try_recv().unwrap().lines, 2);
    }

    #[test]
    fn a_place_for_the_lines() {
        assert_eq!(Target::parse("log.file", "stdout").unwrap(), Target::Stdout);
        assert_eq!(Target::parse("log.file", "/a").unwrap(), Target::File("/a".into()));
        assert_eq!(Target::parse("log.file", "").unwrap_err().key(), "log.file");
    }
}
