//! Real clients out of the cached trixie root. They run where they are, with that root's own libraries and no root rights.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The cached trixie root with the servers, the peers and the clients, or the one of `STACK_SERVERS_ROOT`; `None` when there is
/// none and none can be made.
pub(crate) fn root() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(|| {
        if let Some(root) = std::env::var_os("STACK_SERVERS_ROOT") {
            return Some(PathBuf::from(root));
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/setup/servers-root");
        let made = Command::new(script).arg("servers").stderr(Stdio::inherit()).output();
        let made = made.ok().filter(|output| output.status.success());
        let path = made.and_then(|output| String::from_utf8(output.stdout).ok());
        path.map(|path| PathBuf::from(path.trim()))
    })
    .as_deref()
}

/// Says that something is missing; a reason to fail where everything must be there.
#[allow(clippy::print_stdout, reason = "the runner of all tests counts these lines")]
pub(crate) fn missing(what: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{what} is missing, and CI=true skips nothing");
    println!("SKIPPED: {what} is missing");
}

/// A command that runs `name`, or nothing if it is missing and may be.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let found = root().filter(|root| root.join("usr/bin").join(name).exists());
    let Some(root) = found else {
        missing(name);
        return None;
    };
    let mut command = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu"));
    command.arg(root.join("usr/bin").join(name)).stdin(Stdio::null()).env_clear();
    Some(command)
}

/// Runs a command to its end beside everything else, and returns what it printed; its success is asserted.
pub(crate) async fn output(mut command: Command) -> String {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{shown}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}
