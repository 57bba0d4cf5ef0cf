//! Programs of others, out of the cached root with the servers of Debian trixie. Without that root a test is skipped aloud,
//! and with `CI=true` it fails.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The root, made when this machine has none.
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// Finds it, or says that `test` is skipped.
    pub(crate) fn find(test: &str) -> Option<Root> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/setup/servers-root");
        let made = Command::new(script).arg("servers").stderr(Stdio::inherit()).output().unwrap();
        if made.status.success() {
            return Some(Root { path: PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()) });
        }
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI has to have the root with the servers");
        println!("SKIPPED {test}: deploy/setup/servers-root could not give its root");
        None
    }

    /// A folder that both sides see: here, and the same by the name that it has in the root.
    pub(crate) fn folder(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir_in(self.path.join("tmp")).unwrap();
        let inside = Path::new("/").join(folder.path().strip_prefix(&self.path).unwrap());
        (folder, inside)
    }

    /// A program of the root, to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("chroot")
            .arg(&self.path)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that has read enough closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}
