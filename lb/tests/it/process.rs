//! Starts the balancer, reads its metrics, stops it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::backend::Backend;
use crate::client;

/// The patience of every wait in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running balancer; killed when dropped.
pub(crate) struct Lb {
    child: Child,
    folder: TempDir,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Every listener by its name.
    pub(crate) bound: BTreeMap<String, SocketAddr>,
}

/// Settings of a test, written over quick ones.
#[derive(Clone)]
pub(crate) struct Setup(Vec<(String, String)>);

impl Setup {
    pub(crate) fn new(backends: &[&Backend]) -> Self {
        Self::of(&backends.iter().map(|backend| backend.address).collect::<Vec<_>>())
    }

    pub(crate) fn of(backends: &[SocketAddr]) -> Self {
        let list: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
        Self(Vec::new())
            .with("server.listen", "127.0.0.1:0")
            .with("discovery.static", &format!("[{}]", list.join(",")))
            .with("health.interval_ms", "100")
            .with("health.start_interval_ms", "50")
            .with("service.workers", "2")
            .with("admin.listen", "127.0.0.1:0")
            // The name that these tests' client calls everybody by.
            .with("admin.hosts", r#"["fitness.example.com"]"#)
            .with("shutdown.lame_duck_ms", "300")
    }

    /// Nothing over the file that `start_with` is given.
    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        let name = format!("LB_{}", key.to_uppercase().replace('.', "__"));
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value.to_owned()));
        self
    }

    /// With TLS on a port of its own, and these certificates of the authority's.
    pub(crate) fn secure(self, authority: &Authority, files: &[&str]) -> Self {
        self.with("tls.listen", r#"["127.0.0.1:0"]"#).with("tls.certificates", &authority.setting(files))
    }

    /// Starts it and waits until it serves; `ready` backends must be up.
    pub(crate) async fn start(self, ready: usize) -> Lb {
        self.start_ready("", ready).await
    }

    /// The same with a configuration file.
    pub(crate) async fn start_ready(self, file: &str, ready: usize) -> Lb {
        let lb = self.start_with(file).await;
        lb.up(ready).await;
        lb
    }

    /// Runs it where it should refuse to start: its exit code and what it said.
    pub(crate) fn refused(self) -> (Option<i32>, String) {
        let run =
            Command::new(env!("CARGO_BIN_EXE_lb")).arg("--check-config").env_clear().envs(self.0).output();
        let run = run.unwrap();
        let said = [run.stdout, run.stderr].concat();
        (run.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Starts it with a configuration file; does not wait for backends.
    pub(crate) async fn start_with(self, file: &str) -> Lb {
        let mut lb = self.spawn_with(file);
        let started = Instant::now();
        let text = loop {
            match std::fs::read_to_string(lb.folder.path().join("ready.json")) {
                Ok(text) => break text,
                Err(_) if started.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("not ready: {error}\n{}", lb.log()),
            }
        };
        lb.bound = serde_json::from_str(&text).unwrap();
        (lb.http, lb.admin) = (lb.bound["http"], lb.bound["admin"]);
        lb
    }

    /// Starts it and does not wait for anything; its addresses are not known.
    pub(crate) fn spawn_with(self, file: &str) -> Lb {
        let folder = tempfile::tempdir().unwrap();
        let (config, ready) = (folder.path().join("lb.toml"), folder.path().join("ready.json"));
        std::fs::write(&config, file).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lb"))
            .args(["--config".as_ref(), config.as_os_str(), "--ready-file".as_ref(), ready.as_os_str()])
            .env_clear()
            .envs(self.0)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        Lb { child, folder, http: none, admin: none, bound: BTreeMap::new() }
    }
}

impl Lb {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("lb.toml")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for the end and returns whether it was a clean one.
    pub(crate) async fn ended(&mut self) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(started.elapsed() < PATIENCE, "does not end\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) async fn metrics(&self) -> String {
        client::send(self.admin, "GET /metrics", &[("host", "localhost")], "").await.text()
    }

    /// The sum of the samples of `name` whose labels contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        sum(&self.metrics().await, name, label)
    }

    /// Waits until the metrics satisfy a condition.
    pub(crate) async fn wait(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let metrics = self.metrics().await;
            if condition(&metrics) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "never: {what}\n{}\n{metrics}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many backends are up, in all pools.
    pub(crate) async fn up(&self, count: usize) {
        let state = |metrics: &str| sum(metrics, "lb_backend_state", "state=\"up\"");
        self.wait(&format!("{count} backends up"), |metrics| state(metrics) == count as f64).await;
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub(crate) fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the balancer's log\n{}", self.log());
        }
    }
}

/// Adds up samples by name and a part of their labels.
pub(crate) fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    metrics
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(sample, _)| {
            let (found, labels) = sample.split_once('{').unwrap_or((sample, ""));
            found == name && labels.contains(label)
        })
        .map(|(_, value)| value.parse::<f64>().unwrap())
        .sum()
}

/// Waits until a condition of the test's own holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
