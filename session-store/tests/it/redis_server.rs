//! A real Redis as a child process, from the project's server root or from the PATH.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const ROOT_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/setup/servers-root");

enum Source {
    Root(String),
    Path,
    Missing(String),
}

/// Asked once: making the root may take minutes on a new machine.
static SOURCE: LazyLock<Source> = LazyLock::new(|| {
    let why = match Command::new(ROOT_SCRIPT).arg("servers").stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => {
            return Source::Root(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Ok(output) => format!("deploy/setup/servers-root: {}", output.status),
        Err(error) => format!("deploy/setup/servers-root: {error}"),
    };
    match Command::new("redis-server").arg("--version").output() {
        Ok(_) => Source::Path,
        Err(error) => Source::Missing(format!("{why}; redis-server: {error}")),
    }
});

/// Whether tests against Redis can run. Says so loudly when not, and fails in CI.
pub(crate) fn available(test: &str) -> bool {
    let Source::Missing(why) = &*SOURCE else { return true };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs a Redis server: {why}");
    eprintln!("SKIPPED {test}: no Redis server: {why}");
    false
}

/// One server on a port of its own, with an append-only file, killed when dropped.
pub(crate) struct RedisServer {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let mut server = Self::not_started();
        server.launch();
        server
    }

    /// An address where nothing listens yet.
    pub(crate) fn not_started() -> Self {
        let folder = TempDir::new().unwrap();
        // The server runs as another user.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        Self { folder, port, child: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts the process on the same port and folder, and waits until it accepts connections.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "already running");
        self.child = Some(spawn_from_lasting_thread(command(self.folder.path(), self.port)));
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).is_err() {
            let log = self.folder.path().join("log");
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(log).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("running");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }

    /// Asks the server directly, beside the store.
    pub(crate) async fn ask(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(folder: &Path, port: u16) -> Command {
    let mut command = match &*SOURCE {
        Source::Root(root) => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-ec"]).arg(
                r#"root=$1 folder=$2; shift 2
                   mount --rbind /dev "$root/dev"; mount -t proc proc "$root/proc"
                   mount --bind "$folder" "$root/srv/stack"
                   exec chroot "$root" setpriv --reuid redis --regid redis --clear-groups --pdeathsig KILL \
                       redis-server --dir /srv/stack "$@""#,
            );
            command.arg("sh").arg(root).arg(folder);
            command
        }
        Source::Path => {
            let mut command = Command::new("redis-server");
            command.arg("--dir").arg(folder);
            command
        }
        Source::Missing(why) => panic!("{why}"),
    };
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--logfile", "log"]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The kernel kills the server when the thread that started it ends, so that a test run that dies leaves nothing
/// behind; the threads of single tests end too early for that.
fn spawn_from_lasting_thread(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<Child>);
    static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn().expect("a server starts"));
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    SPAWNER.send((command, reply)).unwrap();
    child.recv().unwrap()
}
