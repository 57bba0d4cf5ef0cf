//! A name server of ours with real resolvers in front of it, secondaries beside it and small targets behind its names: for
//! drills about DNS alone, which need no site. Everything lives on one leased /24 and ends with the bench.
//!
//! In reading order: the bench, `authority` (our server), `configuration` (what the others are told), `target`.

mod authority;
mod configuration;
mod target;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::dns_client::DnsClient;
use crate::eventually::attempt;
use crate::lease::{self, Lease};
use crate::process::{self, Lifetime, Process, Spec};
use crate::servers_root::ServersRoot;

pub(crate) use authority::{Authority, TARGET_PORT, Zone};
pub(crate) use configuration::{Caching, KEY, Resolver, Secondary, Served};
pub(crate) use target::Target;

/// Everybody's but BIND's.
const PORT: u16 = 1053;
/// Of the root; owns nothing there.
const USER: &str = "www-data";
/// For a server to start on a machine that does many other things.
const START_DEADLINE: Duration = Duration::from_secs(60);
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Addresses, a folder, the root with the servers of others, and what was started.
#[derive(Debug)]
pub(crate) struct Bench {
    lease: Lease,
    folder: TempDir,
    root: ServersRoot,
    // Short sections without an await.
    started: Mutex<Vec<Process>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        let left = process::kill_all(&started, END_DEADLINE);
        if !left.is_empty() {
            eprintln!("still running: {}", left.join(" "));
        }
    }
}

impl Bench {
    /// Takes addresses and looks that nothing is missing.
    pub(crate) fn prepare() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("this needs root (mount namespaces); run it with sudo");
        }
        let root = ServersRoot::find()?;
        let commands =
            Resolver::ALL.map(Resolver::command).into_iter().chain(Secondary::ALL.map(Secondary::command));
        for program in commands.map(|command| command[0]) {
            ensure!(root.has(program), "{program} is missing; run: deploy/setup/servers-root servers");
        }
        let lease = Lease::for_test(&lease::state_root())?;
        let folder = tempfile::Builder::new().prefix("resolvers-").tempdir()?;
        Ok(Self { lease, folder, root, started: Mutex::default() })
    }

    /// Host `host` of the bench's network.
    pub(crate) fn host(&self, host: u8) -> Ipv4Addr {
        lease::address(self.lease.network(), host)
    }

    /// Where a name server or resolver with this number listens.
    fn server(&self, host: u8) -> SocketAddr {
        (self.host(host), PORT).into()
    }

    /// Starts a resolver that asks the zones' servers, and waits until it has an answer from each zone.
    pub(crate) async fn resolver(
        &self,
        resolver: Resolver,
        host: u8,
        zones: &[Served<'_>],
        caching: Caching,
    ) -> Result<SocketAddr> {
        let address = if resolver == Resolver::Bind { free_address()? } else { self.server(host) };
        let text = resolver.configuration(address, zones, caching);
        let name = format!("{}-{host}", resolver.name());
        let process = self.peer(&name, resolver.command(), &text)?;
        for (zone, _) in zones {
            answers(&process, address, &format!("{}.{zone}", authority::READY), RecordType::TXT).await?;
        }
        Ok(address)
    }

    /// Starts all of them in front of the same zones.
    pub(crate) async fn resolvers(
        &self,
        zones: &[Served<'_>],
        caching: Caching,
    ) -> Result<Vec<(Resolver, SocketAddr)>> {
        let mut started = Vec::new();
        for (host, resolver) in (31..).zip(Resolver::ALL) {
            started.push((resolver, self.resolver(resolver, host, zones, caching).await?));
        }
        Ok(started)
    }

    /// Where a secondary will listen, which its primary has to know first.
    pub(crate) fn secondary_address(&self, secondary: Secondary) -> Result<SocketAddr> {
        match secondary {
            Secondary::Bind => free_address(),
            Secondary::Nsd => Ok(self.server(4)),
            Secondary::Knot => Ok(self.server(5)),
        }
    }

    /// Starts a secondary and waits until it has the zone.
    pub(crate) async fn secondary(
        &self,
        secondary: Secondary,
        address: SocketAddr,
        zone: &str,
        primary: SocketAddr,
        secret: &str,
    ) -> Result<()> {
        let text = secondary.configuration(address, zone, primary, secret);
        let name = format!("{}-secondary", secondary.name());
        let process = self.peer(&name, secondary.command(), &text)?;
        answers(&process, address, zone, RecordType::SOA).await
    }

    /// Writes a shared secret to a file, and says where.
    pub(crate) fn secret(&self, name: &str, secret: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(format!("{name}.secret"));
        fs::write(&file, secret).with_context(|| file.display().to_string())?;
        Ok(file)
    }

    /// A folder of its own for a process.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    fn peer(&self, name: &str, command: &[&str], text: &str) -> Result<Process> {
        let folder = self.folder(name)?;
        fs::write(folder.join("configuration"), text)?;
        fs::write(folder.join("hints"), configuration::HINTS)?;
        let (user, group) = self.root.user(USER)?;
        chown(&folder, Some(user), Some(group)).with_context(|| folder.display().to_string())?;
        let argv = self.root.contained(USER, &folder, &[], command);
        self.spawn(self.spec(name, argv, BTreeMap::new()).contained())
    }

    fn spec(&self, name: &str, argv: Vec<String>, environment: BTreeMap<String, String>) -> Spec {
        Spec {
            name: name.to_owned(),
            argv,
            environment,
            log: self.folder.path().join(format!("{name}.log")),
            ready_file: None,
            contained: false,
            lifetime: Lifetime::WithParent,
        }
    }

    fn spawn(&self, spec: Spec) -> Result<Process> {
        let process = Process::spawn(spec)?;
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(process.clone());
        Ok(process)
    }
}

/// Waits until a server has an answer to this question.
async fn answers(process: &Process, address: SocketAddr, name: &str, record_type: RecordType) -> Result<()> {
    let client = DnsClient::new(address);
    attempt(&format!("{} answers {name}", process.spec.name), START_DEADLINE, async || {
        ensure!(process.is_running(), "it ended");
        let message = client.query(name, record_type).await?;
        let code = message.metadata.response_code;
        ensure!(code == ResponseCode::NoError && !message.answers.is_empty(), "{name}: {code}");
        Ok(())
    })
    .await
    .with_context(|| format!("its log ends:\n{}", process.tail()))
}

/// A port of 127.0.0.1 that was free a moment ago: BIND listens only on addresses that an interface has, so it cannot have
/// one of the leased network.
fn free_address() -> Result<SocketAddr> {
    for _ in 0..64 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = udp.local_addr()?;
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port of 127.0.0.1 is free for UDP and TCP")
}
