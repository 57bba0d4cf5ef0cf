//! Starts the sample program and talks to it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// Cargo builds examples beside the tests.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("target/PROFILE/deps/test").join("examples/sample")
}

pub(crate) struct Sample {
    process: Child,
    folder: TempDir,
    echo: SocketAddr,
    admin: SocketAddr,
}

/// A connection that was greeted and has said nothing yet.
pub(crate) struct InFlight {
    stream: BufReader<TcpStream>,
    greeting: String,
}

impl InFlight {
    pub(crate) fn finish(mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = self.stream.read_line(&mut answer);
        format!("{} {}", self.greeting.trim(), answer.trim())
    }
}

impl Sample {
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        Self::spawn(environment).wait_until_ready()
    }

    /// Does not wait.
    pub(crate) fn spawn(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, ready) = (folder.path().join("sample.toml"), folder.path().join("ready.json"));
        std::fs::write(&config, "").unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program())
            .arg("--config")
            .arg(&config)
            .arg("--ready-file")
            .arg(&ready)
            .env("SAMPLE_ADMIN__LISTEN", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { process, folder, echo: none, admin: none }
    }

    pub(crate) fn wait_until_ready(mut self) -> Self {
        let (ready, deadline) = (self.folder.path().join("ready.json"), Instant::now() + PATIENCE);
        while !ready.exists() {
            assert!(self.process.try_wait().unwrap().is_none(), "the sample ended early:\n{}", self.log());
            assert!(Instant::now() < deadline, "no ready-file");
            std::thread::sleep(Duration::from_millis(5));
        }
        let bound: BTreeMap<String, SocketAddr> =
            serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap();
        (self.echo, self.admin) = (bound["echo"], bound["admin"]);
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.echo, self.admin)
    }

    pub(crate) fn connect(&self) -> InFlight {
        let stream = TcpStream::connect(self.echo).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut stream, mut greeting) = (BufReader::new(stream), String::new());
        stream.read_line(&mut greeting).unwrap();
        InFlight { stream, greeting }
    }

    pub(crate) fn say(&self, line: &str) -> String {
        self.connect().finish(line)
    }

    pub(crate) fn accepts(&self) -> bool {
        TcpStream::connect(self.echo).is_ok()
    }

    /// Status and body of a request like `GET /livez` to the admin listener.
    pub(crate) fn admin(&self, request: &str) -> (u16, String) {
        self.admin_as("localhost", request)
    }

    /// The same under another name.
    pub(crate) fn admin_as(&self, host: &str, request: &str) -> (u16, String) {
        self.ask(&format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    }

    pub(crate) fn put_log_filter(&self, filter: &str, headers: &str) -> (u16, String) {
        let length = filter.len();
        self.ask(&format!(
            "PUT /log-filter HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{filter}"
        ))
    }

    fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// `--probe` with the same admin address.
    pub(crate) fn probe(&self) -> bool {
        Command::new(program())
            .arg("--probe")
            .env("SAMPLE_ADMIN__LISTEN", self.admin.to_string())
            .status()
            .unwrap()
            .success()
    }

    pub(crate) fn rewrite(&mut self, text: &str) {
        std::fs::write(self.folder.path().join("sample.toml"), text).unwrap();
    }

    pub(crate) fn signal(&mut self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(crate) fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn eventually_ready(&self, status: u16, part: &str) {
        self.eventually(&format!("/readyz {status} with {part}"), |sample| {
            let (got, body) = sample.admin("GET /readyz");
            got == status && body.contains(part)
        });
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not stop; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
