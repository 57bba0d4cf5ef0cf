//! The folder that a native stack has everything in, and what becomes of folders that nobody owns any more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lease::{self, Lease};
use crate::process::{Lifetime, Spec};
use crate::topology::Network;

/// The folder of one stack.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(super) folder: PathBuf,
    pub(super) lifetime: Lifetime,
}

impl Home {
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    pub(super) fn zones(&self) -> PathBuf {
        self.folder.join("zones")
    }

    pub(super) fn ready_file(&self, name: &str) -> PathBuf {
        self.folder.join("ready").join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    pub(super) fn spec(&self, name: &str, argv: Vec<String>, environment: BTreeMap<String, String>) -> Spec {
        Spec {
            name: name.to_owned(),
            argv,
            environment,
            log: self.log(name),
            ready_file: None,
            contained: false,
            lifetime: self.lifetime,
        }
    }

    /// Copies the logs to the folder `SCALEOUT_LOGS`, when that is set: for whoever wants to know why a test failed.
    pub(super) fn keep_logs(&self, network: Network) {
        let Some(folder) = std::env::var_os("SCALEOUT_LOGS").map(PathBuf::from) else { return };
        let to = folder.join(network.0.to_string());
        let _ = fs::remove_dir_all(&to);
        if let Err(error) = copy_files(&self.folder("logs"), &to) {
            eprintln!("keeping the logs in {}: {error}", to.display());
        }
    }
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

pub(super) fn detached_folder(name: &str) -> PathBuf {
    lease::state_root().join("stacks").join(name)
}

/// Removes the folders of test stacks whose process was killed: their processes died with it, their leases are free.
pub(super) fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root.join("stacks")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("test-")).and_then(|it| it.parse().ok());
        if let Some(network) = number
            && let Ok(Some(_held_meanwhile)) = Lease::take(root, network)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
