//! The program under test, as a process.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, MutexGuard};

use crate::cluster::{Cluster, PASSWORD, eventually, spawn_program};

/// A running proxy.
pub struct Proxy {
    child: Child,
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    /// In front of all nodes of `cluster`, with some variables more; ready when it knows the primary and both replicas.
    pub async fn start(cluster: &Cluster, more: &[(&str, &str)]) -> Self {
        let proxy = Self::start_cold(cluster, more).await;
        eventually("the proxy knows the cluster", async || {
            let metrics = proxy.metrics().await;
            metrics.matches("role=\"replica\"} 1").count() == 2 && metrics.contains("role=\"primary\"} 1")
        })
        .await;
        proxy
    }

    /// The same, without waiting for the nodes.
    pub async fn start_cold(cluster: &Cluster, more: &[(&str, &str)]) -> Self {
        // Named like the clusters' folders, which are cleared when their process is gone.
        let prefix = format!("db-proxy-{}-proxy", std::process::id());
        let folder =
            tempfile::Builder::new().prefix(&prefix).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for user in ["app", "probe"] {
            fs::write(folder.path().join(format!("postgres-{user}.password")), PASSWORD).unwrap();
        }
        let nodes = cluster.nodes.iter().map(|node| format!("\"{}=127.0.0.1:{}\"", node.name, node.port));
        let nodes = format!("[{}]", nodes.collect::<Vec<_>>().join(","));
        let ready = folder.path().join("ready");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        // The shared one is never dropped: it ends with this process.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_db-proxy")]);
        command.arg("--ready-file").arg(&ready).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command.env("DB_PROXY_SERVER__LISTEN", "127.0.0.1:0").env("DB_PROXY_ADMIN__LISTEN", "127.0.0.1:0");
        command.env("DB_PROXY_CLUSTER__NODES", nodes).env("DB_PROXY_AUTH__USERS", "[\"app\"]");
        command.env("DB_PROXY_AUTH__PASSWORD_DIRECTORY", folder.path());
        command.env("DB_PROXY_SERVICE__WORKERS", "2").env("DB_PROXY_LOG__FILTER", "debug");
        command.env("DB_PROXY_SHUTDOWN__LAME_DUCK_MS", "0");
        command.envs(more.iter().copied());
        let child = spawn_program(command);
        eventually("the proxy listens", async || {
            fs::read_to_string(&ready).is_ok_and(|text| text.contains('}'))
        })
        .await;
        let text = fs::read_to_string(&ready).unwrap();
        let address = |name: &str| -> SocketAddr {
            let (_, rest) =
                text.split_once(&format!("\"{name}\"")).unwrap_or_else(|| panic!("{name} in {text}"));
            rest.split('"').nth(1).unwrap().parse().unwrap()
        };
        Self { child, address: address("postgres"), admin: address("admin"), folder }
    }

    pub fn options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.address.port());
        options.username("app").password(PASSWORD).database("fitness")
    }

    pub fn pool(&self, size: u32) -> PgPool {
        let options = PgPoolOptions::new().max_connections(size).acquire_timeout(Duration::from_secs(90));
        options.connect_lazy_with(self.options())
    }

    pub async fn metrics(&self) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.admin).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// The sum of all series that start with `prefix`.
    pub async fn metric(&self, prefix: &str) -> f64 {
        let metrics = self.metrics().await;
        let values =
            metrics.lines().filter(|line| line.starts_with(prefix)).filter_map(|line| line.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(self.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            println!("end of the proxy's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// A cluster and a proxy that tests share when they break nothing. One at a time, so that counts mean something.
pub struct Shared {
    pub cluster: Cluster,
    pub proxy: Proxy,
}

/// A runtime of its own per test would end the shared connections of the others: none are kept, only processes.
pub async fn shared() -> MutexGuard<'static, Option<Shared>> {
    static SHARED: LazyLock<Mutex<Option<Shared>>> = LazyLock::new(Mutex::default);
    let mut guard = SHARED.lock().await;
    if guard.is_none() {
        let cluster = Cluster::start().await;
        let proxy =
            Proxy::start(&cluster, &[("DB_PROXY_ROUTING__READ_FUNCTIONS", r#"["sneaky_write"]"#)]).await;
        *guard = Some(Shared { cluster, proxy });
    }
    guard
}
