//! What `start` is given, and how a program runs and ends.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::Admin;
use crate::handover::{Answer, Giver, Listeners, Place, Taken};
use crate::{Error, Handover, Identity, Metrics, Readiness, Reloads, Shutdown, Tasks, notify, ready_file};

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
    pub(crate) admin: Admin,
    pub(crate) reloads: Option<Reloads<S>>,
    pub(crate) bound: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) program: &'static str,
    pub(crate) opened: CancellationToken,
    pub(crate) listeners: Listeners,
    pub(crate) handover: Option<Handover>,
    pub(crate) taken: Option<Taken>,
    pub(crate) lame_duck: Duration,
    pub(crate) drain_deadline: Duration,
}

impl<S> Context<S> {
    /// Tells under which address a listener of this name really is; goes into the log and the ready-file.
    pub fn bound(&self, listener: &str, address: SocketAddr) {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(listener.to_owned(), address);
    }

    /// Adds the program's own routes to the admin listener, once, at start. Whoever asks is checked before: a route gets
    /// requests with a known `Host` only, and those that are not GET, HEAD or OPTIONS only with the token and never from
    /// a web page.
    pub fn admin_routes(&self, routes: Router) {
        self.admin.add(routes);
    }

    /// The configurations that SIGHUP brings. Taken once; a program that never takes them does not reload.
    pub fn reloads(&mut self) -> Reloads<S> {
        self.reloads.take().expect("reloads are taken once, at start")
    }

    /// Listeners at one address for `workers` threads, at least one each: those of the process that this one takes over
    /// from, and new ones where it had none. Accept once [`Context::opened`] says so, until `Shutdown::closing`.
    pub fn listen(
        &mut self,
        name: &str,
        address: SocketAddr,
        workers: usize,
    ) -> std::io::Result<Vec<Vec<TcpListener>>> {
        self.listeners.group(name, address, workers)
    }

    /// Cancelled when this process may accept: in [`Context::run`], and when it takes over from another, as soon as that
    /// one has stopped accepting.
    pub fn opened(&self) -> CancellationToken {
        self.opened.clone()
    }

    /// Whether it takes the place of a process that still serves. Then it has time to get ready: nobody waits for it.
    pub fn takes_over(&self) -> bool {
        self.taken.is_some()
    }

    /// Opens, announces the addresses, then runs until the signal or until a successor has taken over, and drains. Call it
    /// last.
    pub async fn run(mut self) -> Result<(), Error> {
        drop(self.reloads.take());
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (left, kept) = std::mem::take(&mut self.listeners).finish();
        let mut place = self.handover.as_ref().map(|terms| Place::beside(&terms.socket)).transpose()?;
        let took_over = self.taken.is_some();
        if let Some(taken) = self.taken.take()
            && !self.take_over(taken).await?
        {
            info!("told to stop before it had taken over");
            self.shutdown.abort();
            return Ok(());
        }
        for socket in left {
            info!(listener = %socket.name, address = %socket.address, "not listening there any more");
        }
        self.opened.cancel();
        self.readiness.serving();
        if let Err(error) = self.announce(&bound, place.as_mut()) {
            if !took_over {
                return Err(error);
            }
            // Nobody else serves now.
            error!(%error, "serving, but this did not work");
        }
        match (place, &self.handover) {
            (Some(place), Some(terms)) => {
                let giver =
                    Giver { program: self.program, sockets: kept, ready_timeout: terms.ready_timeout };
                let shutdown = self.shutdown.clone();
                tokio::select! {
                    () = giver.give(&place, move || shutdown.hand_over()) => {}
                    () = self.shutdown.draining().cancelled_owned() => {}
                }
            }
            _ => self.shutdown.draining().cancelled().await,
        }
        self.drain().await;
        Ok(())
    }

    fn announce(&self, bound: &BTreeMap<String, SocketAddr>, place: Option<&mut Place>) -> Result<(), Error> {
        info!(instance = %self.identity.instance, ?bound, "listening");
        if let Some(place) = place {
            place.open()?;
        }
        if let Some(path) = &self.ready_file {
            ready_file::write(path, bound)
                .map_err(|error| format!("cannot write the ready-file {}: {error}", path.display()))?;
        }
        notify::serving();
        Ok(())
    }

    /// Gets ready, says so, and returns when the sockets are ours; false when it was told to stop before.
    async fn take_over(&self, mut taken: Taken) -> Result<bool, Error> {
        let limit = self.handover.as_ref().map_or(Duration::ZERO, |terms| terms.ready_timeout);
        let stop = self.shutdown.draining();
        let ready = tokio::time::timeout(limit, self.readiness.all_reached());
        let ready = tokio::select! {
            ready = ready => ready,
            () = stop.cancelled() => return Ok(false),
            spoken = taken.giver_speaks() => {
                spoken?;
                // It was told to stop while we prepared, and what it had is waiting for us.
                warn!("the process to take over from has ended; going on alone");
                return Ok(true);
            }
        };
        if ready.is_err() {
            let report = self.readiness.report().body;
            return Err(format!("not ready to take over within {limit:?}: {report}").into());
        }
        match taken.ready().await? {
            Answer::Yours => info!("took over"),
            Answer::Alone => warn!("the process to take over from has ended; going on alone"),
        }
        Ok(true)
    }

    async fn drain(self) {
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
    }
}
