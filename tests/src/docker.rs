//! A stack of containers, through the same commands that people type: `docker` and Compose, either version. Containers are
//! found by Compose's labels, never by name.

mod cgroup;
mod container;
mod networks;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::layout;
use crate::lease::{self, Lease};
use crate::platform::{Endpoints, Fault, Instance, Platform};
use crate::ports;
use crate::topology::{self, SITE, Sessions, Sticky, Tier, Topology};

use container::Container;
use networks::{NETWORKS, configured_networks, test_networks};

/// For one command of the engine; a first start of twelve containers takes most of it on a busy machine.
const COMMAND_DEADLINE: Duration = Duration::from_secs(180);

/// What a program of ours may take to drain: its lame-duck time and its drain deadline, and a little.
const DRAIN_SECONDS: &str = "20";

/// The published ports: variable, and what it is when not set.
const PUBLISHED: [(&str, u16); 7] = [
    ("SCALEOUT_DNS_PORT", 1053),
    ("SCALEOUT_LB1_PORT", 8080),
    ("SCALEOUT_LB2_PORT", 8081),
    ("SCALEOUT_LB1_STATS_PORT", 8404),
    ("SCALEOUT_LB2_STATS_PORT", 8405),
    ("SCALEOUT_LB1_TLS_PORT", 8443),
    ("SCALEOUT_LB2_TLS_PORT", 8444),
];

/// Whether an engine answers.
pub fn engine_answers() -> bool {
    let probe = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}

/// A Compose project.
#[derive(Debug)]
pub struct Docker {
    project: String,
    /// The first three numbers of the addresses on `edge`.
    edge: [u8; 3],
    topology: std::sync::Mutex<Topology>,
    environment: Vec<(String, String)>,
    /// Held by test stacks; they end with this value.
    lease: Option<Lease>,
}

impl Docker {
    /// Starts a project of its own, which ends when this is dropped.
    pub async fn start(topology: Topology) -> Result<Self> {
        let lease = Lease::for_test(&lease::state_root())?;
        let networks = test_networks(lease.network())?;
        let mut docker = Self::new(format!("scaleout-test-{}", lease.network()), networks, topology)?;
        docker.environment.extend(PUBLISHED.map(|(variable, _)| (variable.to_owned(), "0".to_owned())));
        docker.lease = Some(lease);
        docker.sweep().await?;
        docker.tear_down()?;
        docker.write_zone()?;
        docker.up().await?;
        Ok(docker)
    }

    /// Starts the project that `docker compose up` in the repository starts.
    pub async fn start_detached(project: &str, topology: Topology) -> Result<Self> {
        let docker = Self::new(project.to_owned(), configured_networks()?, topology)?;
        if docker.containers().await?.is_empty() {
            preflight()?;
            docker.preflight_networks().await?;
        }
        docker.write_zone()?;
        docker.up().await?;
        Ok(docker)
    }

    /// Finds a running project.
    pub async fn attach(project: &str) -> Result<Option<Self>> {
        let docker = Self::new(project.to_owned(), configured_networks()?, Topology::default())?;
        let containers = docker.containers().await?;
        if containers.is_empty() {
            return Ok(None);
        }
        let apps = containers.iter().filter(|it| it.service == "app").count();
        if let Ok(mut topology) = docker.topology.lock() {
            topology.apps = u8::try_from(apps).unwrap_or(u8::MAX);
        }
        Ok(Some(docker))
    }

    fn new(project: String, networks: [[u8; 3]; 3], topology: Topology) -> Result<Self> {
        let environment: Vec<(String, String)> = NETWORKS
            .iter()
            .zip(networks)
            .map(|((variable, _), [a, b, c])| ((*variable).to_owned(), format!("{a}.{b}.{c}")))
            .collect();
        let docker = Self { project, edge: networks[0], topology: topology.into(), environment, lease: None };
        if docker.edge == NETWORKS[0].1 {
            return Ok(docker);
        }
        let zones = docker.folder().join("zones");
        let mut docker = docker;
        docker.environment.push(("SCALEOUT_ZONES".into(), zones.display().to_string()));
        Ok(docker)
    }

