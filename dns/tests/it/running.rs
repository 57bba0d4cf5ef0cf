//! The program itself, running on free ports over a directory of its own.

use crate::support::{read, receive};
use hickory_proto::op::Message;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails. Nothing here takes a tenth of it on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ZONE: &str = "$TTL 60\n@ SOA ns h 1 1 1 1 5\n@ NS ns\nns A 192.0.2.53\n\
    set A 192.0.2.1\nset A 192.0.2.2\nset A 192.0.2.3\nwww CNAME set\n";

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    bound: serde_json::Value,
}

/// A server to be started.
pub(crate) struct Plan {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Plan {
    pub(crate) fn new() -> Plan {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("zones")).unwrap();
        Plan { directory, variables: Vec::new() }
            .with("DNS_SERVER__LISTEN", "[\"127.0.0.1:0\"]")
            .with("DNS_ADMIN__LISTEN", "127.0.0.1:0")
            .with("DNS_SHUTDOWN__LAME_DUCK_MS", "0")
            .with("DNS_SERVICE__WORKERS", "2")
    }

    pub(crate) fn with(mut self, variable: &str, value: &str) -> Plan {
        self.variables.push((variable.into(), value.into()));
        self
    }

    pub(crate) fn zone(self, origin: &str, text: &str) -> Plan {
        std::fs::write(self.directory.path().join(format!("zones/{origin}.zone")), text).unwrap();
        self
    }

    /// A file beside the zones.
    pub(crate) fn file(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join("zones").join(name), text).unwrap();
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        Command::new(env!("CARGO_BIN_EXE_dns"))
            .arg("--ready-file")
            .arg(self.directory.path().join("ready"))
            .env("DNS_ZONES__DIRECTORY", self.directory.path().join("zones"))
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub(crate) fn start(self) -> Server {
        let mut child = self.spawn();
        let ready = self.directory.path().join("ready");
        let text = eventually("the ready-file", || {
            assert!(child.try_wait().unwrap().is_none(), "ended at start: {}", log_of(&self.directory));
            std::fs::read_to_string(&ready).ok()
        });
        let bound: serde_json::Value = serde_json::from_str(&text).unwrap();
        let address = |name: &str| bound[name].as_str().unwrap().parse().unwrap();
        let (address, admin) = (address("dns"), address("admin"));
        Server { child, directory: self.directory, address, admin, bound }
    }

    /// Starts a server that is expected to end by itself; gives its code and what it said.
    pub(crate) fn start_in_vain(self) -> (Option<i32>, String) {
        let mut child = self.spawn();
        let status = eventually("the end", || child.try_wait().unwrap());
        (status.code(), log_of(&self.directory))
    }
}

fn log_of(directory: &tempfile::TempDir) -> String {
    std::fs::read_to_string(directory.path().join("log")).unwrap_or_default()
}

impl Server {
    /// A server of [`ZONE`] at `z.`.
    pub(crate) fn start() -> Server {
        Plan::new().zone("z", ZONE).start()
    }

    /// Where a listener is, by its name.
    pub(crate) fn bound(&self, name: &str) -> SocketAddr {
        self.bound[name].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn zone_path(&self, origin: &str) -> PathBuf {
        self.directory.path().join(format!("zones/{origin}.zone"))
    }

    pub(crate) fn log(&self) -> String {
        log_of(&self.directory)
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub(crate) fn limit_descriptors(&self, count: usize) {
        let pid = self.child.id().to_string();
        let status =
            Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={count}:")]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1_024
    }

    /// A metric's value, by its name with labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.admin_page("/metrics").1;
        sample(&text, name).unwrap_or_else(|| panic!("{name} in {text}"))
    }

    /// Waits until a metric is as it should be: some things are counted when they are over for the client already.
    pub(crate) fn counts(&self, name: &str, is_right: impl Fn(u64) -> bool) {
        eventually(name, || {
            sample(&self.admin_page("/metrics").1, name).filter(|count| is_right(*count)).map(drop)
        });
    }

    /// Status and body of a page of the admin listener.
    pub(crate) fn admin_page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (text[9..12].parse().unwrap(), text)
    }

    /// Asks over UDP from a fresh port.
    pub(crate) fn udp(&self, packet: &[u8]) -> Message {
        udp(self.address, packet)
    }

    pub(crate) fn connect(&self) -> Tcp {
        Tcp::connect(self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks over UDP, and takes the answer from the asked address only, as resolvers do.
pub(crate) fn udp(address: SocketAddr, packet: &[u8]) -> Message {
    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(packet).unwrap();
    let mut buffer = [0; 4_096];
    let bytes = receive(&socket, &mut buffer).unwrap();
    read(&buffer[..bytes])
}

/// A TCP connection that speaks in messages.
pub(crate) struct Tcp {
    pub(crate) stream: TcpStream,
}

impl Tcp {
    pub(crate) fn connect(address: SocketAddr) -> Tcp {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Tcp { stream }
    }

    pub(crate) fn send(&mut self, packet: &[u8]) {
        self.stream.write_all(&framed(packet)).unwrap();
    }

    /// The next answer, or `None` when the server has closed.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        self.receive_octets().map(|octets| read(&octets))
    }

    pub(crate) fn receive_octets(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 2];
        self.stream.read_exact(&mut length).ok()?;
        let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
        self.stream.read_exact(&mut octets).ok()?;
        Some(octets)
    }

    pub(crate) fn ask(&mut self, packet: &[u8]) -> Message {
        self.send(packet);
        self.receive().expect("an answer")
    }
}

/// A message behind its length.
pub(crate) fn framed(packet: &[u8]) -> Vec<u8> {
    let mut octets = u16::try_from(packet.len()).unwrap().to_be_bytes().to_vec();
    octets.extend_from_slice(packet);
    octets
}

fn sample(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until `attempt` gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}
