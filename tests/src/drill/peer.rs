//! Servers that we did not write: a balancer beside a stack, which the controls of some drills compare with, and web servers
//! for drills that need no app behind them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::eventually::attempt;
use crate::namespaces::Host;
use crate::process::{Lifetime, Process, Spec};
use crate::servers_root::ServersRoot;
use crate::stack::Stack;

const START_DEADLINE: Duration = Duration::from_secs(10);
/// The last number of its address; no host of a stack has it.
const HOST: u8 = 91;

/// A running peer, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where it listens, or where its first server does.
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
        Self::start(None, address, "haproxy", &config, &command).await
    }

    /// nginx as so many web servers, on a host's network or on ours: each answers everything with its name, in
    /// `x-served-by` too.
    pub(super) async fn nginx(network: Option<&Host>, servers: &[Web]) -> Result<Self> {
        let address = servers.first().and_then(|it| it.listen.first()).context("no server to run")?;
        let servers: String = servers.iter().map(Web::lines).collect();
        let config = format!(
            "worker_processes 1;\ndaemon off;\npid /tmp/nginx.pid;\nerror_log stderr crit;\nevents {{ worker_connections 1024; }}\n\
             http {{\n    access_log off;\n    client_body_temp_path /tmp/body;\n    proxy_temp_path /tmp/proxy;\n    \
             fastcgi_temp_path /tmp/fastcgi;\n    uwsgi_temp_path /tmp/uwsgi;\n    scgi_temp_path /tmp/scgi;\n{servers}}}\n"
        );
        let command = ["/usr/sbin/nginx", "-e", "stderr", "-c", "/srv/stack/peer.conf"];
        Self::start(network, *address, "www-data", &config, &command).await
    }

    async fn start(
        network: Option<&Host>,
        address: SocketAddr,
        user: &str,
        config: &str,
        command: &[&str],
    ) -> Result<Self> {
        let root = ServersRoot::find()?;
        let folder = tempfile::tempdir()?;
        let (uid, gid) = root.user(user)?;
        chown(folder.path(), Some(uid), Some(gid))?;
        let file = folder.path().join("peer.conf");
        fs::write(&file, config)?;
        chown(&file, Some(uid), Some(gid))?;
        let argv = root.contained(user, folder.path(), &[], command);
        let spec = Spec {
            name: command[0].to_owned(),
            argv: network.map_or(argv.clone(), |host| host.on_its_network(argv)),
            environment: BTreeMap::new(),
            log: folder.path().join("log"),
            ready_file: None,
            contained: true,
            lifetime: Lifetime::WithParent,
        };
        let process = Process::spawn(spec)?;
        let peer = Self { address, process, _folder: folder };
        let connect = move || async move { Ok(tokio::net::TcpStream::connect(address).await.map(drop)?) };
        let connected = attempt("a connection", START_DEADLINE, async || match network {
            Some(host) => host.within(connect).await,
            None => connect().await,
        });
        connected.await.with_context(|| format!("{}: {}", command[0], peer.process.tail()))?;
        Ok(peer)
    }
}

/// One web server.
#[derive(Debug, Clone)]
pub(super) struct Web {
    pub(super) name: String,
    pub(super) listen: Vec<SocketAddr>,
}

impl Web {
    fn lines(&self) -> String {
        let listen: String = self.listen.iter().map(|address| format!("listen {address}; ")).collect();
        let name = &self.name;
        format!(
            "    server {{ {listen}location / {{ add_header X-Served-By {name}; return 200 {name}; }} }}\n"
        )
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
