//! Balancers that we did not write, beside a stack: what the controls of some drills compare with.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::eventually::attempt;
use crate::process::{Lifetime, Process, Spec};
use crate::servers_root::ServersRoot;
use crate::stack::Stack;

const START_DEADLINE: Duration = Duration::from_secs(10);
/// The last number of its address; no host of a stack has it.
const HOST: u8 = 91;

/// A running peer, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where it listens.
    pub(super) address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its folder goes with it, and the kernel ends it with us in any case.
        let _ = self.process.signal(Signal::SIGKILL);
    }
}

impl Peer {
    /// HAProxy on the stack's network, with these lines as its only backend.
    pub(super) async fn haproxy(stack: &Stack, backend: &str) -> Result<Self> {
        let address = beside(stack, 8080)?;
        let config = format!(
            "global\n    maxconn 4000\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n\
             frontend site\n    bind {address}\n    default_backend apps\nbackend apps\n{backend}"
        );
        let command = ["haproxy", "-W", "-db", "-f", "/srv/stack/peer.conf"];
        Self::start(address, "haproxy", &config, &command).await
    }

    async fn start(address: SocketAddr, user: &str, config: &str, command: &[&str]) -> Result<Self> {
        let root = ServersRoot::find()?;
        let folder = tempfile::tempdir()?;
        let (uid, gid) = root.user(user)?;
        chown(folder.path(), Some(uid), Some(gid))?;
        let file = folder.path().join("peer.conf");
        fs::write(&file, config)?;
        chown(&file, Some(uid), Some(gid))?;
        let spec = Spec {
            name: command[0].to_owned(),
            argv: root.contained(user, folder.path(), &[], command),
            environment: BTreeMap::new(),
            log: folder.path().join("log"),
            ready_file: None,
            contained: true,
            lifetime: Lifetime::WithParent,
        };
        let process = Process::spawn(spec)?;
        let peer = Self { address, process, _folder: folder };
        let connected = attempt("a connection", START_DEADLINE, async || {
            Ok(tokio::net::TcpStream::connect(address).await.map(drop)?)
        });
        connected.await.with_context(|| format!("{}: {}", command[0], peer.process.tail()))?;
        Ok(peer)
    }
}

fn beside(stack: &Stack, port: u16) -> Result<SocketAddr> {
    match stack.endpoints().lbs.first().map(SocketAddr::ip) {
        Some(IpAddr::V4(ip)) => {
            let [a, b, c, _] = ip.octets();
            Ok(SocketAddr::from(([a, b, c, HOST], port)))
        }
        other => anyhow::bail!("a stack has IPv4 addresses, not {other:?}"),
    }
}
