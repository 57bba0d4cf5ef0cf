//! Who is compared, and how each is started: ours with the shipped configuration and a process for each lane, the peers out
//! of the trixie root with the files of `tests/conformance` and a listener for each lane.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::eventually::attempt;
use crate::layout;
use crate::lease::{self, Lease};
use crate::process::{self, Lifetime, Process, Spec};
use crate::servers_root::ServersRoot;
use crate::topology::Network;

const START_DEADLINE: Duration = Duration::from_secs(60);
const END_DEADLINE: Duration = Duration::from_secs(10);
/// The same deadline as in the peers' files.
const TIMEOUT_MS: &str = "2000";

/// A program that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Ours,
    Haproxy,
    Nginx,
}

impl Subject {
    pub(super) const ALL: [Self; 3] = [Self::Ours, Self::Haproxy, Self::Nginx];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "lb",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Ours => "lb",
            Self::Haproxy => "/usr/sbin/haproxy",
            Self::Nginx => "/usr/sbin/nginx",
        }
    }
}

/// Addresses, a folder, the root with the peers.
#[derive(Debug)]
pub(super) struct Place {
    lease: Lease,
    folder: TempDir,
    root: ServersRoot,
    lanes: usize,
}

/// Everything that was started; ends when dropped.
#[derive(Debug)]
pub(super) struct Running(Vec<Process>);

impl Drop for Running {
    fn drop(&mut self) {
        let left = process::kill_all(&self.0, END_DEADLINE);
        if !left.is_empty() {
            eprintln!("still running: {}", left.join(" "));
        }
    }
}

impl Place {
    pub(super) fn prepare(lanes: usize) -> Result<Self> {
        let root = ServersRoot::find()?;
        for subject in [Subject::Haproxy, Subject::Nginx] {
            ensure!(
                root.has(subject.program()),
                "{} is missing; run: deploy/setup/servers-root servers",
                subject.name()
            );
        }
        let lease = Lease::for_test(&lease::state_root())?;
        let folder = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        Ok(Self { lease, folder, root, lanes })
    }

    /// The listener of a subject's lane.
    pub(super) fn listener(&self, subject: Subject, lane: usize) -> SocketAddr {
        let host = Network(self.lease.network()).lb(subject as u8 + 1).ip();
        SocketAddr::new(host, 8_100 + u16::try_from(lane).expect("few lanes"))
    }

    /// The origin behind it.
    pub(super) fn origin(&self, subject: Subject, lane: usize) -> SocketAddr {
        let host = Network(self.lease.network()).app(subject as u8 + 1).ip();
        SocketAddr::new(host, 3_100 + u16::try_from(lane).expect("few lanes"))
    }

