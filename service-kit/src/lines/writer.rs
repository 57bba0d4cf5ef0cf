//! The thread that writes: alone with the file, so that a slow disk holds up nobody but it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Batch, Target};

/// Tells the writer where to write. Clones tell the same one.
#[derive(Debug, Clone)]
pub struct Orders {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Held for a clone, by a reload and by the writer after it.
    target: Mutex<Option<Target>>,
    changed: Notify,
}

impl Orders {
    pub fn new(target: Option<Target>) -> Self {
        Self { inner: Arc::new(Inner { target: Mutex::new(target), changed: Notify::new() }) }
    }

    /// Opens the file again, or another one: what logrotate's SIGHUP asks for.
    pub fn reopen(&self, target: Option<Target>) {
        *self.inner.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.inner.changed.notify_one();
    }

    fn target(&self) -> Option<Target> {
        self.inner.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes batches until every worker is gone (`served`) and nothing is left. Run it on a thread of its own: it blocks on
/// the disk. Counts lines written and lines dropped. `what` is the log's name in our own.
pub async fn write(
    what: &'static str,
    orders: Orders,
    mut batches: mpsc::Receiver<Batch>,
    (written, dropped): (Counter, Counter),
    served: CancellationToken,
) {
    let mut sink = Sink::new(what, &orders);
    loop {
        let batch = tokio::select! {
            biased;
            // What was handed over before the signal may go to either file.
            () = orders.inner.changed.notified() => {
                sink = Sink::new(what, &orders);
                // At once, and not with the next line: who rotates looks for the file.
                sink.look();
                continue;
            }
            batch = batches.recv() => batch,
            () = served.cancelled(), if !batches.is_closed() => {
                batches.close();
                continue;
            }
        };
        let Some(Batch { bytes, lines }) = batch else { return };
        if sink.write(&bytes) {
            written.inc_by(lines);
        } else {
            dropped.inc_by(lines);
        }
    }
}

/// Where lines go now. It logs when that begins to fail and when it ends, not each time.
struct Sink {
    what: &'static str,
    target: Option<Target>,
    file: Option<File>,
    failing: bool,
}

impl Sink {
    fn new(what: &'static str, orders: &Orders) -> Self {
        Self { what, target: orders.target(), file: None, failing: false }
    }

    fn look(&mut self) {
        if self.target.is_some() {
            self.write(&[]);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        let what = self.what;
        let outcome = match self.open() {
            Ok(file) => file.write_all(bytes),
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(()) if std::mem::take(&mut self.failing) => info!("{what} is written again"),
            Ok(()) => {}
            Err(error) => {
                // The disk may have room again later, and the folder may be back.
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(%error, target = ?self.target, "{what} cannot be written: lines are dropped and counted");
                }
            }
        }
        outcome.is_ok()
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(match &self.target {
                // Switched off by a reload while these lines were on their way.
                None => OpenOptions::new().write(true).open("/dev/null")?,
                // A handle of our own, without the standard library's line buffer and lock.
                Some(Target::Stdout) => File::from(io::stdout().as_fd().try_clone_to_owned()?),
                // Appending: several processes may share the file, and what is written at once stays whole.
                Some(Target::File(path)) => OpenOptions::new().create(true).append(true).open(path)?,
            });
        }
        Ok(self.file.as_mut().expect("it was just opened"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(text: &str) -> Batch {
        Batch { bytes: text.as_bytes().to_vec(), lines: text.lines().count() as u64 }
    }

    #[tokio::test]
    async fn a_rotated_file_is_left_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let orders = Orders::new(Some(Target::File(path.clone())));
        let (served, (sender, inbox)) = (CancellationToken::new(), mpsc::channel(8));
        let (written, dropped) = (Counter::default(), Counter::default());
        let running = {
            let counts = (written.clone(), dropped.clone());
            tokio::spawn(write("log", orders.clone(), inbox, counts, served.clone()))
        };
        sender.send(batch("one\n")).await.unwrap();
        while written.get() < 1 {
            tokio::task::yield_now().await;
        }
        let old = folder.path().join("access.log.1");
        std::fs::rename(&path, &old).unwrap();
        orders.reopen(Some(Target::File(path.clone())));
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        sender.send(batch("two\nthree\n")).await.unwrap();
        served.cancel();
        running.await.unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
        assert_eq!((written.get(), dropped.get()), (3, 0));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("access.log");
        let (served, (sender, inbox)) = (CancellationToken::new(), mpsc::channel(8));
        let (written, dropped) = (Counter::default(), Counter::default());
        let orders = Orders::new(Some(Target::File(path.clone())));
        let running =
            tokio::spawn(write("log", orders, inbox, (written.clone(), dropped.clone()), served.clone()));
        sender.send(batch("one\ntwo\n")).await.unwrap();
        while dropped.get() < 2 {
            tokio::task::yield_now().await;
        }
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        sender.send(batch("three\n")).await.unwrap();
        served.cancel();
        running.await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!((written.get(), dropped.get()), (1, 2));
    }
}
