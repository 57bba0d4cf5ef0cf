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
    let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
    let listeners: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [front, stats, up] = [port(&listeners[0]), port(&listeners[1]), port(&listeners[2])];
    let text = format!(
        "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n\
         frontend http\n bind 127.0.0.1:{front}\n default_backend default\n\
         backend default\n server a 127.0.0.1:{up} check inter 100\n server b 127.0.0.1:1 check inter 100\n\
         listen stats\n bind 127.0.0.1:{stats}\n stats enable\n stats uri /stats\n"
    );
    std::fs::write(folder.path().join("haproxy.cfg"), text).unwrap();
    // The backend that is up stays; the other two ports are HAProxy's now.
    let keep = listeners.into_iter().nth(2);
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
            .args(["--silent", "--max-time", "2", &format!("http://127.0.0.1:{stats}/stats;csv")])
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
    drop(keep);
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
