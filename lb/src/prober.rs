//! Looks at one backend again and again: a fresh connection each time, so that a stopped process is found as surely as
//! a dead one.

mod answer;
mod look;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use crate::config::{Check, Mode};
use crate::roster::Event;
pub(crate) use answer::Look;

/// Between two looks, however many requests fail meanwhile.
const GAP: Duration = Duration::from_millis(25);

/// How the roster drives a prober.
#[derive(Debug, Default)]
pub(crate) struct Reins {
    /// Look now.
    pub(crate) nudge: Notify,
    /// Look more often: the backend is new or under suspicion.
    pub(crate) urgent: AtomicBool,
}

/// Probes until it is aborted; with the mode off there is nothing to do.
pub(crate) async fn run(
    id: u64,
    address: SocketAddr,
    check: Check,
    reins: Arc<Reins>,
    events: mpsc::Sender<Event>,
) {
    if check.mode == Mode::Off {
        return;
    }
    loop {
        let started = Instant::now();
        let look = tokio::time::timeout(check.timeout, look::look(address, &check))
            .await
            .unwrap_or_else(|_| Look::bad(format!("no answer in {} ms", check.timeout.as_millis())));
        if events.send(Event::Looked { id, look }).await.is_err() {
            return;
        }
        tokio::time::sleep(GAP).await;
        // The roster has heard of the outcome by now, so `urgent` is up to date.
        let interval =
            if reins.urgent.load(Ordering::Relaxed) { check.start_interval } else { check.interval };
        let jitter = 1.0 + check.jitter * (fastrand::f64() * 2.0 - 1.0);
        let left = interval.mul_f64(jitter).saturating_sub(started.elapsed());
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = reins.nudge.notified() => {}
        }
    }
}