    /// Ends the test projects whose process was killed: their labels are still there, their leases are free.
    async fn sweep(&self) -> Result<()> {
        let format = "{{.Label \"com.docker.compose.project\"}}";
        let filter = ["--filter", "label=com.docker.compose.project", "--format", format];
        let mut projects = BTreeSet::new();
        for list in [&["ps", "-a"][..], &["network", "ls"], &["volume", "ls"]] {
            let listed = self.docker(&[list, &filter].concat()).await?;
            projects.extend(listed.lines().map(str::to_owned));
        }
        for project in projects {
            let number = project.strip_prefix("scaleout-test-").and_then(|it| it.parse().ok());
            let Some(network) = number else { continue };
            if let Some(_held_meanwhile) = Lease::take(&lease::state_root(), network)? {
                Self::new(project, test_networks(network)?, Topology::default())?.tear_down()?;
            }
        }
        Ok(())
    }

    /// Files of this project: none, unless its networks are not those of the shipped zone.
    fn folder(&self) -> PathBuf {
        lease::state_root().join("stacks").join(format!("docker-{}", self.project))
    }

    /// The shipped zone names the addresses of the shipped networks.
    fn write_zone(&self) -> Result<()> {
        if self.edge == NETWORKS[0].1 {
            return Ok(());
        }
        let zones = self.folder().join("zones");
        fs::create_dir_all(&zones).with_context(|| zones.display().to_string())?;
        let lbs: Vec<_> = (1..=self.topology_now().lbs).map(|n| self.on_edge(10 + n)).collect();
        Ok(fs::write(zones.join(format!("{SITE}.zone")), topology::zone(self.on_edge(2), &lbs, &[], 1))?)
    }

    fn on_edge(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.edge;
        Ipv4Addr::new(a, b, c, host)
    }

    fn topology_now(&self) -> Topology {
        *self.topology.lock().expect("nobody panics while holding the topology")
    }

    async fn up(&self) -> Result<()> {
        let apps = format!("app={}", self.topology_now().apps);
        self.compose(&["up", "-d", "--no-build", "--scale", &apps]).await.map(drop)
    }

    fn compose_command(&self, arguments: &[&str]) -> Command {
        let mut command = compose_program();
        let file: PathBuf = layout::repository().join("docker-compose.yml");
        command.args([OsStr::new("-p"), self.project.as_ref(), OsStr::new("-f"), file.as_os_str()]);
        command.args(arguments).envs(self.environment.iter().map(|(key, value)| (key, value)));
        let topology = self.topology_now();
        command
            .env("SCALEOUT_SESSIONS", if topology.sessions == Sessions::Redis { "redis" } else { "memory" });
        command.env("SCALEOUT_STICKY", if topology.sticky == Sticky::On { "cookie" } else { "off" });
        command
    }

    /// Names the network that has one of our subnets already: the engine would only say that pools overlap.
    async fn preflight_networks(&self) -> Result<()> {
        let listed = self.docker(&["network", "ls", "-q", "--filter", "driver=bridge"]).await?;
        let mut arguments =
            vec!["network", "inspect", "-f", "{{.Name}}{{range .IPAM.Config}} {{.Subnet}}{{end}}"];
        arguments.extend(listed.split_whitespace());
        let networks = self.docker(&arguments).await?;
        for (variable, prefix) in &self.environment {
            let subnet = format!("{prefix}.0/24");
            let holder = networks.lines().find(|line| line.split(' ').skip(1).any(|taken| taken == subnet));
            let holder = holder.and_then(|line| line.split(' ').next());
            if let Some(name) = holder.filter(|name| !name.starts_with(&format!("{}_", self.project))) {
                bail!(
                    "nothing was started: the Docker network {name} has {subnet}; remove it or set {variable}"
                );
            }
        }
        Ok(())
    }

