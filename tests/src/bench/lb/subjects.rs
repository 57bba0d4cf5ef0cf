//! Who is measured, and how each is started: ours with the shipped configuration, the peers out of the trixie root with
//! the files of `tests/bench/lb`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::bench::closed_loop::{self, Tls};
use crate::bench::meter;
use crate::eventually::attempt;
use crate::layout;
use crate::lease::{self, Lease};
use crate::process::{self, Lifetime, Process, Spec};
use crate::secrets;
use crate::servers_root::ServersRoot;
use crate::topology::Network;

/// For a subject to listen and to have looked at its backends.
const START_DEADLINE: Duration = Duration::from_secs(15);
const END_DEADLINE: Duration = Duration::from_secs(10);
/// Listener of the subjects that have one for all cases, of the peers where clients stick, and of all for TLS.
const PORT: u16 = 8080;
const STICKY_PORT: u16 = 8081;
const SECURE_PORT: u16 = 8443;
const ORIGIN_PORT: u16 = 3000;

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Ours,
    Haproxy,
    Nginx,
    Caddy,
}

impl Subject {
    pub(super) const ALL: [Self; 4] = [Self::Ours, Self::Haproxy, Self::Nginx, Self::Caddy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// What the threads that do the work are called.
    pub(super) fn worker_threads(self) -> &'static str {
        match self {
            Self::Ours => "lb-worker-",
            other => other.name(),
        }
    }

    /// The peer's program in the root, and its file in `tests/bench/lb`.
    fn files(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ours => None,
            Self::Haproxy => Some(("/usr/sbin/haproxy", "haproxy.cfg")),
            Self::Nginx => Some(("/usr/sbin/nginx", "nginx.conf")),
            Self::Caddy => Some(("/usr/bin/caddy", "Caddyfile")),
        }
    }
}

/// How a subject is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) workers: usize,
    pub(super) sticks: bool,
    /// Over TLS.
    pub(super) secure: bool,
    /// The core that it must stay on.
    pub(super) core: Option<usize>,
}

/// Where subjects run: addresses, a folder, the root with the peers.
#[derive(Debug)]
pub(super) struct Bench {
    lease: Lease,
    folder: TempDir,
    root: ServersRoot,
}

