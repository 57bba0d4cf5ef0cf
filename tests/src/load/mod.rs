//! Our load client: open loop, at a fixed rate, by name, with the latency that a visitor would have felt.
//!
//! Requests leave when the plan says so, whether or not earlier ones were answered, and each latency counts from the
//! time at which its request was *due* (no coordinated omission): a server that stalls for a second is charged for
//! every request that fell into that second. When the generator itself cannot keep up, the report says so (late
//! sends, requests refused because too many were in flight) instead of sending less.
//!
//! In reading order: `plan` (what to send), `schedule` (when), `names` and `pool` (to whom), `retry` (whether again),
//! `request` (one request from due time to outcome), `recorder` (counts) and `report` (what comes out).

pub mod outcome;
pub mod plan;
pub mod report;
pub mod schedule;

mod names;
mod pool;
mod recorder;
mod request;
mod retry;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use outcome::{Check, ErrorClass, Observed, Outcome};
pub use plan::{ClientKind, Invalid, Limits, Mix, Plan, RequestSpec, Target};
pub use report::{Progress, Report, SecondReport};
pub use schedule::Arrival;

use recorder::Recorder;
use request::Client;

/// A stop is noticed this often while the pacer waits for a due time.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// A load that is being sent. Dropping it stops sending; `finish` waits for the end and gives the report.
#[derive(Debug)]
pub struct Running {
    client: Arc<Client>,
    started: Instant,
    stop: CancellationToken,
    tasks: TaskTracker,
    paced: Option<oneshot::Receiver<Duration>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts sending on the current runtime, paced by a thread of its own: the runtime's timer has steps of one
/// millisecond, which would be added to every latency.
pub fn start(plan: Plan) -> Result<Running, Invalid> {
    plan.check()?;
    let started = Instant::now();
    let started_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let recorder = Recorder::new(&plan, u64::try_from(started_unix_ms).unwrap_or(u64::MAX));
    let client = Arc::new(Client::new(plan, started, recorder));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (done, paced) = oneshot::channel();
    let pacer = Pacer {
        client: client.clone(),
        started,
        stop: stop.clone(),
        tasks: tasks.clone(),
        runtime: Handle::current(),
    };
    thread::Builder::new()
        .name("load-pacer".into())
        .spawn(move || {
            // Nobody waits after `Running` was dropped.
            let _ = done.send(pacer.run());
        })
        .map_err(|error| Invalid::new("thread", &error.to_string(), "no thread for the pacer"))?;
    Ok(Running { client, started, stop, tasks, paced: Some(paced) })
}

/// Starts and finishes one plan.
pub async fn run(plan: Plan) -> Result<Report, Invalid> {
    Ok(start(plan)?.finish().await)
}

/// Runs several plans side by side, for instance a retrying and a plain client; the reports come in their order.
pub async fn run_all(plans: Vec<Plan>) -> Result<Vec<Report>, Invalid> {
    let running: Vec<Running> = plans.into_iter().map(start).collect::<Result<_, _>>()?;
    Ok(futures_util::future::join_all(running.into_iter().map(Running::finish)).await)
}

impl Running {
    /// Counts so far, for drills that wait until enough has been acknowledged.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.client.recorder().progress()
    }

    /// Time since the first request was due: what a drill notes beside an event, on the report's own axis.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sends nothing more; requests in flight go on to their ends.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the plan's end, or for the stop, and for every request in flight; each has a deadline of its own.
    pub async fn finish(mut self) -> Report {
        let planned = self.client.plan().duration;
        let sent_for = match self.paced.take() {
            Some(paced) => paced.await.unwrap_or(planned),
            None => planned,
        };
        self.tasks.close();
        self.tasks.wait().await;
        self.client.recorder().report(sent_for)
    }
}

/// Sends each request at its time.
struct Pacer {
    client: Arc<Client>,
    started: Instant,
    stop: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Pacer {
    /// Gives back how long was sent: the plan's duration, or less after a stop.
    fn run(self) -> Duration {
        let plan = self.client.plan();
        let permits = Arc::new(Semaphore::new(plan.limits.in_flight_max));
        for (sequence, offset) in (0..).zip(schedule::arrivals(plan.arrival, plan.rate_per_s, plan.duration))
        {
            if !self.wait_until(self.started + offset) {
                return self.started.elapsed().min(plan.duration);
            }
            let client = self.client.clone();
            match permits.clone().try_acquire_owned() {
                Ok(permit) => {
                    let send = async move {
                        client.send(sequence, offset).await;
                        drop(permit);
                    };
                    self.tasks.spawn_on(send, &self.runtime);
                }
                Err(_) => client.refuse(sequence, offset),
            }
        }
        plan.duration
    }

    /// False when the load was stopped meanwhile.
    fn wait_until(&self, due: Instant) -> bool {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if self.stop.is_cancelled() {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(STOP_CHECK));
        }
    }
}
