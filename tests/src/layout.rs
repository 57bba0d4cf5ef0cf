//! Where things are: the repository, the binaries of this build, the trixie root with the servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The repository's folder: `STACK_REPOSITORY`, else the one that this was built from.
pub fn repository() -> PathBuf {
    std::env::var_os("STACK_REPOSITORY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default(),
        PathBuf::from,
    )
}

/// A program of this build: in `STACK_BIN_DIR`, else beside this executable (or above it, for test binaries in `deps`).
/// Never anything out of PATH: a stack runs what was just built.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("STACK_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().context("path of this executable")?;
            let folder = own.parent().context("an executable is in a folder")?;
            if folder.ends_with("deps") {
                folder.parent().unwrap_or(folder).to_owned()
            } else {
                folder.to_owned()
            }
        }
    };
    let path = folder.join(name);
    if !path.is_file() {
        bail!("{} is missing; run: cargo build --locked --profile ci -p {name}", path.display());
    }
    Ok(path)
}

/// The trixie root with Postgres, Patroni, etcd and Redis: `STACK_SERVERS_ROOT`, else what `deploy/setup/servers-root`
/// makes once and prints.
pub fn servers_root() -> Result<PathBuf> {
    if let Some(root) = std::env::var_os("STACK_SERVERS_ROOT") {
        return Ok(PathBuf::from(root));
    }
    let script = repository().join("deploy/setup/servers-root");
    let output = Command::new(&script)
        .arg("servers")
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    if !output.status.success() {
        bail!("{} servers ended with {}", script.display(), output.status);
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
