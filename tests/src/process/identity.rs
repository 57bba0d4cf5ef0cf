//! A process by pid and start time, read from /proc.

use std::fs;

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Pids are used again; a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub started_ticks: u64,
}

/// What /proc/PID/stat says, as far as we need it.
struct Stat {
    state: char,
    parent: i32,
    threads: u32,
    started_ticks: u64,
}

impl Stat {
    /// The state is that of the first thread. While others still end, so does what they share: sockets are open, and memory is
    /// held.
    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

impl Identity {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, started_ticks: stat.started_ticks })
    }

    /// Whether it still runs. A zombie is reaped on the way if it is our child.
    pub fn is_running(&self) -> bool {
        let Some(stat) = stat(self.pid) else { return false };
        if stat.started_ticks != self.started_ticks {
            return false;
        }
        if stat.has_ended() {
            let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
            return false;
        }
        true
    }

    /// Whether it is stopped by SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.state == 'T')
    }

    /// Sends a signal, if it is still that process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            bail!("process {} has ended", self.pid);
        }
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }

    /// Everything inside the pid namespace whose first process is this one's child, that first process first.
    pub fn namespace_members(&self) -> Vec<Self> {
        if !self.is_running() {
            return Vec::new();
        }
        let own = namespace(self.pid);
        let all = pids();
        let Some(first) = all.iter().copied().find(|pid| {
            stat(*pid).is_some_and(|stat| stat.parent == self.pid)
                && namespace(*pid).is_some_and(|it| Some(it) != own)
        }) else {
            return Vec::new();
        };
        let inside = namespace(first);
        let others = all.into_iter().filter(|pid| *pid != first && namespace(*pid) == inside);
        std::iter::once(first).chain(others).filter_map(Self::of).collect()
    }

    /// The program's short name (`/proc/PID/comm`).
    pub fn command_name(&self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim().to_owned()
    }

    /// The process that started it.
    pub fn parent(&self) -> Option<Self> {
        stat(self.pid).and_then(|stat| Self::of(stat.parent))
    }

    /// Proportional set size in bytes; resident size where the kernel does not tell.
    pub fn memory_bytes(&self) -> u64 {
        self.kilobytes("smaps_rollup", "Pss:").map_or_else(|| self.resident_bytes(), |it| it * 1024)
    }

    /// Resident size in bytes: what others do with the same program does not change it. 0 when it has ended.
    pub fn resident_bytes(&self) -> u64 {
        self.kilobytes("status", "VmRSS:").unwrap_or(0) * 1024
    }

    fn kilobytes(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map(Iterator::count).unwrap_or(0)
    }
}

/// A process with everything that runs in its pid namespace, unless that is ours: then it is alone.
pub(crate) fn with_companions(pid: i32) -> Vec<Identity> {
    let inside = namespace(pid);
    if inside == namespace(std::process::id().cast_signed()) {
        return Identity::of(pid).into_iter().collect();
    }
    let members = pids().into_iter().filter(|other| inside.is_some() && namespace(*other) == inside);
    members.filter_map(Identity::of).collect()
}

/// All pids that exist now.
pub(crate) fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn namespace(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

/// The name is in brackets and may hold anything, brackets too: the fields start behind the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
        started_ticks: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let tail = " S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        for name in ["sh", "a b", "x) Z 9 (y"] {
            let stat = parse_stat(&format!("12 ({name}){tail}")).unwrap();
            assert_eq!((stat.state, stat.parent, stat.started_ticks), ('S', 7, 4242), "{name}");
        }
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        for (state, threads, ended) in
            [('S', 1, false), ('R', 3, false), ('Z', 3, false), ('Z', 1, true), ('X', 0, true)]
        {
            let stat =
                parse_stat(&format!("12 (lb) {state} 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4242 0"));
            assert_eq!(stat.unwrap().has_ended(), ended, "{state} {threads}");
        }
    }

    #[test]
    fn we_run() {
        let ours = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(ours.is_running() && ours.memory_bytes() > 0 && ours.descriptors() > 2);
    }
}
