//! What the process behind a listener holds, and whether it came back to that after an attack.

use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::report::HostileError;
use super::target::Target;
use crate::process::Identity;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident memory.
    pub memory_kib: u64,
}

/// What the process holds once that has been the same for half a second, or after the settling time.
pub(super) async fn settled(target: &Target) -> Result<Holds, HostileError> {
    let look = || holds(target.pid).map_err(|source| HostileError::Process { pid: target.pid, source });
    let deadline = Instant::now() + target.bounds.settle_deadline;
    let (mut last, mut same) = (look()?, 0);
    while same < 5 && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
        let now = look()?;
        same = if now.descriptors == last.descriptors { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

/// Waits until the process is back within its bounds, or the deadline; none when it is another one or gone.
pub(super) async fn back_to(target: &Target, before: Holds, process: &Identity) -> Option<Holds> {
    let deadline = Instant::now() + target.bounds.settle_deadline;
    loop {
        let now = if process.is_running() { holds(target.pid).ok() } else { None }?;
        if compare(target, before, Some(now)).is_empty() || Instant::now() >= deadline {
            return Some(now);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// What of the process is not back within its bounds: pure.
pub(super) fn compare(target: &Target, before: Holds, after: Option<Holds>) -> Vec<String> {
    let Some(after) = after else { return vec![format!("process {} has ended", target.pid)] };
    let mut findings = Vec::new();
    if after.descriptors > before.descriptors + target.bounds.descriptors_more_max {
        findings.push(format!("descriptors grew from {} to {}", before.descriptors, after.descriptors));
    }
    if after.memory_kib >= before.memory_kib + target.bounds.memory_growth_kib_max {
        findings.push(format!("memory grew from {} to {} KiB", before.memory_kib, after.memory_kib));
    }
    findings
}

fn holds(pid: i32) -> io::Result<Holds> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    // A zombie has no memory any more.
    let memory_kib = memory
        .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(Holds { descriptors, memory_kib })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::Kind;
    use std::net::SocketAddr;

    /// descriptors and memory before and after -> findings.
    fn check(before: (usize, u64), after: Option<(usize, u64)>, findings: &[&str]) {
        let target = Target::new(SocketAddr::from(([127, 0, 0, 1], 1)), Kind::Http, 7);
        let holds = |(descriptors, memory_kib)| Holds { descriptors, memory_kib };
        assert_eq!(compare(&target, holds(before), after.map(holds)), findings);
    }

    #[test]
    fn what_is_not_back_is_named() {
        check((10, 5000), Some((10, 15_000)), &[]);
        check((10, 5000), Some((9, 4000)), &[]);
        check((10, 5000), Some((11, 5000)), &["descriptors grew from 10 to 11"]);
        check((10, 5000), Some((10, 15_240)), &["memory grew from 5000 to 15240 KiB"]);
        check((10, 5000), None, &["process 7 has ended"]);
    }
}
