//! A stack of plain processes on one leased network: our programs straight, the servers out of the trixie root. Everything
//! it has is in one folder; what it started is in `state.json` there, by pid and start time.

mod home;
mod programs;
mod servers;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::future::BoxFuture;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::lease::{self, Lease};
use crate::platform::{Endpoints, Fault, Instance, Platform, State};
use crate::ports;
use crate::process::{self, Identity, Lifetime, Process, Spec};
use crate::secrets;
use crate::topology::{self, DATABASES, Network, SITE, Tier, Topology};

use home::{Home, detached_folder, sweep};
use servers::Servers;

/// For Patroni to make a cluster and for the catalogue to be loaded, on a busy machine.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(120);
/// Lame-duck time and drain deadline of a program, and a little.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What comes up when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOrder {
    /// Everything at once; only the apps wait for the migration.
    AtOnce,
    /// The apps too, and the database this much later: for the test that nobody minds.
    DatabaseLast(Duration),
    /// Redis, etcd and Postgres only: for tests of one program against real servers.
    ServersOnly,
}

/// Convenience addresses on 127.0.0.1, for people.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Published {
    /// The name server.
    pub dns: Option<SocketAddr>,
}

impl Published {
    /// `SCALEOUT_DNS_PORT`, 1053 unless set; 0 publishes nothing.
    pub fn from_environment() -> Self {
        let port = std::env::var("SCALEOUT_DNS_PORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1053);
        Self { dns: (port != 0).then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port))) }
    }
}

/// What `state.json` holds, and what changes while a stack runs.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    network: u16,
    topology: Topology,
    published: Published,
    zone_serial: u32,
    processes: Vec<Process>,
}

/// A running native stack. A test stack ends when this is dropped; a detached one only by [`Platform::tear_down`].
#[derive(Debug)]
pub struct Native {
    home: Home,
    network: Network,
    // Short sections without await.
    record: Mutex<Record>,
    lease: Option<Lease>,
}

impl Native {
    /// Starts a stack that ends with this process.
    pub async fn start(topology: Topology, order: StartOrder) -> Result<Self> {
        let root = lease::state_root();
        sweep(&root);
        let lease = Lease::for_test(&root)?;
        let folder = root.join("stacks").join(format!("test-{}", lease.network()));
        let native = Self::prepare(folder, lease, topology, Published::default(), Lifetime::WithParent)?;
        native.launch(order).await?;
        Ok(native)
    }

    /// Starts a stack that outlives this process, under a name.
    pub async fn start_detached(name: &str, topology: Topology, published: Published) -> Result<Self> {
        let root = lease::state_root();
        let lease = Lease::for_detached(&root)?;
        let native = Self::prepare(detached_folder(name), lease, topology, published, Lifetime::Detached)?;
        if let Some(lease) = &native.lease {
            lease.reserve(name)?;
        }
        native.save()?;
        if let Err(error) = native.launch(StartOrder::AtOnce).await {
            native.tear_down()?;
            return Err(error);
        }
        Ok(native)
    }

    /// Finds a detached stack by its name.
    pub fn attach(name: &str) -> Result<Option<Self>> {
        let home = Home { folder: detached_folder(name), lifetime: Lifetime::Detached };
        let Ok(text) = fs::read_to_string(home.state()) else { return Ok(None) };
        let record: Record =
            serde_json::from_str(&text).with_context(|| home.state().display().to_string())?;
        Ok(Some(Self { home, network: Network(record.network), record: Mutex::new(record), lease: None }))
    }

