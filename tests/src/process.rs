//! Processes that the harness started, and only those: spawned with a log file, named by pid and start time, signalled
//! after both were checked. A pid alone may by now be somebody else's.

pub(crate) mod identity;
mod spawner;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use identity::Identity;
pub(crate) use identity::pids;

/// How long a process may take to write its ready file.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// How much of a log is shown when something goes wrong.
const TAIL_LINES: usize = 15;

/// Who outlives whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// The kernel kills the process when this one ends, however it ends: for tests and drills.
    WithParent,
    /// The process goes on in a session of its own, recorded in the state file: for `stack up`.
    Detached,
}

/// Everything that is needed to start a process, now and again after it died. Holds no secret: those are in files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The instance's name, unique in its stack: `lb-1`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables beside the inherited ones.
    pub environment: BTreeMap<String, String>,
    /// Standard output and error, appended.
    pub log: PathBuf,
    /// Written by the process once its listeners are bound.
    pub ready_file: Option<PathBuf>,
    /// The process runs in its own mount and pid namespaces (a server out of the trixie root).
    pub contained: bool,
    /// Who outlives whom.
    pub lifetime: Lifetime,
}

/// A process that was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// How it was started.
    pub spec: Spec,
    /// Which process it is, or was.
    pub identity: Identity,
}

impl Spec {
    /// The same in namespaces of its own; the argv has to make them.
    #[must_use]
    pub fn contained(mut self) -> Self {
        self.contained = true;
        self
    }
}

impl Process {
    /// Starts the process; it has not said yet that it is ready.
    pub fn spawn(spec: Spec) -> Result<Self> {
        if let Some(ready) = &spec.ready_file {
            let _ = fs::remove_file(ready);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&spec.log)
            .with_context(|| format!("log file {}", spec.log.display()))?;
        // Both wrappers end in exec, so the pid is the program's.
        let mut command = match spec.lifetime {
            Lifetime::WithParent => wrapped(&["setpriv", "--pdeathsig", "KILL", "--"], &spec.argv),
            Lifetime::Detached => wrapped(&["setsid"], &spec.argv),
        };
        command.envs(&spec.environment).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let pid =
            spawner::spawn(command).with_context(|| format!("starting {}: {:?}", spec.name, spec.argv))?;
        let identity =
            Identity::of(pid).with_context(|| format!("{} ended at once\n{}", spec.name, tail(&spec.log)))?;
        Ok(Self { spec, identity })
    }

    /// Waits for the ready file and returns the bound addresses by listener name. Shows the log's end on failure.
    pub async fn ready(&self) -> Result<BTreeMap<String, String>> {
        let Some(path) = &self.spec.ready_file else { return Ok(BTreeMap::new()) };
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            if let Ok(text) = fs::read_to_string(path)
                && let Ok(addresses) = serde_json::from_str(&text)
            {
                return Ok(addresses);
            }
            let name = &self.spec.name;
            if !self.is_running() {
                bail!(
                    "{name} ended before it was ready; the end of {}:\n{}",
                    self.spec.log.display(),
                    self.tail()
                );
            }
            if Instant::now() > deadline {
                bail!("{name} was not ready within {READY_DEADLINE:?}; its log ends:\n{}", self.tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether it still runs (a zombie does not).
    pub fn is_running(&self) -> bool {
        self.identity.is_running()
    }

    /// Sends a signal if the process is still the one that was started. In a container-like process, KILL and TERM go to
    /// its first process (with which all others end), STOP and CONT to all.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.spec.contained {
            return self.identity.signal(signal);
        }
        let members = self.members();
        let Some(first) = members.first() else {
            // Killed before its namespaces were made.
            return if signal == Signal::SIGKILL { self.identity.signal(signal) } else { Ok(()) };
        };
        match signal {
            Signal::SIGSTOP | Signal::SIGCONT => members.iter().try_for_each(|member| member.signal(signal)),
            _ => first.signal(signal),
        }
    }

    /// The processes that make up this one: itself, or everything in its pid namespace, first process first.
    pub fn members(&self) -> Vec<Identity> {
        if self.spec.contained { self.identity.namespace_members() } else { vec![self.identity] }
    }

    /// Memory in bytes: proportional set size (shared pages counted once) of all members.
    pub fn memory_bytes(&self) -> u64 {
        self.members().iter().map(Identity::memory_bytes).sum()
    }

    /// Waits until the process is gone.
    pub async fn gone(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                bail!("{} (pid {}) still runs after {limit:?}", self.spec.name, self.identity.pid);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The log's last lines.
    pub fn tail(&self) -> String {
        tail(&self.spec.log)
    }
}

fn wrapped(wrapper: &[&str], argv: &[String]) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).args(argv);
    command
}

/// The last lines of a log, indented.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("    {line}\n")).collect()
}

/// Kills all of them with everything inside them, and waits; for the places that cannot await (`Drop`). Returns the names
/// of those that stayed.
pub fn kill_all(processes: &[Process], limit: Duration) -> Vec<String> {
    let members: Vec<(&str, Identity)> = processes
        .iter()
        .flat_map(|process| {
            let inside = process.members().into_iter().chain([process.identity]);
            inside.map(|member| (process.spec.name.as_str(), member))
        })
        .collect();
    for process in processes {
        // Stopped processes die of KILL as well; the error would be that it is gone already.
        let _ = process.signal(Signal::SIGKILL);
        let _ = process.identity.signal(Signal::SIGKILL);
    }
    let deadline = Instant::now() + limit;
    loop {
        let mut left: Vec<String> =
            members.iter().filter(|(_, it)| it.is_running()).map(|(name, _)| (*name).to_owned()).collect();
        left.dedup();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Process {
        Process::spawn(Spec {
            name: "sleeper".into(),
            argv: vec!["sleep".into(), "60".into()],
            environment: BTreeMap::new(),
            log: folder.join("log"),
            ready_file: None,
            contained: false,
            lifetime: Lifetime::WithParent,
        })
        .unwrap()
    }

    #[test]
    fn a_killed_process_is_not_running() {
        let folder = tempfile::tempdir().unwrap();
        let process = sleeper(folder.path());
        assert!(process.is_running());
        assert_eq!(kill_all(std::slice::from_ref(&process), Duration::from_secs(5)), Vec::<String>::new());
        assert!(!process.is_running());
    }

    #[test]
    fn somebody_elses_process_with_the_same_pid_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let process = sleeper(folder.path());
        let stranger = Identity { started_ticks: process.identity.started_ticks + 1, ..process.identity };
        assert!(stranger.signal(Signal::SIGKILL).is_err());
        assert!(process.is_running());
        kill_all(&[process], Duration::from_secs(5));
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = sleeper(folder.path()).spec;
        spec.argv = vec!["no-such-program".into()];
        spec.ready_file = Some(folder.path().join("ready"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error =
            Process::spawn(spec).and_then(|process| runtime.block_on(process.ready()).map(drop)).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program"), "{error:#}");
    }
}
