//! Hosts with addresses of their own choice: network namespaces around a router, for drills about what a client's address
//! does. Real programs of the trixie root run in them, with an /etc of their own whose resolver asks at port 53.
//!
//! ```text
//! router: lo has the addresses that are served    host: eth0 has the host's addresses; everything goes to the router
//!    h1 ──veth── eth0 of host 1
//!    h2 ──veth── eth0 of host 2
//! ```
//!
//! No namespace has a name, so none has to be removed: each lives in a process that ends with this one (parent death
//! signal), and goes with it, whatever ends it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::eventually::attempt;
use crate::process::{self, Lifetime, Process, Spec};
use crate::servers_root::ServersRoot;

/// What makes a host out of new namespaces: the root with an /etc that is the host's own, and a process that stays.
const HOLD: &str = r#"set -eu
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/etc"
exec chroot "$1" sleep infinity
"#;
/// The last line of a script that came to its end.
const DONE: &str = "that was all";
const START_DEADLINE: Duration = Duration::from_secs(20);
const END_DEADLINE: Duration = Duration::from_secs(10);
/// Where every host's default route goes: on the router's loopback, and on its end of every cable.
const GATEWAY: &str = "100.64.0.1";
const GATEWAY_V6: &str = "fe80::1";

/// An address and the length of its network's prefix: `192.0.2.6/29`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// The host's.
    pub address: IpAddr,
    /// In bits.
    pub prefix_len: u8,
}

impl Interface {
    /// Both.
    pub fn new(address: impl Into<IpAddr>, prefix_len: u8) -> Self {
        Self { address: address.into(), prefix_len }
    }
}

/// Whether this kernel speaks IPv6 at all.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// One network namespace with a root and an /etc. Ends when dropped, with everything that was started in it.
#[derive(Debug)]
pub struct Host {
    name: String,
    holder: Process,
    folder: TempDir,
    runs: AtomicU32,
}

impl Drop for Host {
    fn drop(&mut self) {
        let left = process::kill_all(std::slice::from_ref(&self.holder), END_DEADLINE);
        if !left.is_empty() {
            eprintln!("still running: {}", left.join(" "));
        }
    }
}

impl Host {
    async fn start(name: &str, nameserver: IpAddr) -> Result<Self> {
        let root = ServersRoot::find()?;
        let folder = tempfile::Builder::new().prefix("host-").tempdir()?;
        let etc = folder.path().join("etc");
        fs::create_dir(&etc)?;
        // Nobody but DNS is asked, and nobody retries longer than a drill takes.
        let resolver = format!("nameserver {nameserver}\noptions timeout:2 attempts:3\n");
        for (file, text) in [
            ("resolv.conf", resolver.as_str()),
            ("nsswitch.conf", "hosts: files dns\n"),
            ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
            ("passwd", "root:x:0:0:root:/:/bin/sh\n"),
        ] {
            fs::write(etc.join(file), text).with_context(|| format!("{file} of {name}"))?;
        }
        let words = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", HOLD, "sh"];
        let mut argv = words.map(String::from).to_vec();
        argv.extend([root.path().display().to_string(), etc.display().to_string()]);
        let holder = Process::spawn(spec(name, argv, folder.path().join("log")))?;
        let host = Self { name: name.to_owned(), holder, folder, runs: AtomicU32::new(0) };
        attempt("its root is entered", START_DEADLINE, async || {
            let entered = fs::read_link(format!("/proc/{}/root", host.pid()))?;
            ensure!(entered == root.path(), "it is in {}: {}", entered.display(), host.holder.tail());
            Ok(())
        })
        .await
        .with_context(|| format!("host {name}"))?;
        Ok(host)
    }

    fn pid(&self) -> i32 {
        self.holder.identity.pid
    }