    fn prepare(
        folder: PathBuf,
        lease: Lease,
        topology: Topology,
        published: Published,
        lifetime: Lifetime,
    ) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a native stack needs root (mount namespaces, Postgres as its own user); run it with sudo");
        }
        let network = Network(lease.network());
        let home = Home { folder, lifetime };
        let record =
            Record { network: network.0, topology, published, zone_serial: 1, processes: Vec::new() };
        let native = Self { home, network, record: Mutex::new(record), lease: Some(lease) };
        native.preflight()?;
        // Left by a run that was killed: its lease was free.
        let _ = fs::remove_dir_all(&native.home.folder);
        for part in ["zones", "ready", "logs", "handover"] {
            let folder = native.home.folder(part);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(native)
    }

    /// Every port that will be listened on is tried before anything starts.
    fn preflight(&self) -> Result<()> {
        let (network, topology) = (self.network, self.record().topology);
        let mut wanted = vec![
            (network.dns(), "dns".to_owned()),
            (network.redis_session(), "redis-session".to_owned()),
            (network.redis_cache(), "redis-cache".to_owned()),
            (network.db_proxy(), "db-proxy".to_owned()),
            (network.etcd(), "etcd".to_owned()),
            (network.etcd_peer(), "etcd".to_owned()),
        ];
        for n in 1..=topology.lbs {
            wanted.extend([network.lb(n), network.secure_lb(n)].map(|address| (address, format!("lb-{n}"))));
        }
        wanted.extend((1..=topology.apps).map(|n| (network.app(n), format!("app-{n}"))));
        for n in 1..=DATABASES {
            wanted
                .extend([(network.database(n), format!("pg-{n}")), (network.patroni(n), format!("pg-{n}"))]);
        }
        wanted.extend(self.record().published.dns.map(|address| (address, "dns".to_owned())));
        let taken = ports::taken(&wanted);
        if taken.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = taken.iter().map(|one| format!("  {one}")).collect();
        bail!("nothing was started, because these addresses are taken:\n{}", list.join("\n"));
    }

    async fn launch(&self, order: StartOrder) -> Result<()> {
        let topology = self.record().topology;
        let servers = Servers::find()?;
        secrets::fill(&self.home.secrets(), Some(servers.secrets_group()?))?;
        self.write_zone()?;
        let home = &self.home;
        let databases = servers.postgres(home, self.network)?;
        let mut first = servers.redis(home, self.network)?;
        first.push(servers.etcd(home, self.network)?);
        if order == StartOrder::ServersOnly {
            self.spawn(databases)?;
            return self.spawn(first);
        }
        first.push(programs::dns(home, self.network, &topology, &self.record().published)?);
        for n in 1..=topology.lbs {
            first.push(programs::lb(home, self.network, &topology, n)?);
        }
        first.push(programs::db_proxy(home, self.network)?);
        let apps = self.app_specs(1..=topology.apps)?;
        match order {
            StartOrder::AtOnce => {
                // The database has the longest way, so it goes first.
                self.spawn(databases)?;
                self.spawn(first)?;
                self.migrate().await?;
                self.spawn(apps)?;
            }
            StartOrder::DatabaseLast(delay) => {
                self.spawn(first)?;
                self.spawn(apps)?;
                tokio::time::sleep(delay).await;
                self.spawn(databases)?;
                self.migrate().await?;
            }
            StartOrder::ServersOnly => unreachable!("returned above"),
        }
        self.all_bound().await
    }

    fn app_specs(&self, numbers: impl Iterator<Item = u8>) -> Result<Vec<Spec>> {
        let topology = self.record().topology;
        numbers.map(|n| programs::app(&self.home, self.network, &topology, n)).collect()
    }

    fn spawn(&self, specs: Vec<Spec>) -> Result<()> {
        for spec in specs {
            let process = Process::spawn(spec)?;
            self.record().processes.push(process);
            // After each one: a record that is missing when we are killed here is a process that nobody ends.
            self.save()?;
        }
        Ok(())
    }

    /// Runs `app migrate` to its end; it waits for a primary by itself.
    async fn migrate(&self) -> Result<()> {
        let spec = programs::migrate(&self.home, self.network, &self.record().topology)?;
        let mut command = tokio::process::Command::new(&spec.argv[0]);
        let log = fs::File::options().create(true).append(true).open(&spec.log)?;
        command.args(&spec.argv[1..]).envs(&spec.environment).stdin(std::process::Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let status = tokio::time::timeout(MIGRATION_DEADLINE, command.status()).await;
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            outcome => bail!("app migrate: {outcome:?}; its log ends:\n{}", process::tail(&spec.log)),
        }
    }

    async fn all_bound(&self) -> Result<()> {
        let processes = self.record().processes.clone();
        for process in processes {
            process.ready().await?;
        }
        Ok(())
    }

    /// Rewrites the zone for the apps that are wanted now.
    fn write_zone(&self) -> Result<()> {
        let mut record = self.record();
        record.zone_serial += 1;
        let v4 = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
        };
        let lbs: Vec<_> = (1..=record.topology.lbs).map(|n| v4(self.network.lb(n))).collect();
        let apps: Vec<_> = (1..=record.topology.apps).map(|n| v4(self.network.app(n))).collect();
        let text = topology::zone(v4(self.network.dns()), &lbs, &apps, record.zone_serial);
        let path = self.home.zones().join(format!("{SITE}.zone"));
        let part = self.home.folder(".zone");
        fs::write(&part, text)?;
        fs::rename(part, path)?;
        Ok(())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics while holding the record")
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&*self.record())?;
        let part = self.home.folder(".state.json");
        fs::write(&part, text).with_context(|| part.display().to_string())?;
        Ok(fs::rename(part, self.home.state())?)
    }

    fn process(&self, name: &str) -> Result<Process> {
        let record = self.record();
        let names = || record.processes.iter().map(|it| it.spec.name.as_str()).collect::<Vec<_>>().join(" ");
        let found = record.processes.iter().find(|process| process.spec.name == name);
        found.cloned().with_context(|| format!("no instance {name}; there are: {}", names()))
    }

    async fn scale(&self, apps: u8) -> Result<()> {
        let before = self.record().topology.apps;
        self.record().topology.apps = apps;
        if apps > before {
            let specs = self.app_specs(before + 1..=apps)?;
            self.spawn(specs)?;
            self.all_bound().await?;
        }
        self.write_zone()?;
        self.process("dns")?.signal(Signal::SIGHUP)?;
        for n in apps + 1..=before {
            let process = self.process(&format!("app-{n}"))?;
            // Dead already is as good.
            let _ = process.signal(Signal::SIGTERM);
            process.gone(DRAIN_DEADLINE).await?;
            self.record().processes.retain(|it| it.spec.name != process.spec.name);
        }
        self.save()
    }

    /// The successor finds the running one by itself, at the socket that both have in their settings.
    async fn hand_over(&self, name: &str) -> Result<()> {
        let old = self.process(name)?;
        let new = Process::spawn(old.spec.clone())?;
        // First in the list: from now on the name means the new one.
        self.record().processes.insert(0, new.clone());
        self.save()?;
        if let Err(error) = new.ready().await {
            let _ = new.signal(Signal::SIGKILL);
            self.forget(&new)?;
            return Err(error.context(format!("{name} was not replaced and serves on")));
        }
        old.gone(DRAIN_DEADLINE).await?;
        self.forget(&old)
    }

    fn forget(&self, process: &Process) -> Result<()> {
        self.record().processes.retain(|it| it.identity != process.identity);
        self.save()
    }

    async fn drain_and_start(&self, name: &str) -> Result<()> {
        let process = self.process(name)?;
        process.signal(Signal::SIGTERM)?;
        process.gone(DRAIN_DEADLINE).await?;
        self.restart(name).await
    }

    async fn restart_tiers(&self, topology: Topology) -> Result<()> {
        let dns = programs::dns(&self.home, self.network, &topology, &self.record().published)?;
        let dns_stays = self.process("dns")?.spec.environment == dns.environment;
        let front = |it: &Process| match Tier::of(&it.spec.name) {
            Tier::App | Tier::Lb => true,
            Tier::Dns => !dns_stays,
            _ => false,
        };
        let old: Vec<Process> = self.record().processes.iter().filter(|it| front(it)).cloned().collect();
        for process in &old {
            let _ = process.signal(Signal::SIGKILL);
        }
        for process in &old {
            process.gone(KILL_DEADLINE).await?;
        }
        {
            let mut record = self.record();
            record.processes.retain(|it| !front(it));
            record.topology = topology;
        }
        self.write_zone()?;
        if dns_stays {
            self.process("dns")?.signal(Signal::SIGHUP)?;
        } else {
            self.spawn(vec![dns])?;
        }
        let lbs = (1..=topology.lbs).map(|n| programs::lb(&self.home, self.network, &topology, n));
        self.spawn(lbs.collect::<Result<_>>()?)?;
        self.spawn(self.app_specs(1..=topology.apps)?)?;
        self.all_bound().await
    }

    fn address(&self, name: &str) -> Option<IpAddr> {
        let number = || name.rsplit('-').next().and_then(|n| n.parse().ok());
        let address = match Tier::of(name) {
            Tier::Dns => self.network.dns(),
            Tier::Lb => self.network.lb(number()?),
            Tier::App => self.network.app(number()?),
            Tier::SessionStore => self.network.redis_session(),
            Tier::Cache => self.network.redis_cache(),
            Tier::DbProxy => self.network.db_proxy(),
            Tier::Database => self.network.database(number()?),
            Tier::Consensus => self.network.etcd(),
            Tier::Tool => return None,
        };
        Some(address.ip())
    }

    fn instance(&self, process: &Process) -> Instance {
        let members = process.members();
        let state = match (process.is_running(), members.first().is_some_and(Identity::is_stopped)) {
            (false, _) => State::Dead,
            (true, true) => State::Paused,
            (true, false) => State::Running,
        };
        Instance {
            name: process.spec.name.clone(),
            tier: Tier::of(&process.spec.name),
            address: self.address(&process.spec.name),
            state,
            memory_bytes: process.memory_bytes(),
            pid: members.first().map(|member| member.pid),
        }
    }
}

