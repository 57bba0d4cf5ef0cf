//! Named tasks and worker threads: all are awaited at the end, and those that did not end are named.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::runtime::{Builder, Handle, LocalOptions};
use tokio_util::task::TaskTracker;
use tracing::error;

/// Spawns what a program runs. Clones share one list.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, String>,
    panicked: Vec<String>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.left()).finish()
    }
}

impl Tasks {
    /// Belongs to the runtime it is called in.
    pub(crate) fn new() -> Self {
        Self { tracker: TaskTracker::new(), runtime: Handle::current(), running: Arc::default() }
    }

    /// Runs a future on the program's main runtime. It should end by itself when `Shutdown` says so.
    pub fn spawn<F>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let entry = self.enter(name.into());
        let tasks = self.clone();
        self.tracker.spawn_on(
            async move {
                if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                    tasks.panicked(&entry);
                }
            },
            &self.runtime,
        );
    }

    /// Runs a future on a thread of its own with a runtime of its own: what it spawns locally stays on that thread, and no
    /// lock is shared with the other workers.
    pub fn spawn_worker<M, F>(&self, name: impl Into<String>, make: M) -> std::io::Result<()>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let entry = self.enter(name.into());
        let tasks = self.clone();
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        // A local runtime cannot leave the thread that builds it; whether it was built is told back.
        let (built, outcome) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name(entry.name.clone()).spawn(move || {
            let runtime =
                match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(built.send(Err(error))),
                };
            let _ = built.send(Ok(()));
            if std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(make()))).is_err() {
                tasks.panicked(&entry);
            }
            drop(entry);
            // Nobody listens any more when the deadline is over.
            let _ = ended.send(());
        })?;
        outcome.recv().map_err(std::io::Error::other)??;
        self.tracker.spawn_on(
            async move {
                let _ = end.await;
            },
            &self.runtime,
        );
        Ok(())
    }

    /// Runs blocking work on a thread of its own, for loops that a runtime would only slow down. It should end by itself when
    /// `Shutdown` says so.
    pub fn spawn_thread<W>(&self, name: impl Into<String>, work: W) -> std::io::Result<()>
    where
        W: FnOnce() + Send + 'static,
    {
        let entry = self.enter(name.into());
        let tasks = self.clone();
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::Builder::new().name(entry.name.clone()).spawn(move || {
            if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                tasks.panicked(&entry);
            }
            drop(entry);
            // Nobody listens any more when the deadline is over.
            let _ = ended.send(());
        })?;
        self.tracker.spawn_on(
            async move {
                let _ = end.await;
            },
            &self.runtime,
        );
        Ok(())
    }

    /// Names of the tasks that ended by a panic: the program is no longer whole, and `/livez` says so.
    pub(crate) fn dead(&self) -> Vec<String> {
        self.running().panicked.clone()
    }

    pub(crate) fn left(&self) -> Vec<String> {
        self.running().names.values().cloned().collect()
    }

    /// Ends when every task has; more may still be spawned meanwhile.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn enter(&self, name: String) -> Entry {
        let mut running = self.running();
        let id = running.next;
        running.next += 1;
        running.names.insert(id, name.clone());
        Entry { id, name, running: self.running.clone() }
    }

    fn panicked(&self, entry: &Entry) {
        error!(task = %entry.name, "task ended by a panic: this is a bug; the process is no longer whole");
        self.running().panicked.push(entry.name.clone());
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One name on the list, taken off when dropped.
struct Entry {
    id: u64,
    name: String,
    running: Arc<Mutex<Running>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).names.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_still_runs_is_named_and_what_died_too() {
        let tasks = Tasks::new();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("waiter", async {
            let _ = stopped.await;
        });
        tasks.spawn("dies", async { panic!("on purpose") });
        while tasks.dead().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.left(), ["waiter"]);
        assert_eq!(tasks.dead(), ["dies"]);
        drop(stop);
        tasks.ended().await;
        assert!(tasks.left().is_empty());
    }

    #[tokio::test]
    async fn a_thread_is_awaited_and_its_panic_named() {
        let tasks = Tasks::new();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let waits = move || {
            let _ = stopped.recv();
        };
        tasks.spawn_thread("waits", waits).expect("a thread starts");
        tasks.spawn_thread("dies", || panic!("on purpose")).expect("a thread starts");
        while tasks.dead().is_empty() || tasks.left() != ["waits"] {
            tokio::task::yield_now().await;
        }
        drop(stop);
        tasks.ended().await;
        assert_eq!((tasks.dead(), tasks.left()), (vec!["dies".to_owned()], Vec::new()));
    }

    #[tokio::test]
    async fn a_worker_runs_local_tasks_and_is_awaited() {
        let tasks = Tasks::new();
        let (sent, received) = tokio::sync::oneshot::channel();
        tasks
            .spawn_worker("worker-0", || async {
                let shared = std::rc::Rc::new(7);
                let seen = tokio::task::spawn_local(async move { *shared }).await.expect("no panic");
                let _ = sent.send(seen);
            })
            .expect("a thread starts");
        assert_eq!(received.await, Ok(7));
        tasks.ended().await;
        assert!(tasks.left().is_empty());
    }
}