    /// The command line that runs a program of this machine in the host's network.
    pub fn on_its_network(&self, argv: Vec<String>) -> Vec<String> {
        let enter = ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.pid()), "--".to_owned()];
        enter.into_iter().chain(argv).collect()
    }

    /// Runs a shell script in the host, out of the trixie root, to its end; gives back what it printed. An error is one of
    /// its commands' own, and says what was printed before.
    pub async fn run(&self, script: &str, deadline: Duration) -> Result<String> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.path().join(format!("run-{number}"));
        let pid = self.pid().to_string();
        let script = format!("{script}\necho {DONE}\n");
        let enter =
            ["nsenter", "--target", &pid, "--net", "--mount", "--root", "--wd", "--", "sh", "-euc", &script];
        // Started like everything else, so that it ends with this process too.
        let process = Process::spawn(spec(&self.name, enter.map(String::from).to_vec(), log.clone()))?;
        if let Err(late) = process.gone(deadline).await {
            process.signal(nix::sys::signal::Signal::SIGKILL)?;
            return Err(late.context(format!("in {}: {script}", self.name)));
        }
        let said = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        match said.strip_suffix(&format!("{DONE}\n")) {
            Some(output) => Ok(output.to_owned()),
            None => bail!("in {}: {script}\nended early, after:\n{said}", self.name),
        }
    }

    /// Does some work of ours on the host's network: sockets that it makes are there.
    pub async fn within<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        F: Future<Output = Result<T>>,
        T: Send + 'static,
    {
        let network = File::open(format!("/proc/{}/ns/net", self.pid()))?;
        let (done, result) = oneshot::channel();
        // A thread is in one namespace at a time, and this one does not live to be in another.
        std::thread::Builder::new().name(self.name.clone()).spawn(move || {
            let runtime = setns(network, CloneFlags::CLONE_NEWNET)
                .context("entering the network namespace")
                .and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
            // Nobody waits any more when the drill was given up.
            let _ = done.send(runtime.and_then(|runtime| runtime.block_on(work())));
        })?;
        result.await.with_context(|| format!("the thread in {} panicked", self.name))?
    }
}

/// The host in the middle, which has the addresses that are served.
#[derive(Debug)]
pub struct Router {
    /// Where servers run.
    pub host: Host,
    hosts: AtomicU32,
}

impl Router {
    /// With these addresses on its loopback interface; clients ask `nameserver`, which may be one of them.
    pub async fn start(served: &[IpAddr], nameserver: IpAddr) -> Result<Self> {
        let host = Host::start("router", nameserver).await?;
        let mut script = format!(
            "echo 1 >/proc/sys/net/ipv4/ip_forward\nip link set lo up\nip address add {GATEWAY}/32 dev lo\n"
        );
        for address in served {
            writeln!(script, "{}ip address add {address} dev lo{}", enable(*address), ready(*address))?;
        }
        host.run(&script, START_DEADLINE).await?;
        Ok(Self { host, hosts: AtomicU32::new(0) })
    }

    /// A new host with these addresses, on a cable of its own.
    pub async fn attach(&self, name: &str, nameserver: IpAddr, interfaces: &[Interface]) -> Result<Host> {
        let host = Host::start(name, nameserver).await?;
        let cable = format!("h{}", self.hosts.fetch_add(1, Ordering::Relaxed));
        let mut ours = format!(
            "ip link add {cable} type veth peer name eth0 netns {}\nip link set {cable} up\n",
            host.pid()
        );
        let mut theirs = "ip link set lo up\nip link set eth0 up\n".to_owned();
        for Interface { address, prefix_len } in interfaces {
            let (enable, ready) = (enable(*address), ready(*address));
            writeln!(theirs, "{enable}ip address add {address}/{prefix_len} dev eth0{ready}")?;
            writeln!(ours, "ip route add {address} dev {cable}")?;
            if address.is_ipv4() {
                writeln!(theirs, "ip route replace default via {GATEWAY} dev eth0 onlink")?;
            } else {
                writeln!(ours, "{enable}ip address add {GATEWAY_V6}/64 dev {cable} nodad")?;
                writeln!(theirs, "ip -6 route replace default via {GATEWAY_V6} dev eth0")?;
            }
        }
        self.host.run(&ours, START_DEADLINE).await?;
        host.run(&theirs, START_DEADLINE).await?;
        Ok(host)
    }

