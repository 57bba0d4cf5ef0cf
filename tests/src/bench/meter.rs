//! What a subject costs: CPU time, system calls and memory of all its processes.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::process::identity::with_companions;
use crate::process::{Identity, Process};

/// The processes of one subject.
#[derive(Debug)]
pub struct Meter {
    members: Vec<Identity>,
}

/// CPU time of each thread so far.
pub type Threads = BTreeMap<i32, Duration>;

impl Meter {
    /// Takes the processes that the subject consists of now.
    pub fn of(process: &Process) -> Self {
        Self { members: process.members() }
    }

    /// The process with this pid and, when it is the first of a namespace, everything in there.
    pub fn of_pid(pid: i32) -> Self {
        Self { members: with_companions(pid) }
    }

    /// User and system time of all processes so far, those of ended threads too. By the scheduler's own clock, in
    /// nanoseconds: the ticks of `/proc/PID/stat` are too coarse for a round of a second.
    pub fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for member in &self.members {
            let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(member.pid))
                .with_context(|| format!("CPU clock of process {}", member.pid))?;
            total += Duration::from(clock_gettime(clock)?);
        }
        Ok(total)
    }

    /// The same by thread, for those threads whose name begins with `prefix`.
    pub fn threads(&self, prefix: &str) -> Threads {
        let tasks = self.members.iter().filter_map(|it| fs::read_dir(format!("/proc/{}/task", it.pid)).ok());
        tasks
            .flat_map(Iterator::flatten)
            .filter_map(|task| {
                let path = task.path();
                fs::read_to_string(path.join("comm")).ok().filter(|name| name.starts_with(prefix))?;
                // Time on a CPU in nanoseconds, time waiting for one, turns.
                let text = fs::read_to_string(path.join("schedstat")).ok()?;
                let running = Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?);
                Some((task.file_name().to_str()?.parse().ok()?, running))
            })
            .collect()
    }

    /// Memory of all processes in bytes; pages that they share are counted once.
    pub fn memory_bytes(&self) -> u64 {
        self.members.iter().map(Identity::memory_bytes).sum()
    }

    /// Begins to count system calls.
    pub fn count_syscalls(&self) -> Result<SyscallCount> {
        let pids: Vec<String> = self.members.iter().map(|it| it.pid.to_string()).collect();
        let child = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pids.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("perf is missing; run: deploy/setup/host bench")?;
        Ok(SyscallCount { child: Some(child) })
    }
}

/// Says how to get perf where there is none.
pub fn require_perf() -> Result<()> {
    let version = Command::new("perf").arg("version").output();
    ensure!(version.is_ok_and(|it| it.status.success()), "perf is missing; run: deploy/setup/host bench");
    Ok(())
}

/// Share of the busiest thread in what all of them did between two looks, in percent.
pub fn busiest_percent(before: &Threads, after: &Threads) -> Option<f64> {
    let spent: Vec<f64> = after
        .iter()
        .map(|(thread, time)| {
            time.saturating_sub(before.get(thread).copied().unwrap_or_default()).as_secs_f64()
        })
        .collect();
    let all: f64 = spent.iter().sum();
    (spent.len() > 1 && all > 0.0).then(|| spent.iter().copied().fold(0.0, f64::max) / all * 100.0)
}

/// A count under way; ended when dropped.
#[derive(Debug)]
pub struct SyscallCount {
    child: Option<Child>,
}

impl SyscallCount {
    /// Ends the count and returns it.
    pub fn finish(mut self) -> Result<u64> {
        let child = self.child.take().context("a count is finished once")?;
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(child.id())?), nix::sys::signal::Signal::SIGINT)?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let count =
            text.lines().find(|line| line.contains("sys_enter")).and_then(|line| line.split(',').next());
        let count = count.and_then(|count| count.parse().ok());
        ensure!(count != Some(0), "perf counted no system call");
        count.with_context(|| format!("perf said: {text}"))
    }
}

impl Drop for SyscallCount {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_what_a_process_did() {
        let own = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let meter = Meter { members: vec![own] };
        let before = meter.cpu().unwrap();
        let mut sum = 0_u64;
        while meter.cpu().unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0 && meter.memory_bytes() > 0 && !meter.threads("").is_empty());
    }

    #[test]
    fn the_busiest_share() {
        let threads =
            |times: &[u64]| (0..).zip(times.iter().map(|ms| Duration::from_millis(*ms))).collect::<Threads>();
        assert_eq!(busiest_percent(&threads(&[10, 10]), &threads(&[40, 20])), Some(75.0));
        assert_eq!(busiest_percent(&threads(&[10]), &threads(&[40])), None);
        assert_eq!(busiest_percent(&threads(&[1, 1]), &threads(&[1, 1])), None);
    }
}
