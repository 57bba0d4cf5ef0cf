//! Real servers for tests, out of the cached Debian root: Postgres with pgvector, and Redis. Each is a process of ours
//! in a private mount namespace, on a free port of the loopback, with a folder that goes away with it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a server may take to answer.
const START_DEADLINE: Duration = Duration::from_secs(60);
const POSTGRES: &str = "/usr/lib/postgresql/17/bin";

/// The root with the servers; `None` (and a loud line) where there is none and nobody insists.
pub(crate) fn root() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(|| match find_root() {
        Ok(root) => Some(root),
        Err(error) if std::env::var_os("CI").is_some_and(|value| value == "true") => {
            panic!("the servers are needed under CI=true: {error:#}")
        }
        Err(error) => {
            eprintln!("SKIPPED: no Postgres and Redis to test against: {error:#}");
            None
        }
    })
    .as_deref()
}

fn find_root() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/setup/servers-root");
    let output = Command::new(&script)
        .arg("servers")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run servers-root")?;
    if !output.status.success() {
        bail!("servers-root failed: {}", output.status);
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// One server's process and folder.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Server {
    /// A Postgres with the superuser `postgres`, the role `app`, and no databases of ours.
    pub(crate) fn postgres() -> Result<Self> {
        let folder = folder()?;
        let initdb = [
            &format!("{POSTGRES}/initdb"),
            "-D",
            "/srv/stack/data",
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        ];
        let output = inside(folder.path(), &initdb.map(str::to_owned)).output()?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let port = free_port()?;
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=/srv/stack".into(),
            "fsync=off".into(),
            "shared_buffers=16MB".into(),
        ];
        let mut arguments = vec![format!("{POSTGRES}/postgres"), "-D".into(), "/srv/stack/data".into()];
        arguments.extend(settings.into_iter().flat_map(|setting| ["-c".into(), setting]));
        let server = Self { port, arguments, folder, process: None }.started()?;
        server.psql("postgres", "CREATE ROLE app LOGIN")?;
        Ok(server)
    }

    pub(crate) fn redis() -> Result<Self> {
        let port = free_port()?;
        let arguments = [
            "/usr/bin/redis-server",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--dir",
            "/srv/stack",
        ];
        Self { port, arguments: arguments.map(str::to_owned).into(), folder: folder()?, process: None }
            .started()
    }

    fn started(mut self) -> Result<Self> {
        self.start()?;
        Ok(self)
    }

    /// Starts it (again), and waits until it answers.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + START_DEADLINE;
        while !self.answers() {
            if Instant::now() > deadline {
                bail!(
                    "{} does not answer: {}",
                    self.arguments[0],
                    std::fs::read_to_string(self.folder.path().join("log"))?
                );
            }
            std::thread::sleep(Duration::from_millis(50));
            // A Postgres that was killed may find its own children still there, and gives up: try again.
            if self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(Some(_)))) {
                self.spawn()?;
            }
        }
        Ok(())
    }

    fn spawn(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join("log"))?;
        let child =
            inside(self.folder.path(), &self.arguments).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.process = Some(child);
        Ok(())
    }

    fn answers(&self) -> bool {
        match self.arguments[0].ends_with("postgres") {
            true => self.psql("postgres", "SELECT 1").is_ok(),
            false => std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
        }
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The whole group: Postgres' children would keep the port for a moment.
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", process.id())]).status();
            let _ = process.wait();
        }
    }

    /// Sends a signal to its main process.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let process = self.process.as_ref().context("it does not run")?;
        let done = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status()?;
        if !done.success() {
            bail!("kill -{name}: {done}");
        }
        Ok(())
    }

    /// Runs SQL as the superuser and returns what `psql -At` prints.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let port = self.port.to_string();
        let psql = format!("{POSTGRES}/psql");
        let arguments = [
            &psql,
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
            database,
            "-v",
            "ON_ERROR_STOP=1",
            "-Atqc",
            sql,
        ];
        let output = inside(self.folder.path(), &arguments.map(str::to_owned)).output()?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command as user postgres in the root, with the folder as /srv/stack. The chain of execs keeps one pid.
fn inside(folder: &Path, arguments: &[String]) -> Command {
    let script = "mount --rbind /dev \"$1/dev\" && mount -t proc proc \"$1/proc\" && mount --bind \"$2\" \"$1/srv/stack\" && \
                  root=$1 && shift 2 && exec chroot \"$root\" setpriv --reuid postgres --regid postgres --clear-groups \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(root().expect("asked for before any server")).arg(folder).args(arguments);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// A folder that the root's user postgres owns.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let passwd = std::fs::read_to_string(root().context("no root")?.join("etc/passwd"))?;
    let mut fields = passwd
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"))
        .context("no user postgres")?
        .split(':')
        .skip(1);
    let (user, group) =
        (fields.next().context("no uid")?.parse()?, fields.next().context("no gid")?.parse()?);
    std::os::unix::fs::chown(folder.path(), Some(user), Some(group))?;
    Ok(folder)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