    /// What the peers call themselves.
    pub(super) fn versions(&self) -> Result<String> {
        let folder = self.folder.path();
        let ask = |program: &str| {
            let argv = self.root.contained("www-data", folder, &[], &[program, "-v"]);
            let output = std::process::Command::new(&argv[0]).args(&argv[1..]).output()?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let number = said.split(|letter: char| letter.is_whitespace() || letter == '/');
            let mut number = number.filter(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
            // 3.0.11-1+deb13u1 is 3.0.11.
            number
                .next()
                .and_then(|it| it.split('-').next())
                .map(str::to_owned)
                .with_context(|| format!("{program} -v: {said}"))
        };
        Ok(format!("HAProxy {}, nginx {}", ask(Subject::Haproxy.program())?, ask(Subject::Nginx.program())?))
    }

    /// Starts all of them and waits until every listener is there.
    pub(super) async fn start(&self) -> Result<Running> {
        let mut running = Running(Vec::new());
        for lane in 0..self.lanes {
            running.0.push(Process::spawn(self.ours(lane)?)?);
        }
        let [haproxy, nginx] = [self.haproxy()?, self.nginx()?];
        running.0.push(Process::spawn(self.peer(
            Subject::Haproxy,
            "haproxy.cfg",
            &haproxy,
            &["-db", "-f"],
        )?)?);
        running.0.push(Process::spawn(self.peer(
            Subject::Nginx,
            "nginx.conf",
            &nginx,
            &["-e", "stderr", "-c"],
        )?)?);
        for subject in Subject::ALL {
            for lane in 0..self.lanes {
                let address = self.listener(subject, lane);
                attempt(&format!("{} listens", subject.name()), START_DEADLINE, async || {
                    for process in &running.0 {
                        ensure!(process.is_running(), "{} ended:\n{}", process.spec.name, process.tail());
                    }
                    Ok(TcpStream::connect(address).await.map(drop)?)
                })
                .await?;
            }
        }
        Ok(running)
    }

    fn ours(&self, lane: usize) -> Result<Spec> {
        let listener = self.listener(Subject::Ours, lane);
        let origin = self.origin(Subject::Ours, lane).to_string();
        let variables = [
            ("LB_SERVICE__WORKERS", "1".to_owned()),
            ("LB_SERVER__LISTEN", listener.to_string()),
            ("LB_ADMIN__LISTEN", SocketAddr::new(listener.ip(), 0).to_string()),
            ("LB_DISCOVERY__STATIC", serde_json::Value::from(vec![origin]).to_string()),
            ("LB_STICKY__MODE", "off".to_owned()),
            // An origin that is asked by nobody but the case, and once.
            ("LB_HEALTH__MODE", "off".to_owned()),
            ("LB_EJECTION__ERRORS", "0".to_owned()),
            ("LB_RETRY__RETRIES_MAX", "0".to_owned()),
            ("LB_SERVER__FIRST_BYTE_TIMEOUT_MS", TIMEOUT_MS.to_owned()),
            ("LB_SERVER__HEADER_TIMEOUT_MS", TIMEOUT_MS.to_owned()),
            ("LB_SERVER__KEEP_ALIVE_TIMEOUT_MS", TIMEOUT_MS.to_owned()),
            ("LB_SERVER__BODY_TIMEOUT_MS", TIMEOUT_MS.to_owned()),
            ("LB_UPSTREAM__HEADER_TIMEOUT_MS", TIMEOUT_MS.to_owned()),
            ("LB_UPSTREAM__BODY_TIMEOUT_MS", TIMEOUT_MS.to_owned()),
            ("NO_COLOR", "1".to_owned()),
        ];
        let config = layout::repository().join("deploy/config/lb.toml");
        let argv = vec![
            layout::program("lb")?.display().to_string(),
            "--config".into(),
            config.display().to_string(),
        ];
        let environment = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(self.spec(&format!("lb-{lane}"), argv, environment))
    }

    fn haproxy(&self) -> Result<String> {
        let mut text = template("haproxy.cfg")?;
        for lane in 0..self.lanes {
            let (listener, origin) =
                (self.listener(Subject::Haproxy, lane), self.origin(Subject::Haproxy, lane));
            write!(
                text,
                "\nfrontend lane{lane}\n    bind {listener}\n    default_backend lane{lane}\nbackend lane{lane}\n    server origin {origin}\n"
            )?;
        }
        Ok(text)
    }

    fn nginx(&self) -> Result<String> {
        let mut servers = String::new();
        for lane in 0..self.lanes {
            let (listener, origin) = (self.listener(Subject::Nginx, lane), self.origin(Subject::Nginx, lane));
            writeln!(
                servers,
                "    server {{\n        listen {listener};\n        location / {{ proxy_pass http://{origin}; }}\n    }}"
            )?;
        }
        Ok(template("nginx.conf")?.replace("@SERVERS@", &servers))
    }

    /// The peers run as a user of the root who owns nothing; its folder must be readable to it.
    fn peer(&self, subject: Subject, file: &str, text: &str, flags: &[&str]) -> Result<Spec> {
        let folder = self.folder.path().join(subject.name());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(file), text)?;
        let (user, group) = self.root.user("www-data")?;
        chown(&folder, Some(user), Some(group)).with_context(|| folder.display().to_string())?;
        let path = format!("/srv/stack/{file}");
        let command = [&[subject.program()], flags, &[&path]].concat();
        let argv = self.root.contained("www-data", &folder, &[], &command);
        Ok(self.spec(subject.name(), argv, BTreeMap::new()).contained())
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

fn template(name: &str) -> Result<String> {
    let path = layout::repository().join("tests/conformance").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}
