//! What a container's memory limit counts: the cgroup's usage less the file cache that the kernel would give back first.

use std::fs;
use std::path::PathBuf;

/// Memory of the cgroup that a process is in.
pub(super) fn memory_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let found = find(&text)?;
    let number = |file: &str| fs::read_to_string(found.folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let usage = number(found.usage)?;
    let statistics = fs::read_to_string(found.folder.join("memory.stat")).ok()?;
    let inactive =
        statistics.lines().find_map(|line| line.strip_prefix(found.inactive)?.trim().parse::<u64>().ok());
    Some(usage.saturating_sub(inactive.unwrap_or(0)))
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    folder: PathBuf,
    usage: &'static str,
    inactive: &'static str,
}

/// Both versions may be mounted at once; the memory controller is in one of them.
fn find(text: &str) -> Option<Found> {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let path = |root: &str, path: &str| PathBuf::from(format!("{root}{}", path.trim_end_matches('/')));
    if let Some((_, cgroup)) =
        lines().find(|(controllers, _)| controllers.split(',').any(|it| it == "memory"))
    {
        let folder = path("/sys/fs/cgroup/memory", cgroup);
        return Some(Found { folder, usage: "memory.usage_in_bytes", inactive: "total_inactive_file " });
    }
    let (_, cgroup) = lines().find(|(controllers, _)| controllers.is_empty())?;
    let folder = path("/sys/fs/cgroup", cgroup);
    Some(Found { folder, usage: "memory.current", inactive: "inactive_file " })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, folder: &str, usage: &str) {
        let found = find(text).unwrap();
        assert_eq!((found.folder.to_str().unwrap(), found.usage), (folder, usage));
    }

    #[test]
    fn version_two_is_one_tree() {
        check("0::/docker/ab\n", "/sys/fs/cgroup/docker/ab", "memory.current");
    }

    #[test]
    fn version_one_has_a_tree_for_memory() {
        let text = "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/\n";
        check(text, "/sys/fs/cgroup/memory/docker/ab", "memory.usage_in_bytes");
    }
}
