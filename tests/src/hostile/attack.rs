//! The runner: all payloads at one listener, a good client beside them, and the comparison afterwards.

use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::fire::fire_all;
use super::holds::{back_to, compare, settled};
use super::payload::payloads;
use super::report::{HostileError, HostileReport};
use super::target::Target;
use crate::process::Identity;

/// Fires everything at the target while `good` is called over and over; `good` must be a new client each time.
pub async fn attack<F, G>(target: &Target, good: F) -> Result<HostileReport, HostileError>
where
    F: Fn() -> G,
    G: Future<Output = Result<(), String>>,
{
    let process = Identity::of(target.pid)
        .ok_or_else(|| HostileError::Process { pid: target.pid, source: io::ErrorKind::NotFound.into() })?;
    // Warm: caches, pools and allocator arenas that any client would fill are not the attack's.
    for _ in 0..20 {
        checked(target, &good).await.map_err(HostileError::GoodClient)?;
    }
    let before = settled(target).await?;
    let mut beside = Beside::default();
    let all = payloads(target.kind, target.seed);
    let unconnected = tokio::select! {
        unconnected = fire_all(target, &all) => unconnected,
        () = beside.run(target, &good) => 0,
    };
    let after = back_to(target, before, &process).await;
    let mut findings = beside.findings();
    findings.extend(compare(target, before, after));
    if unconnected * 10 > all.len() {
        findings.push(format!("{unconnected} of {} payloads got no connection", all.len()));
    }
    if let Err(error) = checked(target, &good).await {
        findings.push(format!("the good client fails after the attack: {error}"));
    }
    Ok(HostileReport {
        kind: target.kind,
        payloads: all.len(),
        unconnected,
        good_attempted: beside.attempted,
        good_failed: beside.failed,
        before,
        after,
        findings,
    })
}

/// The good client's record.
#[derive(Default)]
struct Beside {
    attempted: u64,
    failed: u64,
    first_errors: Vec<String>,
}

impl Beside {
    /// Never ends by itself.
    async fn run<F, G>(&mut self, target: &Target, good: &F)
    where
        F: Fn() -> G,
        G: Future<Output = Result<(), String>>,
    {
        loop {
            let result = checked(target, good).await;
            self.attempted += 1;
            if let Err(error) = result {
                self.failed += 1;
                if self.first_errors.len() < 3 {
                    self.first_errors.push(error);
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn findings(&self) -> Vec<String> {
        if self.attempted == 0 {
            return vec!["the good client got no answer during the whole attack".into()];
        }
        if self.failed == 0 {
            return Vec::new();
        }
        vec![format!(
            "the good client failed {} of {} times: {}",
            self.failed,
            self.attempted,
            self.first_errors.join("; ")
        )]
    }
}

async fn checked<F, G>(target: &Target, good: &F) -> Result<(), String>
where
    F: Fn() -> G,
    G: Future<Output = Result<(), String>>,
{
    let deadline = target.bounds.good_deadline;
    timeout(deadline, good()).await.unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))
}
