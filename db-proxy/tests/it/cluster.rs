//! A Postgres primary with streaming replicas, as processes of this test.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};

/// Of every role here.
pub const PASSWORD: &str = "it's a \\ test";

/// The root with the servers, or why there is none.
static ROOT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/setup/servers-root");
    let output = Command::new(script).arg("servers").output().map_err(|error| error.to_string())?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(line.into())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
});

/// Whether the test can run. Under CI it must.
pub fn available() -> bool {
    match &*ROOT {
        Ok(_) => true,
        Err(reason) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("no Postgres: {reason}"),
        Err(reason) => {
            println!("SKIPPED: no Postgres: {reason}");
            false
        }
    }
}

/// A thread that lives as long as the process: servers die with the thread that started them, and test threads end early.
fn spawn(command: Command) -> Child {
    type Request = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, child) = channel();
    spawner.lock().unwrap().send((command, reply)).unwrap();
    child.recv().unwrap().expect("unshare is there")
}

/// Starts any program so that it dies with this process.
pub fn spawn_program(command: Command) -> Child {
    spawn(command)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut condition: F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(40), "not within 40 s: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// One Postgres.
pub struct Node {
    pub name: &'static str,
    pub port: u16,
    child: Option<Child>,
}

/// Several of them, of one system.
pub struct Cluster {
    folder: PathBuf,
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// A primary `pg-1` and replicas `pg-2`, `pg-3`; database `fitness`, roles `app` and `probe`.
    pub async fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("db-proxy-{}-{number}", std::process::id()));
        if number == 0 {
            remove_leftovers();
        }
        fs::create_dir_all(&folder).unwrap();
        let passwd = fs::read_to_string(ROOT.as_ref().unwrap().join("etc/passwd")).unwrap();
        let ids = passwd.lines().find_map(|line| line.strip_prefix("postgres:x:")).unwrap();
        let mut ids = ids.split(':').map(|id| id.parse::<u32>().unwrap_or(0));
        chown(&folder, ids.next(), ids.next()).unwrap();
        fs::write(folder.join("password"), PASSWORD).unwrap();

        let nodes = ["pg-1", "pg-2", "pg-3"].map(|name| Node { name, port: free_port(), child: None }).into();
        let mut cluster = Self { folder, nodes };
        cluster.run(
            "initdb -D /srv/stack/pg-1 -N -U postgres --auth-local=trust --auth-host=scram-sha-256 \
             --pwfile=/srv/stack/password >/dev/null",
        );
        cluster.configure("pg-1");
        cluster.start_node(0).await;
        cluster.create_database().await;
        for (at, name) in [(1, "pg-2"), (2, "pg-3")] {
            let port = cluster.nodes[0].port;
            cluster.run(&format!(
                "pg_basebackup -D /srv/stack/{name} -R -c fast -X stream -d \
                 \"host=127.0.0.1 port={port} user=postgres password='$(sed -e 's/[\\\\\\x27]/\\\\&/g' /srv/stack/password)'\""
            ));
            cluster.start_node(at).await;
        }
        cluster
    }

    fn configure(&self, name: &str) {
        let file = self.folder.join(name).join("postgresql.auto.conf");
        let settings = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n\
             shared_buffers = 16MB\nwal_keep_size = 64MB\nmax_connections = 60\nmax_wal_senders = 6\n\
             wal_retrieve_retry_interval = 200ms\nmax_standby_streaming_delay = 300ms\nlogging_collector = off\n";
        fs::write(file, settings).unwrap();
    }

    async fn create_database(&self) {
        let mut admin = self.connect(0, "postgres", "postgres").await;
        let password = PASSWORD.replace('\'', "''");
        for sql in [
            format!("CREATE ROLE app LOGIN PASSWORD '{password}'"),
            format!("CREATE ROLE probe LOGIN PASSWORD '{password}' IN ROLE pg_monitor"),
            "CREATE DATABASE fitness OWNER app".to_owned(),
        ] {
            admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        }
    }

    /// Starts a node, or starts it again.
    pub async fn start_node(&mut self, at: usize) {
        let (name, port) = (self.nodes[at].name, self.nodes[at].port);
        let command = self
            .command(&format!("exec postgres -D /srv/stack/{name} -p {port} >>/srv/stack/{name}.log 2>&1"));
        self.nodes[at].child = Some(spawn(command));
        eventually(&format!("{name} is up"), async || {
            self.try_connect(at, "postgres", "postgres").await.is_ok()
        })
        .await;
    }

    /// A connection past the proxy.
    pub async fn connect(&self, at: usize, user: &str, database: &str) -> PgConnection {
        self.try_connect(at, user, database).await.unwrap()
    }

    async fn try_connect(&self, at: usize, user: &str, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.nodes[at].port);
        PgConnection::connect_with(&options.username(user).password(PASSWORD).database(database)).await
    }

    /// Runs SQL on a node as superuser in the application's database.
    pub async fn sql(&self, at: usize, sql: &'static str) {
        self.connect(at, "postgres", "fitness").await.execute(sql).await.unwrap();
    }

    pub fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, at: usize, signal: Signal) {
        let pid = self.nodes[at].child.as_ref().unwrap().id();
        // The processes that serve connections are its children: a host that stands still stands still as a whole.
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        for pid in children.split_whitespace().map(|pid| pid.parse().unwrap()).chain([pid.cast_signed()]) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until a replica has replayed all that the primary has written.
    pub async fn caught_up(&self, primary: usize, replica: usize) {
        let mut writer = self.connect(primary, "postgres", "postgres").await;
        let mut reader = self.connect(replica, "postgres", "postgres").await;
        let (end,): (String,) =
            sqlx::query_as("SELECT pg_current_wal_insert_lsn()::text").fetch_one(&mut writer).await.unwrap();
        eventually("the replica has caught up", async || {
            let sql = "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn";
            sqlx::query_as::<_, (bool,)>(sql).bind(&end).fetch_one(&mut reader).await.unwrap().0
        })
        .await;
    }

    /// Runs a shell line inside the root, as postgres, to its end.
    fn run(&self, line: &str) {
        let output = self.command(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
        command.arg(
            "mount --rbind /dev \"$1/dev\"; mount -t proc proc \"$1/proc\"; mount --bind \"$2\" \"$1/srv/stack\"; \
             exec chroot \"$1\" setpriv --reuid postgres --regid postgres --clear-groups --pdeathsig KILL \
             env PATH=/usr/lib/postgresql/17/bin:/usr/bin:/bin LC_ALL=C.UTF-8 sh -euc \"$3\"",
        );
        command.args([
            "sh".as_ref(),
            ROOT.as_ref().unwrap().as_os_str(),
            self.folder.as_os_str(),
            line.as_ref(),
        ]);
        command.current_dir("/").stdin(Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].child.is_some() {
                self.signal(at, Signal::SIGCONT);
                self.kill(at);
            }
        }
        if std::thread::panicking() {
            for node in &self.nodes {
                let log =
                    fs::read_to_string(self.folder.join(format!("{}.log", node.name))).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(8).collect();
                println!("end of {}'s log, backwards:\n{}", node.name, end.join("\n"));
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Folders of test processes that were killed.
fn remove_leftovers() {
    for entry in fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("db-proxy-").and_then(|rest| rest.split('-').next().map(str::to_owned));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
