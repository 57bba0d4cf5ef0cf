//! HAProxy and its log reader, out of the cached trixie root.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::process::PATIENCE;
use crate::tools::{missing, root};

/// What a real HAProxy with one server that is up and one that is down says at `/stats;csv`.
pub(crate) fn haproxy_csv() -> Option<String> {
    let Some(root) = root() else {
        missing("the servers' root with haproxy");
        return None;
    };
    let folder = tempfile::tempdir_in(root.join("tmp")).unwrap();
    // An address that nobody else takes ports of while HAProxy starts.
    let process = std::process::id();
    let host = format!("127.88.{}.{}", process / 250 % 250, process % 250 + 1);
    let up = std::net::TcpListener::bind((host.as_str(), 0)).unwrap();
    let (stats, address) = (format!("{host}:8404"), up.local_addr().unwrap());
    let text = format!(
        "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n\
         frontend http\n bind {host}:8080\n default_backend default\n\
         backend default\n server a {address} check inter 100\n server b 127.0.0.1:1 check inter 100\n\
         listen stats\n bind {stats}\n stats enable\n stats uri /stats\n"
    );
    std::fs::write(folder.path().join("haproxy.cfg"), text).unwrap();
    let inside = Path::new("/").join(folder.path().strip_prefix(root).unwrap()).join("haproxy.cfg");
    let mut haproxy = Command::new("chroot")
        .arg(root)
        .args(["/usr/sbin/haproxy", "-db", "-f"])
        .arg(inside)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let text = loop {
        let asked = Command::new("curl")
            .args(["--silent", "--max-time", "2", &format!("http://{stats}/stats;csv")])
            .output()
            .unwrap();
        let text = String::from_utf8(asked.stdout).unwrap();
        if text.lines().any(|row| row.starts_with("default,b,") && row.contains(",DOWN,")) {
            break text;
        }
        assert!(started.elapsed() < PATIENCE, "haproxy never said that b is down: {text}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    haproxy.kill().unwrap();
    haproxy.wait().unwrap();
    drop(up);
    Some(text)
}

/// What HAProxy's `halog` says of some lines: its output and its summary.
pub(crate) fn halog(lines: &str, report: &str) -> Option<(String, String)> {
    let Some(root) = root() else {
        missing("the servers' root with halog");
        return None;
    };
    let mut halog = Command::new("chroot")
        .arg(root)
        .args(["halog", report])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    halog.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = halog.wait_with_output().unwrap();
    Some((String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap()))
}
