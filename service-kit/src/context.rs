//! What `start` is given, and how a program runs and ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::{Error, Identity, Metrics, Readiness, Reloads, Shutdown, Tasks, ready_file};

/// How long aborted tasks get to notice.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// Everything the kit prepared for a program.
#[derive(Debug)]
pub struct Context<S> {
    /// The parsed configuration.
    pub settings: S,
    /// Words after the command, for one-shot commands.
    pub arguments: Vec<String>,
    /// Who this process is.
    pub identity: Identity,
    /// How many workers to run: `[service] workers`, by default one a core.
    pub workers: usize,
    /// Declares dependencies and tells how they are.
    pub readiness: Readiness,
    /// The steps of a stop.
    pub shutdown: Shutdown,
    /// Spawns named tasks and workers.
    pub tasks: Tasks,
    /// Registers metrics.
    pub metrics: Metrics,
    pub(crate) reloads: Option<Reloads<S>>,
    pub(crate) bound: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) lame_duck: Duration,
    pub(crate) drain_deadline: Duration,
}

impl<S> Context<S> {
    /// Tells under which address a listener of this name really is; goes into the log and the ready-file.
    pub fn bound(&self, listener: &str, address: SocketAddr) {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(listener.to_owned(), address);
    }

    /// The configurations that SIGHUP brings. Taken once; a program that never takes them does not reload.
    pub fn reloads(&mut self) -> Reloads<S> {
        self.reloads.take().expect("reloads are taken once, at start")
    }

    /// Announces the addresses, then runs until the signal and drains. Call it last.
    pub async fn run(self) -> Result<(), Error> {
        drop(self.reloads);
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        info!(instance = %self.identity.instance, bound = ?bound, "listening");
        self.readiness.serving();
        if let Some(path) = &self.ready_file {
            ready_file::write(path, &bound)
                .map_err(|error| format!("cannot write the ready-file {}: {error}", path.display()))?;
        }
        self.shutdown.draining().cancelled().await;
        self.readiness.drain();
        info!(lame_duck_ms = self.lame_duck.as_millis(), "draining: still serving");
        let aborted = self.shutdown.aborted();
        tokio::select! {
            () = tokio::time::sleep(self.lame_duck) => {}
            () = aborted.cancelled() => {}
        }
        self.shutdown.stop();
        let deadline_ms = self.drain_deadline.as_millis();
        info!(deadline_ms, "stopping: finishing what is in flight");
        tokio::select! {
            () = self.tasks.ended() => {}
            () = tokio::time::sleep(self.drain_deadline) => warn!(left = ?self.tasks.left(), "drain deadline is over"),
            () = aborted.cancelled() => warn!(left = ?self.tasks.left(), "second signal: not waiting any longer"),
        }
        self.shutdown.abort();
        if tokio::time::timeout(ABORT_GRACE, self.tasks.ended()).await.is_err() {
            error!(left = ?self.tasks.left(), "tasks did not end");
        }
        info!("stopped");
        Ok(())
    }
}