    async fn compose(&self, arguments: &[&str]) -> Result<String> {
        run(self.compose_command(arguments)).await
    }

    async fn docker(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command.args(arguments);
        run(command).await
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let listed = self.docker(&["ps", "-aq", "--no-trunc", "--filter", &label]).await?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["inspect"];
        arguments.extend(ids);
        let inspected: Vec<Value> = serde_json::from_str(&self.docker(&arguments).await?)?;
        let mut containers: Vec<Container> = inspected.iter().filter_map(Container::parse).collect();
        containers.sort_by(|one, other| (one.tier(), &one.name).cmp(&(other.tier(), &other.name)));
        Ok(containers)
    }

    async fn container(&self, name: &str) -> Result<Container> {
        let containers = self.containers().await?;
        containers.into_iter().find(|it| it.name == name).with_context(|| format!("no container for {name}"))
    }

    async fn inject(&self, instance: &str, fault: Fault) -> Result<()> {
        let id = self.container(instance).await?.id;
        match fault {
            Fault::Kill => self.docker(&["kill", "--signal", "KILL", &id]).await,
            Fault::Terminate => self.docker(&["kill", "--signal", "TERM", &id]).await,
            Fault::Pause => self.docker(&["pause", &id]).await,
            Fault::Resume => self.docker(&["unpause", &id]).await,
            Fault::KillPostgres => {
                let script = "kill -KILL \"$(head -n 1 /srv/stack/data/postmaster.pid)\"";
                self.docker(&["exec", &id, "sh", "-c", script]).await
            }
        }
        .map(drop)
    }
}

