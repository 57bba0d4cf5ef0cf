//! Who is measured, and how each is started: ours with its shipped configuration, the peers with the files in
//! `tests/bench/dns`, all with as many workers as the case says.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::load::{self, Plan, Transport};
use super::zone::{Content, ORIGIN};
use crate::eventually::attempt;
use crate::layout;
use crate::lease::{self, Lease};
use crate::process::{self, Lifetime, Process, Spec};
use crate::servers_root::ServersRoot;
use crate::topology::Network;

/// For a subject to answer from the whole zone.
const START_DEADLINE: Duration = Duration::from_secs(60);
const END_DEADLINE: Duration = Duration::from_secs(10);
const PORT: u16 = 5300;
/// Clients that dnsperf acts as, for each worker: sockets, which the kernel spreads over workers.
const CLIENTS: usize = 16;
/// Questions on their way at any moment.
const OUTSTANDING: usize = 100;
/// Whom the peers and dnsperf run as.
const USER: &str = "www-data";
const DNSPERF: &str = "/usr/bin/dnsperf";

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Ours,
    Knot,
    Nsd,
    Bind,
}

impl Subject {
    pub(super) const ALL: [Self; 4] = [Self::Ours, Self::Knot, Self::Nsd, Self::Bind];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Knot => "knot",
            Self::Nsd => "nsd",
            Self::Bind => "bind",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// What the threads that do the work are called.
    pub(super) fn worker_threads(self) -> &'static str {
        match self {
            Self::Ours => "udp-",
            Self::Knot => "knotd",
            Self::Nsd => "nsd",
            Self::Bind => "isc-loop",
        }
    }

    /// The peer's program in the root, its file in `tests/bench/dns`, and how addresses and ports are joined there.
    fn files(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ours => None,
            Self::Knot => Some(("/usr/sbin/knotd", "knot.conf")),
            Self::Nsd => Some(("/usr/sbin/nsd", "nsd.conf")),
            Self::Bind => Some(("/usr/sbin/named", "named.conf")),
        }
    }
}

/// How a subject is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) workers: usize,
    /// The core that it must stay on.
    pub(super) core: Option<usize>,
}

/// Where subjects run: addresses, a folder, the root with the peers.
#[derive(Debug)]
pub(super) struct Bench {
    lease: Lease,
    /// BIND listens only on addresses that an interface has, so it cannot have one of the leased network.
    bind: SocketAddr,
    folder: TempDir,
    root: ServersRoot,
}

/// A subject that answers; ends when dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) target: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let left = process::kill_all(std::slice::from_ref(&self.process), END_DEADLINE);
        if !left.is_empty() {
            eprintln!("still running: {}", left.join(" "));
        }
    }
}

