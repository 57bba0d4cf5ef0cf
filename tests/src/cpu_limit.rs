//! Limits the CPU time of instances by a control group of our own, version 1 or 2, whichever has the CPU controller here.
//! The same for plain processes and for containers: a container's processes are processes of the host too, and stay in
//! their group for everything but CPU (version 1).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::process::{Identity, identity};

/// The kernel hands out CPU time for this long at once, and who has used its part waits for the next: short, so that a small
/// part makes a slow machine and not one that stands still. From 1 ms to 1 s.
const PERIOD_US_MIN: u64 = 10_000;
const PERIOD_US_MAX: u64 = 1_000_000;
/// What the kernel takes as the least part (`min_cfs_quota_period`, 1 ms).
const QUOTA_US_MIN: u64 = 1_000;
/// Groups of ours begin so; the number that follows is the process that made them.
const PREFIX: &str = "scaleout-";
/// Until the kernel has let a group's last process go.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// Which files a group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Why this machine cannot limit CPU time: a drill that needs it is not measurable here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CPU time cannot be limited here: {}", self.0)
    }
}

/// A group of processes that share a limited part of the CPUs. Ends when dropped; its processes then have no limit.
#[derive(Debug)]
pub struct CpuLimit {
    folder: PathBuf,
    version: Version,
}

impl CpuLimit {
    /// An empty group without a limit.
    pub fn new() -> Result<Self, Unavailable> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let (root, version) = controller(&mounts).ok_or_else(|| {
            Unavailable("no control group hierarchy with the controller 'cpu' is mounted".into())
        })?;
        let refused =
            |path: &Path, error: std::io::Error| Unavailable(format!("{}: {error}", path.display()));
        if version == Version::Two {
            let switch = root.join("cgroup.subtree_control");
            fs::write(&switch, "+cpu").map_err(|error| refused(&switch, error))?;
        }
        sweep(&root);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| refused(&folder, error))?;
        Ok(Self { folder, version })
    }

    /// So many CPUs for all in it together, from now on; `None`: as many as there are.
    pub fn set(&self, cpus: Option<f64>) -> Result<()> {
        let (quota, period) = quota(cpus);
        match self.version {
            Version::One => {
                // Without a limit first: each of the two is refused if it does not fit the other's old value.
                self.write("cpu.cfs_quota_us", "-1")?;
                self.write("cpu.cfs_period_us", &period.to_string())?;
                self.write("cpu.cfs_quota_us", &quota.map_or("-1".into(), |it| it.to_string()))
            }
            Version::Two => {
                let quota = quota.map_or("max".into(), |it| it.to_string());
                self.write("cpu.max", &format!("{quota} {period}"))
            }
        }
    }

    /// Puts an instance into it, given its first process: everything that runs now, and what they start later.
    pub fn hold(&self, first: i32) -> Result<()> {
        let members = identity::with_companions(first);
        ensure!(!members.is_empty(), "process {first} has ended");
        members.iter().try_for_each(|Identity { pid, .. }| self.write("cgroup.procs", &pid.to_string()))
    }

    /// For how many of its periods they had to wait.
    pub fn throttled_periods(&self) -> Result<u64> {
        let path = self.folder.join("cpu.stat");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let found = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok());
        found.with_context(|| format!("no nr_throttled in {}", path.display()))
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value).with_context(|| format!("{value} to {}", path.display()))
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        let parent = self.folder.parent().map(|root| root.join("cgroup.procs"));
        let deadline = Instant::now() + LEAVE_DEADLINE;
        // A group with processes cannot be removed, and one that is being killed still has some.
        while fs::remove_dir(&self.folder).is_err() && self.folder.exists() && Instant::now() < deadline {
            let pids = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                // It may have ended by now.
                let _ = parent.as_ref().map(|path| fs::write(path, pid));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Microseconds of CPU time in a period of so many.
fn quota(cpus: Option<f64>) -> (Option<u64>, u64) {
    let Some(cpus) = cpus else { return (None, PERIOD_US_MIN) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a few CPUs in microseconds"
    )]
    let (period, quota) = {
        let period = ((QUOTA_US_MIN as f64 / cpus).ceil() as u64).clamp(PERIOD_US_MIN, PERIOD_US_MAX);
        (period, (cpus * period as f64).round() as u64)
    };
    (Some(quota.max(QUOTA_US_MIN)), period)
}

/// The root of the hierarchy that has the CPU controller: both versions may be mounted at once.
fn controller(mounts: &str) -> Option<(PathBuf, Version)> {
    let fields = |line: &'_ str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = mounts.lines().map(fields).filter(|it| it.len() >= 4).collect();
    let one = lines.iter().find(|it| it[2] == "cgroup" && it[3].split(',').any(|option| option == "cpu"));
    if let Some(found) = one {
        return Some((PathBuf::from(&found[1]), Version::One));
    }
    let two = lines.iter().find(|it| it[2] == "cgroup2")?;
    Some((PathBuf::from(&two[1]), Version::Two))
}

/// Removes groups whose maker was killed. One with processes stays: the kernel does not remove it.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if maker.is_some_and(|pid| Identity::of(pid).is_none()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mounts: &str, expected: Option<(&str, Version)>) {
        assert_eq!(controller(mounts), expected.map(|(path, version)| (PathBuf::from(path), version)));
    }

    #[test]
    fn either_version_is_found() {
        let one = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n";
        let set = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n";
        let two = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        check(&format!("{set}{two}{one}"), Some(("/sys/fs/cgroup/cpu,cpuacct", Version::One)));
        check(two, Some(("/sys/fs/cgroup", Version::Two)));
        check(set, None);
        check("proc /proc proc rw 0 0\n", None);
    }

    #[test]
    fn parts_of_cpus_are_microseconds_a_period() {
        let check = |cpus, expected| assert_eq!(quota(cpus), expected);
        check(Some(0.5), (Some(5_000), 10_000));
        check(Some(2.0), (Some(20_000), 10_000));
        check(Some(0.05), (Some(1_000), 20_000));
        check(Some(0.0001), (Some(QUOTA_US_MIN), PERIOD_US_MAX));
        check(None, (None, PERIOD_US_MIN));
    }

    #[test]
    fn a_process_that_wants_all_waits() {
        let limit = match CpuLimit::new() {
            Ok(limit) => limit,
            Err(reason) => {
                assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
                return println!("SKIPPED: {reason}");
            }
        };
        limit.set(Some(0.1)).unwrap();
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        limit.hold(i32::try_from(busy.id()).unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while limit.throttled_periods().unwrap() < 3 {
            assert!(Instant::now() < deadline, "never throttled");
            std::thread::sleep(Duration::from_millis(10));
        }
        let folder = limit.folder.clone();
        drop(limit);
        assert!(!folder.exists(), "the group is gone although its process runs on");
        assert!(busy.try_wait().unwrap().is_none());
        busy.kill().unwrap();
        busy.wait().unwrap();
    }
}
