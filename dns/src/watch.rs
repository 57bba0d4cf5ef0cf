//! Notices that zone files have changed, by looking at them now and then: a notice of the kernel would miss files behind
//! mounts and links. Acted on only when two looks in a row see the same, so that no file is read while it is written.

use crate::config::ZoneFiles;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Inode, size and time of change of each file that can be seen.
type Look = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

/// What was read last, and what was seen since.
#[derive(Debug)]
pub struct Watch {
    interval: Option<Duration>,
    directory: PathBuf,
    /// Files that zones include; those of a zone that is broken now are still looked at.
    included: Vec<PathBuf>,
    read: Look,
    last: Look,
}

impl Watch {
    /// Begins with what can be seen now, which is to be read next.
    pub fn new(files: &ZoneFiles) -> Watch {
        let mut watch = Watch {
            interval: None,
            directory: PathBuf::new(),
            included: Vec::new(),
            read: Look::new(),
            last: Look::new(),
        };
        watch.reading(files);
        watch
    }

    /// The zones are read now, perhaps from elsewhere than before.
    pub fn reading(&mut self, files: &ZoneFiles) {
        self.interval = files.watch_interval;
        self.directory.clone_from(&files.directory);
        if self.interval.is_some() {
            self.read = look(&self.directory, &self.included);
        }
    }

    /// These files were included in what was read.
    pub fn includes(&mut self, included: Vec<PathBuf>) {
        for path in included {
            if !self.included.contains(&path) {
                self.read.extend(seen(&path).map(|seen| (path.clone(), seen)));
                self.included.push(path);
            }
        }
    }

    /// Returns once something is other than it was read, and has stayed so from one look to the next.
    pub async fn changed(&mut self) {
        let Some(interval) = self.interval else { return std::future::pending().await };
        loop {
            tokio::time::sleep(interval).await;
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