/// A subject that answers; ends when dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) target: SocketAddr,
    /// How clients speak to it.
    pub(super) tls: Option<Tls>,
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
        for subject in Subject::ALL {
            if let Some((program, _)) = subject.files()
                && !root.has(program)
            {
                bail!("{} is missing; run: deploy/setup/servers-root servers", subject.name());
            }
        }
        layout::program("lb")?;
        meter::require_perf()?;
        let lease = Lease::for_test(&lease::state_root())?;
        let folder = tempfile::Builder::new().prefix("bench-lb-").tempdir()?;
        secrets::fill(&folder.path().join("secrets"), None)?;
        Ok(Self { lease, folder, root })
    }

    pub(super) fn origins(&self) -> Vec<SocketAddr> {
        let network = Network(self.lease.network());
        [1, 2].map(|n| SocketAddr::new(network.app(n).ip(), ORIGIN_PORT)).to_vec()
    }

    /// Each subject has an address of its own: the last one's listener may take a moment to go.
    fn host(&self, subject: Subject) -> IpAddr {
        let number = Subject::ALL.into_iter().position(|known| known == subject).unwrap_or_default();
        Network(self.lease.network()).lb(u8::try_from(number + 1).expect("four subjects")).ip()
    }

    /// Starts a subject and waits until it forwards requests.
    pub(super) async fn start(&self, subject: Subject, setting: Setting) -> Result<Running> {
        let mut spec = match subject.files() {
            None => self.ours(setting)?,
            Some((program, file)) => self.peer(subject, program, file, setting)?,
        };
        if let Some(core) = setting.core {
            spec.argv.splice(0..0, ["taskset".to_owned(), "--cpu-list".to_owned(), core.to_string()]);
        }
        let port = match setting {
            Setting { secure: true, .. } => SECURE_PORT,
            Setting { sticks: true, .. } if subject != Subject::Ours => STICKY_PORT,
            _ => PORT,
        };
        let tls = setting.secure.then(|| Tls::trusting(&self.secret(secrets::AUTHORITY))).transpose()?;
        let target = SocketAddr::new(self.host(subject), port);
        let running = Running { process: Process::spawn(spec)?, target, tls };
        attempt(&format!("{} answers", subject.name()), START_DEADLINE, async || {
            ensure!(running.process.is_running(), "it ended:\n{}", running.process.tail());
            drop(TcpStream::connect(running.target).await?);
            closed_loop::ask_once(running.target, running.tls.as_ref()).await
        })
        .await
        .with_context(|| format!("the log ends:\n{}", running.process.tail()))?;
        Ok(running)
    }

    fn ours(&self, setting: Setting) -> Result<Spec> {
        let origins: Vec<String> = self.origins().iter().map(ToString::to_string).collect();
        let host = self.host(Subject::Ours);
        let keys = self.secret("sticky.keys.toml").display().to_string();
        let certificate = self.secret(secrets::SITE_CERTIFICATE).display().to_string();
        let variables = [
            ("LB_SERVICE__WORKERS", setting.workers.to_string()),
            ("LB_SERVER__LISTEN", SocketAddr::new(host, PORT).to_string()),
            ("LB_ADMIN__LISTEN", SocketAddr::new(host, 0).to_string()),
            ("LB_DISCOVERY__STATIC", serde_json::Value::from(origins).to_string()),
            ("LB_STICKY__MODE", if setting.sticks { "cookie" } else { "off" }.to_owned()),
            ("LB_STICKY__KEYS_FILE", keys),
            ("LB_TLS__LISTEN", serde_json::json!([SocketAddr::new(host, SECURE_PORT)]).to_string()),
            ("LB_TLS__CERTIFICATES", serde_json::json!([{ "chain_file": certificate }]).to_string()),
            ("NO_COLOR", "1".to_owned()),
        ];
        let config = layout::repository().join("deploy/config/lb.toml");
        let argv =
            [layout::program("lb")?.display().to_string(), "--config".into(), config.display().to_string()];
        let environment = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(self.spec("ours", argv.to_vec(), environment))
    }

    fn peer(&self, subject: Subject, program: &str, file: &str, setting: Setting) -> Result<Spec> {
        let template = layout::repository().join("tests/bench/lb").join(file);
        let text = fs::read_to_string(&template).with_context(|| template.display().to_string())?;
        let origins = self.origins();
        let text = text
            .replace("@WORKERS@", &setting.workers.to_string())
            .replace("@HOST@", &self.host(subject).to_string())
            .replace("@ORIGIN_1@", &origins[0].to_string())
            .replace("@ORIGIN_2@", &origins[1].to_string());
        let folder = self.folder.path().join(subject.name());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(file), text)?;
        let certificate = folder.join(secrets::SITE_CERTIFICATE);
        fs::copy(self.secret(secrets::SITE_CERTIFICATE), &certificate)?;
        self.give(&certificate)?;
        self.give(&folder)?;
        let path = format!("/srv/stack/{file}");
        let command: &[&str] = match subject {
            Subject::Haproxy => &[program, "-db", "-f", &path],
            Subject::Nginx => &[program, "-e", "stderr", "-c", &path],
            _ => &[program, "run", "--adapter", "caddyfile", "--config", &path],
        };
        let argv = self.root.contained("www-data", &folder, &[], command);
        let environment = BTreeMap::from([
            ("GOMAXPROCS".to_owned(), setting.workers.to_string()),
            ("HOME".to_owned(), "/tmp".to_owned()),
            ("XDG_CONFIG_HOME".to_owned(), "/tmp".to_owned()),
            ("XDG_DATA_HOME".to_owned(), "/tmp".to_owned()),
        ]);
        Ok(self.spec(subject.name(), argv, environment).contained())
    }

    /// The peers run as a user of the root who owns nothing; what it reads must be readable to it.
    fn give(&self, path: &Path) -> Result<()> {
        let (user, group) = self.root.user("www-data")?;
        chown(path, Some(user), Some(group)).with_context(|| path.display().to_string())
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.folder.path().join("secrets").join(name)
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
