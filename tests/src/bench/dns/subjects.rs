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
use super::zone::Content;
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
/// Whom dnsperf and most of the peers run as.
const USER: &str = "www-data";
const DNSPERF: &str = "/usr/bin/dnsperf";
/// The zone, in the folder of each subject.
pub(crate) const ZONE_FILE: &str = "bench.example.zone";

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Ours,
    Knot,
    Nsd,
    Bind,
}

impl Subject {
    pub(crate) const ALL: [Self; 4] = [Self::Ours, Self::Knot, Self::Nsd, Self::Bind];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Knot => "knot",
            Self::Nsd => "nsd",
            Self::Bind => "bind",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// What the threads that do the work are called.
    pub(crate) fn worker_threads(self) -> &'static str {
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
pub(crate) struct Setting {
    pub(crate) workers: usize,
    /// The core that it must stay on.
    pub(crate) core: Option<usize>,
}

/// Where subjects run: addresses, a folder, the root with the peers.
#[derive(Debug)]
pub(crate) struct Bench {
    lease: Lease,
    /// BIND listens only on addresses that an interface has, so it cannot have one of the leased network.
    bind: SocketAddr,
    folder: TempDir,
    root: ServersRoot,
}

/// A subject that answers; ends when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) target: SocketAddr,
}

impl Running {
    /// Waits until it gives the answer that `check` asks for.
    pub(crate) async fn answers(&self, check: impl AsyncFn() -> Result<()>) -> Result<()> {
        let process = &self.process;
        attempt(&format!("{} answers", process.spec.name), START_DEADLINE, async || {
            ensure!(process.is_running(), "it ended:\n{}", process.tail());
            check().await
        })
        .await
        .with_context(|| format!("the log ends:\n{}", process.tail()))
    }
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
    /// Finds everything that these subjects and their load need, or says what is missing.
    pub(crate) fn prepare(subjects: &[Subject]) -> Result<Self> {
        let root = ServersRoot::find()?;
        let programs = subjects.iter().filter_map(|subject| subject.files()).map(|(program, _)| program);
        for program in programs.chain([DNSPERF]) {
            if !root.has(program) {
                bail!("{program} is missing; run: deploy/setup/servers-root servers");
            }
        }
        layout::program("dns")?;
        let lease = Lease::for_test(&lease::state_root())?;
        let folder = tempfile::Builder::new().prefix("bench-dns-").tempdir()?;
        // Free a moment ago; whoever takes it meanwhile makes BIND's start fail.
        let bind = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self { lease, bind, folder, root })
    }

    /// Each subject has an address of its own: the last one's listener may take a moment to go.
    pub(crate) fn address(&self, subject: Subject) -> SocketAddr {
        if subject == Subject::Bind {
            return self.bind;
        }
        let number = Subject::ALL.into_iter().position(|known| known == subject).unwrap_or_default();
        let host = Network(self.lease.network()).lb(u8::try_from(number + 1).expect("four subjects"));
        SocketAddr::new(host.ip(), PORT)
    }

    /// Starts a subject and waits until it answers from the end of the zone.
    pub(crate) async fn start(
        &self,
        subject: Subject,
        content: Content,
        setting: Setting,
    ) -> Result<Running> {
        let folder = self.new_folder(subject)?;
        fs::hard_link(self.zone(content)?, folder.join(ZONE_FILE))?;
        let running = self.spawn(subject, &folder, setting, BTreeMap::new())?;
        running.answers(async || load::check(running.target, content, &content.last_name()).await).await?;
        Ok(running)
    }

    /// The folder of a subject's files, in which no earlier run left anything.
    pub(crate) fn new_folder(&self, subject: Subject) -> Result<PathBuf> {
        let folder = self.folder.path().join(subject.name());
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Starts a subject on the zone that is in its folder; it may not answer yet. `more` is for the environment of ours.
    pub(crate) fn spawn(
        &self,
        subject: Subject,
        folder: &Path,
        setting: Setting,
        more: BTreeMap<String, String>,
    ) -> Result<Running> {
        let target = self.address(subject);
        let mut spec = match subject.files() {
            None => self.ours(target, folder, setting, more)?,
            Some((program, file)) => self.peer(subject, program, file, folder, setting)?,
        };
        if let Some(core) = setting.core {
            spec.argv.splice(0..0, ["taskset".to_owned(), "--cpu-list".to_owned(), core.to_string()]);
        }
        Ok(Running { process: Process::spawn(spec)?, target })
    }

    /// The number of the leased network, for what else is part of a run.
    pub(crate) fn network(&self) -> u16 {
        self.lease.network()
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
    pub(crate) fn plan(
        &self,
        target: SocketAddr,
        content: Content,
        transport: Transport,
        workers: usize,
        core: Option<usize>,
    ) -> Result<Plan> {
        let mut more = vec!["-m", if transport == Transport::Tcp { "tcp" } else { "udp" }];
        if content.is_large() {
            more.push("-e");
        }
        let argv = self.dnsperf(target, &content.questions(), workers, core, &more)?;
        Ok(Plan { argv, target, content })
    }

    /// dnsperf's command line up to the time limit, for `workers` workers of the target. Of options that are given twice
    /// it takes the later, which is that in `more`.
    pub(crate) fn dnsperf(
        &self,
        target: SocketAddr,
        questions: &str,
        workers: usize,
        core: Option<usize>,
        more: &[&str],
    ) -> Result<Vec<String>> {
        let folder = self.folder.path().join("dnsperf");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("questions"), questions)?;
        self.give(&folder)?;
        let (ip, port) = (target.ip().to_string(), target.port().to_string());
        let (clients, outstanding) = ((CLIENTS * workers).to_string(), (OUTSTANDING * workers).to_string());
        let threads = workers.to_string();
        let mut command = vec![DNSPERF, "-s", &ip, "-p", &port, "-d", "/srv/stack/questions"];
        command.extend(["-c", &clients, "-q", &outstanding, "-T", &threads, "-O", "latency-histogram"]);
        command.extend(more);
        let mut argv = self.root.contained(USER, &folder, &[], &command);
        if let Some(core) = core {
            argv.splice(0..0, ["taskset".to_owned(), "--cpu-list".to_owned(), core.to_string()]);
        }
        Ok(argv)
    }

    fn ours(
        &self,
        address: SocketAddr,
        folder: &Path,
        setting: Setting,
        more: BTreeMap<String, String>,
    ) -> Result<Spec> {
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
        let mut environment = BTreeMap::from(variables.map(|(name, value)| (name.to_owned(), value)));
        environment.extend(more);
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
        // NSD sets the size of its buffers as a privileged user only, and without a word keeps the system's when it is none.
        let user = if subject == Subject::Nsd { "root" } else { USER };
        let argv = self.root.contained(user, folder, &[], command);
        Ok(self.spec(subject.name(), argv, BTreeMap::new()).contained())
    }

    /// Most run as a user of the root who owns nothing; its folder must be theirs.
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
