//! The secrets of one stack: random passwords and key rings, made once into a folder that nothing of git ever sees.

use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One password a file, without a line end.
pub const PASSWORDS: [&str; 6] = [
    "postgres-superuser",
    "postgres-replicator",
    "postgres-app",
    "postgres-probe",
    "redis-session",
    "redis-cache",
];
/// One key ring a file.
pub const KEY_RINGS: [&str; 2] = ["sticky", "signing"];

/// 192 bits, in hex: safe in connection strings, in shells and in configuration files.
const PASSWORD_BYTES: usize = 24;

/// Makes what is missing in `folder` and leaves what is there. Files are 0440 and belong to `group`, when one is given.
/// Returns the names of the files that were made.
pub fn fill(folder: &Path, group: Option<u32>) -> Result<Vec<String>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .with_context(|| folder.display().to_string())?;
    if let Some(group) = group {
        chown(folder, None, Some(group))
            .with_context(|| format!("group {group} for {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750))?;
    }
    let mut made = Vec::new();
    for name in PASSWORDS {
        write_once(folder, &format!("{name}.password"), group, &mut made, || {
            hex(&random::<PASSWORD_BYTES>())
        })?;
    }
    for name in KEY_RINGS {
        write_once(folder, &format!("{name}.keys.toml"), group, &mut made, key_ring)?;
    }
    Ok(made)
}

/// Writes beside the final name and links it into place: a half-written secret is never seen, and of two that run at the
/// same time one wins.
fn write_once(
    folder: &Path,
    name: &str,
    group: Option<u32>,
    made: &mut Vec<String>,
    content: impl Fn() -> String,
) -> Result<()> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(());
    }
    let part = folder.join(format!(".{name}.{}", std::process::id()));
    let mut file = File::create(&part).with_context(|| part.display().to_string())?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o440))?;
    if let Some(group) = group {
        chown(&part, None, Some(group)).with_context(|| format!("group {group} for {name}"))?;
    }
    file.write_all(content().as_bytes())?;
    file.sync_all()?;
    match fs::hard_link(&part, &path) {
        Ok(()) => made.push(name.to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    fs::remove_file(&part)?;
    Ok(())
}

fn key_ring() -> String {
    let secret = STANDARD.encode(random::<32>());
    format!("[[key]]\nid = 1\nstate = \"issue\"\nsecret = \"{secret}\"\n")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux always has random numbers once it has started");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a password of a stack.
pub fn password(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(format!("{name}.password"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fill(folder.path(), None).unwrap().len(), PASSWORDS.len() + KEY_RINGS.len());
        let before = password(folder.path(), "postgres-app").unwrap();
        assert_eq!(fill(folder.path(), None).unwrap(), Vec::<String>::new());
        assert_eq!(password(folder.path(), "postgres-app").unwrap(), before);
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), None).unwrap();
        fs::remove_file(folder.path().join("sticky.keys.toml")).unwrap();
        assert_eq!(fill(folder.path(), None).unwrap(), ["sticky.keys.toml"]);
    }

    #[test]
    fn others_cannot_read_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), None).unwrap();
        let entries: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), PASSWORDS.len() + KEY_RINGS.len());
        for entry in entries {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o440, "{entry:?}");
        }
    }

    #[test]
    fn passwords_differ_and_fit_into_a_connection_string() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), None).unwrap();
        let all: std::collections::BTreeSet<String> =
            PASSWORDS.iter().map(|name| password(folder.path(), name).unwrap()).collect();
        assert_eq!(all.len(), PASSWORDS.len());
        assert!(
            all.iter().all(|it| it.len() == 2 * PASSWORD_BYTES && it.chars().all(|c| c.is_ascii_hexdigit()))
        );
    }
}