impl Platform for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn endpoints(&self) -> Endpoints {
        let host = |n: u8, port: u16| SocketAddr::new(self.on_edge(n).into(), port);
        // A test's ports are the engine's choice, and nobody's to type.
        let published = self.lease.is_none();
        Endpoints {
            dns: host(2, 53),
            site_port: 80,
            lbs: (1..=self.topology_now().lbs).map(|n| host(10 + n, 80)).collect(),
            secure_lbs: (1..=self.topology_now().lbs).map(|n| host(10 + n, 443)).collect(),
            published_dns: published.then(|| published_address(PUBLISHED[0])),
            published_lbs: published_addresses(&PUBLISHED[1..3], published),
            published_secure_lbs: published_addresses(&PUBLISHED[5..7], published),
            stats: published_addresses(&PUBLISHED[3..5], published),
        }
    }

    fn topology(&self) -> Topology {
        self.topology_now()
    }

    fn password<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let id = self.container("pg-1").await?.id;
            let script = "cat \"${PG_SECRETS:-/srv/stack/secrets}/$1.password\"";
            self.docker(&["exec", &id, "sh", "-c", script, "sh", name]).await
        })
    }

    fn authority(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async move {
            let id = self.container("lb-1").await?.id;
            self.docker(&["exec", &id, "cat", "/run/secrets/ca.crt"]).await
        })
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>>> {
        Box::pin(async move {
            let containers = self.containers().await?;
            let instance = |it: &Container| Instance {
                name: it.name.clone(),
                tier: it.tier(),
                address: it.address,
                state: it.state,
                memory_bytes: it.pid.and_then(cgroup::memory_bytes).unwrap_or(0),
                pid: it.pid,
            };
            Ok(containers.iter().map(instance).collect())
        })
    }

    fn fault<'a>(&'a self, instance: &'a str, fault: Fault) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.inject(instance, fault))
    }

    fn restart<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let id = self.container(instance).await?.id;
            self.docker(&["start", &id]).await.map(drop)
        })
    }

    fn replace<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let container = self.container(instance).await?;
            match container.tier() {
                // Compose stops the old one first (its grace period is the drain), and the new one gets its address.
                Tier::Lb => {
                    let arguments = ["up", "-d", "--no-build", "--no-deps", "--force-recreate", "--timeout"];
                    self.compose(&[&arguments[..], &[DRAIN_SECONDS, instance]].concat()).await.map(drop)
                }
                Tier::App => {
                    self.docker(&["restart", "--time", DRAIN_SECONDS, &container.id]).await.map(drop)
                }
                tier => bail!("{instance} is a {}: only balancers and apps are replaced", tier.as_str()),
            }
        })
    }

    fn scale_apps(&self, apps: u8) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let scale = format!("app={apps}");
            self.compose(&["up", "-d", "--no-build", "--no-deps", "--no-recreate", "--scale", &scale, "app"])
                .await?;
            self.topology.lock().expect("nobody panics while holding the topology").apps = apps;
            Ok(())
        })
    }

    fn reconfigure(&self, topology: Topology) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            *self.topology.lock().expect("nobody panics while holding the topology") = topology;
            // Compose recreates those whose settings differ.
            let scale = format!("app={}", topology.apps);
            let arguments = ["up", "-d", "--no-build", "--no-deps", "--timeout", "0", "--scale", &scale];
            self.compose(&[&arguments[..], &["lb-1", "lb-2", "app"]].concat()).await.map(drop)
        })
    }

    fn log_tail<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let Ok(container) = self.container(instance).await else { return String::new() };
            let output = Command::new("docker").args(["logs", "--tail", "15", &container.id]).output();
            output
                .map(|it| String::from_utf8_lossy(&[it.stdout, it.stderr].concat()).into_owned())
                .unwrap_or_default()
        })
    }

    fn tear_down(&self) -> Result<()> {
        let mut command = self.compose_command(&["down", "--volumes", "--remove-orphans", "--timeout", "1"]);
        let output = command.stdin(Stdio::null()).output().context("running compose down")?;
        if !output.status.success() {
            bail!("compose down: {}", String::from_utf8_lossy(&output.stderr));
        }
        let _ = fs::remove_dir_all(self.folder());
        Ok(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if self.lease.is_some()
            && let Err(error) = self.tear_down()
        {
            eprintln!("stack {}: {error:#}", self.project);
        }
    }
}

fn published_addresses(of: &[(&str, u16)], published: bool) -> Vec<SocketAddr> {
    of.iter().filter(|_| published).copied().map(published_address).collect()
}

fn published_address((variable, default): (&str, u16)) -> SocketAddr {
    let port = std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Compose 1 is a program, Compose 2 a plug-in of docker; either may be the one that is there. `STACK_COMPOSE` names
/// another, with a path from the repository.
fn compose_program() -> Command {
    if let Some(program) = std::env::var_os("STACK_COMPOSE") {
        return Command::new(layout::repository().join(program));
    }
    if Command::new("docker-compose").arg("version").output().is_ok_and(|it| it.status.success()) {
        return Command::new("docker-compose");
    }
    let mut command = Command::new("docker");
    command.arg("compose");
    command
}

/// Names the holder of a published port before anything starts.
fn preflight() -> Result<()> {
    let wanted: Vec<(SocketAddr, String)> = PUBLISHED
        .iter()
        .map(|(variable, default)| (published_address((variable, *default)), (*variable).to_owned()))
        .filter(|(address, _)| address.port() != 0)
        .collect();
    let taken = ports::taken(&wanted);
    if taken.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = taken.iter().map(|one| format!("  {one}")).collect();
    bail!(
        "nothing was started, because these addresses are taken (set the variable to another port):\n{}",
        list.join("\n")
    )
}

/// Runs a command to its end; its error text is the error.
async fn run(command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_DEADLINE, command.output()).await;
    let output = output.with_context(|| format!("{shown}: no end within {COMMAND_DEADLINE:?}"))??;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
