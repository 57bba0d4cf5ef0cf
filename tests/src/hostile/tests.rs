//! Attacks on servers that stand it, and on servers with one fault each, which must be caught.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;

/// Set in the child: the test binary is its own server, so that pid, descriptors and memory are one server's.
const ROLE: &str = "HOSTILE_TEST_SERVER";

/// A server in a process of its own, killed at the end.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts this test binary again with only `test` in it, which then serves in the given role.
fn serve(test: &str, role: &str) -> Server {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("hostile::tests::{test}"), "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = io::BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| line.split("LISTENING ").nth(1)?.trim().parse().ok())
        .expect("the server says where it listens");
    Server { child, address }
}

/// Runs the test, or in its child serves until the parent is gone.
fn in_two_processes(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Ok(role) = std::env::var(ROLE) else { return runtime.block_on(test) };
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    runtime.block_on(echo_server(&role));
}

async fn echo_server(role: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let datagrams = UdpSocket::bind(address).await.unwrap();
    println!("LISTENING {address}");
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            if let Ok((length, from)) = datagrams.recv_from(&mut buffer).await {
                let _ = datagrams.send_to(&buffer[..length], from).await;
            }
        }
    });
    let role: &'static str = role.to_owned().leak();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if role == "serial" {
            echo(stream, role).await;
        } else {
            tokio::spawn(echo(stream, role));
        }
    }
}

/// Echoes up to 64 KiB, for at most a second and a half: shorter than the attack holds its silent connections.
async fn echo(mut stream: TcpStream, role: &'static str) {
    let idle = if role == "serial" { Duration::from_secs(60) } else { Duration::from_millis(1500) };
    let mut buffer = vec![0; 4096];
    let mut total = 0;
    while let Ok(Ok(length @ 1..)) = timeout(idle, stream.read(&mut buffer)).await {
        total += length;
        match role {
            "crashes" if buffer[..length].contains(&0xff) => std::process::abort(),
            // Eighty copies: a leak of every byte would be far smaller than what is allowed.
            "keeps-memory" => std::mem::forget(buffer.repeat(80)),
            _ => {}
        }
        let write = stream.write_all(&buffer[..length]);
        if total > 64 * 1024 || !matches!(timeout(idle, write).await, Ok(Ok(()))) {
            break;
        }
    }
    if role == "keeps-descriptors" {
        std::mem::forget(stream);
    }
}

async fn echoes(address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.write_all(b"ping").await.map_err(|error| error.to_string())?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
    if &answer == b"ping" { Ok(()) } else { Err(format!("{answer:?}")) }
}

async fn attacked(server: &Server, kind: Kind) -> HostileReport {
    let mut target = Target::new(server.address, kind, i32::try_from(server.child.id()).unwrap());
    target.bounds.settle_deadline = Duration::from_secs(5);
    target.bounds.parallel = 64;
    let address = server.address;
    attack(&target, || echoes(address)).await.unwrap()
}

fn found(report: &HostileReport, what: &str) {
    assert!(report.findings.iter().any(|finding| finding.contains(what)), "{what}: {report}");
}

#[test]
fn a_server_with_limits_survives_everything() {
    in_two_processes(async {
        let server = serve("a_server_with_limits_survives_everything", "polite");
        for kind in [Kind::Http, Kind::DnsUdp] {
            let report = attacked(&server, kind).await;
            report.assert_survived();
            assert!(report.good_attempted > 0 && report.payloads > 35, "{report}");
        }
    });
}

#[test]
fn a_server_that_keeps_descriptors_is_caught() {
    in_two_processes(async {
        let server = serve("a_server_that_keeps_descriptors_is_caught", "keeps-descriptors");
        found(&attacked(&server, Kind::Redis).await, "descriptors grew");
    });
}

#[test]
fn a_server_that_keeps_memory_is_caught() {
    in_two_processes(async {
        let server = serve("a_server_that_keeps_memory_is_caught", "keeps-memory");
        found(&attacked(&server, Kind::Http).await, "memory grew");
    });
}

#[test]
fn a_server_that_crashes_is_caught() {
    in_two_processes(async {
        let server = serve("a_server_that_crashes_is_caught", "crashes");
        found(&attacked(&server, Kind::Postgres).await, "has ended");
    });
}

#[test]
fn a_server_that_a_silent_client_blocks_is_caught() {
    in_two_processes(async {
        let server = serve("a_server_that_a_silent_client_blocks_is_caught", "serial");
        found(&attacked(&server, Kind::DnsTcp).await, "the good client");
    });
}
