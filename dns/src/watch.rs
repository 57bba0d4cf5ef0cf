//! Notices that zone files have changed, by looking at them now and then: a notice of the kernel would miss files behind
//! mounts and links. Acted on only when two looks in a row see the same, so that no file is read while it is written.

use crate::config::ZoneFiles;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The kernel's clock for files may be behind ours by its tick, and a network's file server by more.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(1);

/// Inode, size and time of change of each file that can be seen.
type Look = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

/// What was read last, and what was seen since.
#[derive(Debug)]
pub struct Watch {
    interval: Option<Duration>,
    /// The next look. Kept here, so that whoever waits for a change may give up now and then and still gets to it.
    due: Instant,
    directory: PathBuf,
    /// Files that zones include; those of a zone that is broken now are still looked at.
    included: Vec<PathBuf>,
    read: Look,
    /// When that began.
    read_at: SystemTime,
    last: Look,
}

impl Watch {
    /// Begins with what can be seen now, which is to be read next.
    pub fn new(files: &ZoneFiles) -> Watch {
        let mut watch = Watch {
            interval: None,
            due: Instant::now(),
            directory: PathBuf::new(),
            included: Vec::new(),
            read: Look::new(),
            read_at: SystemTime::now(),
            last: Look::new(),
        };
        watch.reading(files);
        watch
    }

    /// The zones are read now, perhaps from elsewhere than before.
    pub fn reading(&mut self, files: &ZoneFiles) {
        self.interval = files.watch_interval;
        self.directory.clone_from(&files.directory);
        self.read_at = SystemTime::now();
        if let Some(interval) = self.interval {
            self.due = Instant::now() + interval;
            self.read = look(&self.directory, &self.included);
        }
    }

    /// These files were included in what was read. Which of them is new to us was not looked at before it was read: one that
    /// may have changed since counts as not read, and what includes it is read once more.
    pub fn includes(&mut self, included: Vec<PathBuf>) {
        let untouched_since = self.read_at.checked_sub(CLOCKS_DIFFER_MAX).unwrap_or(UNIX_EPOCH);
        for path in included {
            if !self.included.contains(&path) {
                let known =
                    seen(&path).filter(|_| status_changed(&path).is_some_and(|at| at < untouched_since));
                self.read.extend(known.map(|seen| (path.clone(), seen)));
                self.included.push(path);
            }
        }
    }

    /// Returns once something is other than it was read, and has stayed so from one look to the next. May be dropped at any
    /// time.
    pub async fn changed(&mut self) {
        let Some(interval) = self.interval else { return std::future::pending().await };
        loop {
            tokio::time::sleep_until(self.due).await;
            self.due = Instant::now() + interval;
            let (directory, included) = (self.directory.clone(), self.included.clone());
            let Ok(now) = tokio::task::spawn_blocking(move || look(&directory, &included)).await else {
                continue;
            };
            let settled = now == self.last;
            if settled && now != self.read {
                return;
            }
            self.last = now;
        }
    }
}

fn look(directory: &Path, included: &[PathBuf]) -> Look {
    // A directory that cannot be read looks empty; reading it will say why.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let zones =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "zone"));
    zones.chain(included.iter().cloned()).filter_map(|path| Some((path.clone(), seen(&path)?))).collect()
}

fn seen(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// When a file was last written, or moved to where it is.
fn status_changed(path: &Path) -> Option<SystemTime> {
    let metadata = std::fs::metadata(path).ok()?;
    let (seconds, nanoseconds) = (metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{OrderPolicy, Orders};

    fn files(directory: &Path) -> ZoneFiles {
        ZoneFiles {
            directory: directory.to_owned(),
            file_bytes_max: 1_000,
            watch_interval: Some(Duration::from_millis(5)),
            orders: Orders::all(OrderPolicy::Cyclic),
        }
    }

    async fn notices(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_that_changed_while_it_was_first_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let mut watch = Watch::new(&files);
        let included = folder.path().join("more.inc");
        std::fs::write(&included, "written behind the reader's back").unwrap();
        watch.includes(vec![included.clone()]);
        assert!(tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.is_ok());
        watch.reading(&files);
        watch.includes(vec![included]);
        assert!(!notices(&mut watch).await, "once is enough");
    }

    #[tokio::test]
    async fn who_gives_up_again_and_again_gets_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(&ZoneFiles {
            watch_interval: Some(Duration::from_millis(50)),
            ..files(folder.path())
        });
        std::fs::write(folder.path().join("z.zone"), "new").unwrap();
        for _ in 0..1_000 {
            if tokio::time::timeout(Duration::from_millis(20), watch.changed()).await.is_ok() {
                return;
            }
        }
        panic!("never noticed");
    }

    #[tokio::test]
    async fn a_file_that_was_there_long_before_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let included = folder.path().join("more.inc");
        std::fs::write(&included, "old").unwrap();
        let files = files(folder.path());
        let mut watch = Watch::new(&files);
        watch.read_at += 2 * CLOCKS_DIFFER_MAX;
        watch.includes(vec![included]);
        assert!(!notices(&mut watch).await);
    }
}