impl Bench {
    /// Finds everything that the bench needs, or says what is missing.
    pub(super) fn prepare() -> Result<Self> {
        let root = ServersRoot::find()?;
        let programs = Subject::ALL.into_iter().filter_map(Subject::files).map(|(program, _)| program);
        for program in programs.chain([DNSPERF]) {
            if !root.has(program) {
                bail!("{program} is missing; run: deploy/setup/servers-root servers");
            }
        }
        layout::program("dns")?;
        let has_perf = std::process::Command::new("perf").arg("version").output();
        ensure!(
            has_perf.is_ok_and(|it| it.status.success()),
            "perf is missing; run: deploy/setup/host bench"
        );
        let lease = Lease::for_test(&lease::state_root())?;
        let folder = tempfile::Builder::new().prefix("bench-dns-").tempdir()?;
        // Free a moment ago; whoever takes it meanwhile makes BIND's start fail.
        let bind = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self { lease, bind, folder, root })
    }

    /// Each subject has an address of its own: the last one's listener may take a moment to go.
    fn address(&self, subject: Subject) -> SocketAddr {
        if subject == Subject::Bind {
            return self.bind;
        }
        let number = Subject::ALL.into_iter().position(|known| known == subject).unwrap_or_default();
        let host = Network(self.lease.network()).lb(u8::try_from(number + 1).expect("four subjects"));
        SocketAddr::new(host.ip(), PORT)
    }

    /// Starts a subject and waits until it answers from the end of the zone.
    pub(super) async fn start(
        &self,
        subject: Subject,
        content: Content,
        setting: Setting,
    ) -> Result<Running> {
        // A folder that no earlier run left anything in.
        let folder = self.folder.path().join(subject.name());
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        fs::hard_link(self.zone(content)?, folder.join(format!("{ORIGIN}.zone")))?;
        let target = self.address(subject);
        let mut spec = match subject.files() {
            None => self.ours(target, &folder, setting)?,
            Some((program, file)) => self.peer(subject, program, file, &folder, setting)?,
        };
        if let Some(core) = setting.core {
            spec.argv.splice(0..0, ["taskset".to_owned(), "--cpu-list".to_owned(), core.to_string()]);
        }
        let running = Running { process: Process::spawn(spec)?, target };
        attempt(&format!("{} answers", subject.name()), START_DEADLINE, async || {
            ensure!(running.process.is_running(), "it ended:\n{}", running.process.tail());
            load::check(target, content, &content.last_name()).await
        })
        .await
        .with_context(|| format!("the log ends:\n{}", running.process.tail()))?;
        Ok(running)
    }

    /// The zone file of a case; one of a million names is written once.
    fn zone(&self, content: Content) -> Result<PathBuf> {
        let size = if content == Content::Million { "million" } else { "small" };
        let path = self.folder.path().join(format!("{size}.zone"));
        if !path.exists() {
            fs::write(&path, content.zone())?;
        }
        Ok(path)
    }

    /// The load of a case.
    pub(super) fn plan(
        &self,
        target: SocketAddr,
        content: Content,
        transport: Transport,
        workers: usize,
        core: Option<usize>,
    ) -> Result<Plan> {
        let folder = self.folder.path().join("dnsperf");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("questions"), content.questions())?;
        self.give(&folder)?;
        let (ip, port) = (target.ip().to_string(), target.port().to_string());
        let (clients, outstanding) = ((CLIENTS * workers).to_string(), (OUTSTANDING * workers).to_string());
        let threads = workers.to_string();
        let mode = if transport == Transport::Tcp { "tcp" } else { "udp" };
        let mut command = vec![
            DNSPERF,
            "-s",
            &ip,
            "-p",
            &port,
            "-m",
            mode,
            "-d",
            "/srv/stack/questions",
            "-c",
            &clients,
            "-q",
            &outstanding,
            "-T",
            &threads,
            "-O",
            "latency-histogram",
        ];
        if content.is_large() {
            command.push("-e");
        }
        let mut argv = self.root.contained(USER, &folder, &[], &command);
        if let Some(core) = core {
            argv.splice(0..0, ["taskset".to_owned(), "--cpu-list".to_owned(), core.to_string()]);
        }
        Ok(Plan { argv, target, content })
    }

    fn ours(&self, address: SocketAddr, folder: &Path, setting: Setting) -> Result<Spec> {
        let variables = [
            ("DNS_SERVICE__WORKERS", setting.workers.to_string()),
            ("DNS_SERVER__LISTEN", serde_json::Value::from(vec![address.to_string()]).to_string()),
            ("DNS_ADMIN__LISTEN", SocketAddr::new(address.ip(), 0).to_string()),
            ("DNS_ZONES__DIRECTORY", folder.display().to_string()),
            // One client holds all connections of the TCP cases.
            ("DNS_TCP__CONNECTIONS_PER_CLIENT_MAX", "1000".to_owned()),
            ("NO_COLOR", "1".to_owned()),
        ];
        let config = layout::repository().join("deploy/config/dns.toml");
        let argv =
            [layout::program("dns")?.display().to_string(), "--config".into(), config.display().to_string()];
        let environment = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(self.spec("ours", argv.to_vec(), environment))
    }

    fn peer(
        &self,
        subject: Subject,
        program: &str,
        file: &str,
        folder: &Path,
        setting: Setting,
    ) -> Result<Spec> {
        let template = layout::repository().join("tests/bench/dns").join(file);
        let text = fs::read_to_string(&template).with_context(|| template.display().to_string())?;
        let address = self.address(subject);
        let text = text
            .replace("@WORKERS@", &setting.workers.to_string())
            .replace("@ADDRESS@", &address.ip().to_string())
            .replace("@PORT@", &address.port().to_string());
        fs::write(folder.join(file), text)?;
        self.give(folder)?;
        let path = format!("/srv/stack/{file}");
        let workers = setting.workers.to_string();
        let command: &[&str] = match subject {
            Subject::Knot => &[program, "-c", &path],
            Subject::Nsd => &[program, "-d", "-c", &path],
            _ => &[program, "-g", "-n", &workers, "-c", &path],
        };
        let argv = self.root.contained(USER, folder, &[], command);
        Ok(self.spec(subject.name(), argv, BTreeMap::new()).contained())
    }

    /// The peers run as a user of the root who owns nothing; its folder must be theirs.
    fn give(&self, folder: &Path) -> Result<()> {
        let (user, group) = self.root.user(USER)?;
        chown(folder, Some(user), Some(group)).with_context(|| folder.display().to_string())
    }

    fn spec(&self, name: &str, argv: Vec<String>, environment: BTreeMap<String, String>) -> Spec {
        Spec {
            name: name.to_owned(),
            argv,
            environment,
            log: self.folder.path().join(format!("{name}.log")),
            ready_file: None,
            contained: false,
            lifetime: Lifetime::WithParent,
        }
    }
}