/// The Postgres process of a node: the one called postgres whose parent is not.
fn postmaster(node: &Process) -> Result<Identity> {
    let found = node.members().into_iter().find(|member| {
        member.command_name() == "postgres"
            && member.parent().is_some_and(|it| it.command_name() != "postgres")
    });
    found.with_context(|| format!("{} runs no Postgres now", node.spec.name))
}

impl Platform for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn endpoints(&self) -> Endpoints {
        let (lbs, published_dns) = {
            let record = self.record();
            (record.topology.lbs, record.published.dns)
        };
        Endpoints {
            dns: self.network.dns(),
            site_port: self.network.lb(1).port(),
            lbs: (1..=lbs).map(|n| self.network.lb(n)).collect(),
            secure_lbs: (1..=lbs).map(|n| self.network.secure_lb(n)).collect(),
            published_dns,
            published_lbs: Vec::new(),
            published_secure_lbs: Vec::new(),
            stats: (1..=lbs).map(|n| self.network.admin(self.network.lb(n))).collect(),
        }
    }

    fn topology(&self) -> Topology {
        self.record().topology
    }

    fn password<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move { secrets::password(&self.home.secrets(), name) })
    }

    fn authority(&self) -> BoxFuture<'_, Result<String>> {
        let file = self.home.secrets().join(secrets::AUTHORITY);
        Box::pin(async move { fs::read_to_string(&file).with_context(|| file.display().to_string()) })
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>>> {
        Box::pin(async move {
            let processes = self.record().processes.clone();
            Ok(processes.iter().map(|process| self.instance(process)).collect())
        })
    }

    fn fault<'a>(&'a self, instance: &'a str, fault: Fault) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let process = self.process(instance)?;
            match fault {
                Fault::Kill => {
                    process.signal(Signal::SIGKILL)?;
                    process.gone(KILL_DEADLINE).await
                }
                Fault::Terminate => process.signal(Signal::SIGTERM),
                Fault::Pause => process.signal(Signal::SIGSTOP),
                Fault::Resume => process.signal(Signal::SIGCONT),
                Fault::KillPostgres => postmaster(&process)?.signal(Signal::SIGKILL),
            }
        })
    }

    fn restart<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let old = self.process(instance)?;
            if old.is_running() {
                return Ok(());
            }
            let new = Process::spawn(old.spec)?;
            new.ready().await?;
            if let Some(entry) = self.record().processes.iter_mut().find(|it| it.spec.name == instance) {
                *entry = new;
            }
            self.save()
        })
    }

    fn replace<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match Tier::of(instance) {
                Tier::Lb => self.hand_over(instance).await,
                Tier::App => self.drain_and_start(instance).await,
                tier => bail!("{instance} is a {}: only balancers and apps are replaced", tier.as_str()),
            }
        })
    }

    fn scale_apps(&self, apps: u8) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.scale(apps))
    }

    fn reconfigure(&self, topology: Topology) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.restart_tiers(topology))
    }

    fn log_tail<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move { process::tail(&self.home.log(instance)) })
    }

    fn tear_down(&self) -> Result<()> {
        let processes = std::mem::take(&mut self.record().processes);
        let left = process::kill_all(&processes, KILL_DEADLINE);
        if !left.is_empty() {
            self.record().processes = processes;
            bail!("these could not be ended: {}", left.join(" "));
        }
        self.home.keep_logs(self.network);
        fs::remove_dir_all(&self.home.folder).with_context(|| self.home.folder.display().to_string())?;
        Lease::release(&lease::state_root(), self.network.0);
        Ok(())
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        if self.home.lifetime == Lifetime::WithParent
            && let Err(error) = self.tear_down()
        {
            eprintln!("stack in {}: {error:#}", self.home.folder.display());
        }
    }
}