    /// From now on what comes for this address is dropped, and nobody is told.
    pub async fn silence(&self, address: IpAddr) -> Result<()> {
        self.host.run(&format!("ip route add blackhole {address}"), START_DEADLINE).await.map(drop)
    }
}

/// A machine may have switched IPv6 off for its own networks; these are not its own.
fn enable(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6\n" } else { "" }
}

/// Nobody else is there who could have the address, so nobody waits to find out.
fn ready(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

fn spec(name: &str, argv: Vec<String>, log: std::path::PathBuf) -> Spec {
    Spec {
        name: name.to_owned(),
        argv,
        environment: BTreeMap::from([("LC_ALL".to_owned(), "C".to_owned())]),
        log,
        ready_file: None,
        contained: false,
        lifetime: Lifetime::WithParent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use tokio::net::{TcpListener, TcpStream};

    const SERVED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SERVED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

    fn addresses() -> Vec<IpAddr> {
        let v6 = has_ipv6().then_some(IpAddr::V6(SERVED_V6));
        std::iter::once(IpAddr::V4(SERVED)).chain(v6).collect()
    }

    async fn network() -> (Router, Host) {
        let router = Router::start(&addresses(), SERVED.into()).await.unwrap();
        let mut interfaces = vec![Interface::new([192, 0, 2, 6], 29)];
        if has_ipv6() {
            interfaces.push(Interface::new(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9), 64));
        }
        let host = router.attach("client", SERVED.into(), &interfaces).await.unwrap();
        (router, host)
    }

    fn skipped() -> bool {
        let root = nix::unistd::geteuid().is_root();
        assert!(root || std::env::var("CI").as_deref() != Ok("true"), "network namespaces need root");
        if !root {
            println!("SKIPPED: network namespaces need root");
        }
        !root
    }

    #[tokio::test]
    async fn a_host_reaches_what_the_router_serves() {
        if skipped() {
            return;
        }
        let (router, host) = network().await;
        for address in addresses() {
            let listen = SocketAddr::new(address, 8080);
            let listener = router
                .host
                .within(move || async move { Ok(TcpListener::bind(listen).await?.into_std()?) })
                .await
                .unwrap();
            host.within(move || async move { Ok(TcpStream::connect(listen).await.map(drop)?) })
                .await
                .unwrap_or_else(|error| panic!("{listen}: {error:#}"));
            drop(listener);
        }
    }

    #[tokio::test]
    async fn a_script_says_what_it_printed_and_where_it_ended() {
        if skipped() {
            return;
        }
        let (_router, host) = network().await;
        assert_eq!(host.run("echo one; echo two", START_DEADLINE).await.unwrap(), "one\ntwo\n");
        let error = host.run("echo begun; false; echo more", START_DEADLINE).await.unwrap_err().to_string();
        assert!(error.ends_with("ended early, after:\nbegun\n"), "{error}");
        let late = host.run("sleep 1", Duration::from_millis(50)).await.unwrap_err();
        assert!(format!("{late:#}").contains("still runs"), "{late:#}");
    }

    #[tokio::test]
    async fn a_silent_address_answers_nothing_and_another_refuses() {
        if skipped() {
            return;
        }
        let (router, host) = network().await;
        let silent = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));
        router.silence(silent).await.unwrap();
        let connect = |ip: IpAddr| {
            host.within(move || async move {
                let connecting = TcpStream::connect(SocketAddr::new(ip, 81));
                Ok(tokio::time::timeout(Duration::from_millis(300), connecting).await.map(|it| it.is_ok()))
            })
        };
        assert_eq!(connect(SERVED.into()).await.unwrap(), Ok(false), "refused at once");
        assert!(connect(silent).await.unwrap().is_err(), "no answer at all");
    }

    #[tokio::test]
    async fn nothing_is_left() {
        if skipped() {
            return;
        }
        let (router, host) = network().await;
        let pids = [router.host.pid(), host.pid()];
        drop((router, host));
        assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}/ns/net")).exists()));
    }
}
