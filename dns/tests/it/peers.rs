//! Programs of others, out of the cached root with the servers of Debian trixie. Without that root a test is skipped aloud,
//! and with `CI=true` it fails.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The root, made when this machine has none.
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// Finds it, or says that `test` is skipped.
    pub(crate) fn find(test: &str) -> Option<Root> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/setup/servers-root");
        let made = Command::new(script).arg("servers").stderr(Stdio::inherit()).output().unwrap();
        if made.status.success() {
            return Some(Root { path: PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()) });
        }
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI has to have the root with the servers");
        println!("SKIPPED {test}: deploy/setup/servers-root could not give its root");
        None
    }

    /// A folder that both sides see: here, and the same by the name that it has in the root.
    pub(crate) fn folder(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir_in(self.path.join("tmp")).unwrap();
        let inside = Path::new("/").join(folder.path().strip_prefix(&self.path).unwrap());
        (folder, inside)
    }

    /// A program of the root, to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("chroot")
            .arg(&self.path)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that has read enough closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }
}

/// A server of others, on an address of its own; ends with this.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

/// The three that we compare ourselves with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brand {
    Bind,
    Nsd,
    Knot,
}

impl Brand {
    pub(crate) const ALL: [Brand; 3] = [Brand::Bind, Brand::Nsd, Brand::Knot];

    fn name(self) -> &'static str {
        match self {
            Brand::Bind => "bind",
            Brand::Nsd => "nsd",
            Brand::Knot => "knot",
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Brand::Bind => &["named", "-g", "-n", "1", "-c"],
            Brand::Nsd => &["nsd", "-d", "-c"],
            Brand::Knot => &["knotd", "-c"],
        }
    }

    /// The configuration: primary for all zones, and as close to answers without extras as the program can be told.
    fn configuration(self, address: SocketAddr, folder: &Path, origins: &[&str], more: &str) -> String {
        let (ip, port, folder) = (address.ip(), address.port(), folder.display());
        let each =
            |write: &dyn Fn(&str) -> String| origins.iter().map(|origin| write(origin)).collect::<String>();
        match self {
            Brand::Bind => format!(
                "options {{ directory \"{folder}\"; pid-file none; session-keyfile none; recursion no; \
                 listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; minimal-any yes; \
                 minimal-responses yes; dnssec-validation no; notify no; empty-zones-enable no; \
                 check-names primary ignore; check-integrity no; max-records-per-type 0; {more} }};\n\
                 controls {{ }};\n{}",
                each(&|origin| format!("zone \"{origin}\" {{ type primary; file \"{origin}zone\"; }};\n"))
            ),
            Brand::Nsd => format!(
                "server:\n ip-address: {ip}@{port}\n zonesdir: \"{folder}\"\n username: \"\"\n pidfile: \"\"\n \
                 zonelistfile: \"{folder}/list\"\n xfrdfile: \"\"\n refuse-any: no\n rrl-ratelimit: 0\n \
                 minimal-responses: yes\nremote-control:\n control-enable: no\n{}",
                each(&|origin| format!("zone:\n name: \"{origin}\"\n zonefile: \"{origin}zone\"\n"))
            ),
            Brand::Knot => format!(
                "server:\n rundir: \"{folder}\"\n listen: {ip}@{port}\n udp-workers: 1\n tcp-workers: 1\n background-workers: 1\n\
                 database:\n storage: \"{folder}/db\"\nlog:\n - target: stdout\n   any: info\n\
                 template:\n - id: default\n   storage: \"{folder}\"\n   semantic-checks: off\nzone:\n{}",
                each(&|origin| format!(" - domain: \"{origin}\"\n   file: \"{origin}zone\"\n"))
            ),
        }
    }
}

impl Peer {
    /// Starts one with these zones (origin with its final dot, text) and waits until it answers for all.
    pub(crate) fn start(root: &Root, brand: Brand, zones: &[(String, String)]) -> Peer {
        Peer::start_with(root, brand, zones, "")
    }

    /// The same with more of BIND's options.
    pub(crate) fn start_with(root: &Root, brand: Brand, zones: &[(String, String)], more: &str) -> Peer {
        let address = free_address();
        let origins: Vec<&str> = zones.iter().map(|(origin, _)| origin.as_str()).collect();
        let mut peer = Peer::configured(root, brand, address, zones, |folder| {
            brand.configuration(address, folder, &origins, more)
        });
        for origin in origins {
            peer.wait_for(origin);
        }
        peer
    }

    /// One with a configuration of the caller's, which is told the folder that it has in the root. Does not wait.
    pub(crate) fn configured(
        root: &Root,
        brand: Brand,
        address: SocketAddr,
        zones: &[(String, String)],
        configuration: impl FnOnce(&Path) -> String,
    ) -> Peer {
        let files: Vec<(String, String)> =
            zones.iter().map(|(origin, text)| (format!("{origin}zone"), text.clone())).collect();
        Peer::run(root, brand.name(), brand.command(), address, &files, configuration)
    }

    /// Any program of the root that serves at this address: its command line ends with the configuration's path.
    pub(crate) fn run(
        root: &Root,
        name: &'static str,
        command: &[&str],
        address: SocketAddr,
        files: &[(String, String)],
        configuration: impl FnOnce(&Path) -> String,
    ) -> Peer {
        let (folder, inside) = root.folder();
        for (file, text) in files {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        std::fs::create_dir(folder.path().join("db")).unwrap();
        std::fs::write(folder.path().join("configuration"), configuration(&inside)).unwrap();
        // All of it has to be usable by whomever the program becomes.
        for path in [folder.path(), &folder.path().join("db")] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        // A namespace of its own ends with all its processes when its first one does, and that one ends with us.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "chroot"])
            .arg(&root.path)
            .args(command)
            .arg(inside.join("configuration"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Peer { name, address, child, folder }
    }

    /// Waits until it serves this zone.
    pub(crate) fn wait_for(&mut self, origin: &str) {
        let packet = crate::support::query(origin, "SOA");
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{} {origin}: {}", self.name, self.log());
            let answer = try_exchange(self.address, &packet, Duration::from_millis(200));
            if answer.is_some_and(|octets| octets[3] & 0x0F == 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All that it said.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("warning")).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free for both transports. BIND listens only on addresses that an interface has, so 127.0.0.1 it is.
pub(crate) fn free_address() -> SocketAddr {
    let found = std::iter::repeat_with(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let mut found = found.take(64).map(|tcp| tcp.local_addr().unwrap());
    found.find(|address| UdpSocket::bind(address).is_ok()).expect("a free port")
}

/// For a server to start and to load its zones, on a machine that does many other things.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// One answer over UDP; asks again a few times, since a datagram may be lost.
pub(crate) fn exchange(address: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let answer = (0..6).find_map(|_| try_exchange(address, packet, Duration::from_secs(5)));
    answer.unwrap_or_else(|| panic!("no answer from {address} to {}", packet.escape_ascii()))
}

fn try_exchange(address: SocketAddr, packet: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    // A port that nobody listens on says so at once.
    socket.connect(address).and_then(|()| socket.send(packet)).ok()?;
    let mut buffer = [0; 65_535];
    let bytes = crate::support::receive(&socket, &mut buffer).ok()?;
    Some(buffer[..bytes].to_vec())
}
