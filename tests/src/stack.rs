//! A running stack, as tests and drills use it: `Stack::native().apps(3).sticky(Sticky::On).start().await`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::dns_client::DnsClient;
use crate::docker::Docker;
use crate::eventually::{attempt, eventually};
use crate::http_client::HttpClient;
use crate::journey;
use crate::native::{Native, StartOrder};
use crate::platform::{Endpoints, Fault, Instance, Platform, State};
use crate::topology::{Override, SITE, Sessions, Sticky, Tier, Topology};

/// From the last process started to the first complete journey of a client.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Until a restarted instance takes part again.
const HEAL_DEADLINE: Duration = Duration::from_secs(60);

/// Where a stack is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Plain processes.
    Native,
    /// Containers.
    Docker,
}

/// What stack to start.
#[derive(Debug, Clone, Copy)]
pub struct StackBuilder {
    place: Place,
    topology: Topology,
    order: StartOrder,
}

impl StackBuilder {
    /// How many apps; 3 unless told.
    #[must_use]
    pub fn apps(mut self, apps: u8) -> Self {
        self.topology.apps = apps;
        self
    }

    /// How many balancers; 2 unless told.
    #[must_use]
    pub fn lbs(mut self, lbs: u8) -> Self {
        self.topology.lbs = lbs;
        self
    }

    /// Where sessions are kept; in Redis unless told.
    #[must_use]
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.topology.sessions = sessions;
        self
    }

    /// Whether the balancers are sticky; not, unless told.
    #[must_use]
    pub fn sticky(mut self, sticky: Sticky) -> Self {
        self.topology.sticky = sticky;
        self
    }

    /// Single keys of the configurations; natively only.
    #[must_use]
    pub fn overrides(mut self, overrides: &'static [Override]) -> Self {
        self.topology.overrides = overrides;
        self
    }

    /// Starts the database this much after everything else; natively only.
    #[must_use]
    pub fn database_last(mut self, delay: Duration) -> Self {
        self.order = StartOrder::DatabaseLast(delay);
        self
    }

    /// Starts Redis, etcd and Postgres only; natively only. Waits until the replicas stream.
    pub async fn servers_only(mut self) -> Result<Stack> {
        self.order = StartOrder::ServersOnly;
        let stack = self.launch().await?;
        match stack.whole(READY_DEADLINE).await {
            Ok(()) => Ok(stack),
            Err(error) => Err(error.context(stack.diagnosis().await)),
        }
    }

    /// Starts it and waits until a client's whole journey succeeds.
    pub async fn start(self) -> Result<Stack> {
        let stack = self.launch().await?;
        stack.ready().await?;
        Ok(stack)
    }

    async fn launch(self) -> Result<Stack> {
        let platform: Arc<dyn Platform> = match self.place {
            Place::Native => Arc::new(Native::start(self.topology, self.order).await?),
            Place::Docker => Arc::new(Docker::start(self.topology).await?),
        };
        Ok(Stack { platform })
    }
}

/// A running stack. A test's stack ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Stack {
    platform: Arc<dyn Platform>,
}

impl Stack {
    /// A stack of plain processes.
    pub fn native() -> StackBuilder {
        Self::on(Place::Native)
    }

    /// A stack of containers.
    pub fn docker() -> StackBuilder {
        Self::on(Place::Docker)
    }

    /// A stack on the given platform.
    pub fn on(place: Place) -> StackBuilder {
        StackBuilder { place, topology: Topology::default(), order: StartOrder::AtOnce }
    }

    /// A handle to a stack that runs already.
    pub fn over(platform: Arc<dyn Platform>) -> Self {
        Self { platform }
    }

    /// Where it runs.
    pub fn platform(&self) -> &dyn Platform {
        &*self.platform
    }

    /// How clients reach it.
    pub fn endpoints(&self) -> Endpoints {
        self.platform.endpoints()
    }

    /// Waits until a client's whole journey succeeds and every app serves.
    pub async fn ready(&self) -> Result<journey::Seen> {
        let outcome =
            attempt("a client's whole journey", READY_DEADLINE, async || journey::once(self).await).await;
        let outcome = match outcome {
            Ok(seen) => self.whole(READY_DEADLINE).await.map(|()| seen),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(seen) => Ok(seen),
            Err(error) => Err(error.context(self.diagnosis().await)),
        }
    }

    /// Waits until every instance runs and every app and the proxy say that they are ready.
    pub async fn whole(&self, deadline: Duration) -> Result<()> {
        attempt("every instance runs and is ready", deadline, async || {
            for instance in self.platform.instances().await? {
                if instance.tier == Tier::Tool {
                    continue;
                }
                if instance.state != State::Running {
                    bail!("{} is {:?}", instance.name, instance.state);
                }
                if let Some(port) = admin_port(instance.tier)
                    && let Some(ip) = instance.address
                {
                    let report = self.readiness(SocketAddr::new(ip, port)).await;
                    let report = report.with_context(|| format!("readiness of {}", instance.name))?;
                    if report["status"] != "ready" {
                        bail!("{} is not ready: {report}", instance.name);
                    }
                }
                if instance.tier == Tier::Dns {
                    self.balancers_are_in_the_answer().await?;
                }
            }
            self.replicas_stream().await
        })
        .await
    }

    /// The name server takes a balancer that does not serve out of its answers, and a new one in once it does.
    async fn balancers_are_in_the_answer(&self) -> Result<()> {
        let Endpoints { dns, lbs, .. } = self.endpoints();
        let found = DnsClient::new(dns).addresses(SITE).await?;
        if found.addresses.len() != lbs.len() {
            bail!("{SITE} is {:?}, and not all of {lbs:?}", found.addresses);
        }
        Ok(())
    }

    async fn readiness(&self, admin: SocketAddr) -> Result<Value> {
        let client = HttpClient::new(admin).deadline(Duration::from_secs(2));
        Ok(client.get("/readyz").await?.json()?)
    }

    /// A replica that streams but does not count for the quorum yet may not take over, so both are asked for.
    async fn replicas_stream(&self) -> Result<()> {
        let members = self.cluster().await?;
        let quorum = self.patroni("/config").await?["synchronous_mode"] == "quorum";
        let follows = |it: &Value| it["state"] == "streaming" && (!quorum || it["role"] == "quorum_standby");
        let leaders = members.iter().filter(|it| it["role"] == "leader" && it["state"] == "running").count();
        let following = members.iter().filter(|it| follows(it)).count();
        if leaders != 1 || following + 1 != members.len() {
            bail!("the database cluster is not whole: {members:?}");
        }
        Ok(())
    }

    /// Patroni's view: one object a member.
    pub async fn cluster(&self) -> Result<Vec<Value>> {
        Ok(self.patroni("/cluster").await?["members"].as_array().cloned().unwrap_or_default())
    }

    /// Asks whichever Patroni answers.
    async fn patroni(&self, path: &str) -> Result<Value> {
        let mut last = None;
        for address in self.database_addresses().await? {
            let client = HttpClient::new(SocketAddr::new(address, 8008)).deadline(Duration::from_secs(2));
            match client.get(path).await {
                Ok(response) => return Ok(response.json()?),
                Err(error) => last = Some(error),
            }
        }
        bail!("no Patroni answers: {last:?}")
    }

    /// Changes Patroni's dynamic configuration, as `patronictl edit-config` does.
    pub async fn patch_cluster(&self, change: &Value) -> Result<()> {
        let password = self.platform.password("postgres-superuser").await?;
        let basic = format!("Basic {}", base64_of(&format!("operator:{password}")));
        let address = *self.database_addresses().await?.first().context("no database runs")?;
        let client = HttpClient::new(SocketAddr::new(address, 8008)).deadline(Duration::from_secs(5));
        let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
        let response =
            client.send(http::Method::PATCH, "/config", &headers, serde_json::to_vec(change)?.into()).await?;
        if !response.status.is_success() {
            bail!("Patroni refused {change}: {} {}", response.status, response.text());
        }
        Ok(())
    }

    async fn database_addresses(&self) -> Result<Vec<IpAddr>> {
        let instances = self.platform.instances().await?;
        let running = |it: &Instance| it.tier == Tier::Database && it.state == State::Running;
        Ok(instances.iter().filter(|it| running(it)).filter_map(|it| it.address).collect())
    }

    /// The name of the node that Patroni calls leader.
    pub async fn primary(&self) -> Result<String> {
        let members = self.cluster().await?;
        let leader = members.iter().find(|member| member["role"] == "leader").context("no leader now")?;
        Ok(leader["name"].as_str().context("members have names")?.to_owned())
    }

    /// The name of a node that streams from the leader.
    pub async fn replica(&self) -> Result<String> {
        let members = self.cluster().await?;
        let replica = members.iter().find(|it| it["role"] != "leader" && it["state"] == "streaming");
        Ok(replica.context("no replica streams now")?["name"]
            .as_str()
            .context("members have names")?
            .to_owned())
    }

    /// Where an instance is reached, at this port.
    pub async fn address(&self, instance: &str, port: u16) -> Result<SocketAddr> {
        let found = self.platform.instances().await?.into_iter().find(|it| it.name == instance);
        let ip = found.and_then(|it| it.address).with_context(|| format!("no address of {instance}"))?;
        Ok(SocketAddr::new(ip, port))
    }

    /// An instance by name, with what can be done to it.
    pub fn instance(&self, name: impl Into<String>) -> Handle<'_> {
        Handle { stack: self, name: name.into() }
    }

    /// App `n`, from 1.
    pub fn app(&self, n: u8) -> Handle<'_> {
        self.instance(format!("app-{n}"))
    }

    /// Balancer `n`, from 1.
    pub fn lb(&self, n: u8) -> Handle<'_> {
        self.instance(format!("lb-{n}"))
    }

    /// Changes the number of apps.
    pub async fn scale_apps(&self, apps: u8) -> Result<()> {
        self.platform.scale_apps(apps).await
    }

    /// Makes the apps and the balancers what `topology` says and waits until all of it works; nothing when they are that.
    pub async fn with(&self, topology: Topology) -> Result<()> {
        if self.platform.topology() != topology {
            self.platform.reconfigure(topology).await?;
            self.ready().await?;
        }
        Ok(())
    }

    /// A client of balancer `n` (from 1) that keeps its cookies.
    pub fn client(&self, lb: usize) -> HttpClient {
        HttpClient::new(self.endpoints().lbs[lb - 1]).host(SITE)
    }

    /// Waits for a condition.
    pub async fn eventually(
        &self,
        what: &str,
        deadline: Duration,
        condition: impl AsyncFnMut() -> bool,
    ) -> Result<Duration> {
        match eventually(what, deadline, condition).await {
            Ok(after) => Ok(after),
            Err(error) => Err(error.context(self.diagnosis().await)),
        }
    }

    /// Restarts everything that is dead and waits for the whole stack. Returns what was restarted.
    pub async fn heal(&self) -> Result<Vec<String>> {
        let mut restarted = Vec::new();
        for instance in self.platform.instances().await? {
            match instance.state {
                State::Dead if instance.tier != Tier::Tool => {
                    self.platform.restart(&instance.name).await?;
                    restarted.push(instance.name);
                }
                State::Paused => self.platform.fault(&instance.name, Fault::Resume).await?,
                _ => {}
            }
        }
        self.whole(HEAL_DEADLINE).await?;
        Ok(restarted)
    }

    /// Replaces a running balancer or app without losing a request, and waits for the whole stack.
    pub async fn replace(&self, instance: &str) -> Result<()> {
        self.platform.replace(instance).await.with_context(|| format!("replacing {instance}"))?;
        self.whole(HEAL_DEADLINE).await
    }

    /// A sum over one metric's samples on an instance's admin listener, those whose labels contain `label`.
    pub async fn scrape(&self, instance: &str, metric: &str, label: &str) -> Result<f64> {
        let port =
            admin_port(Tier::of(instance)).with_context(|| format!("{instance} has no admin listener"))?;
        let text = HttpClient::new(self.address(instance, port).await?).get("/metrics").await?.text();
        Ok(sum_samples(&text, metric, label))
    }

    /// The state of every instance and the log ends of the unhappy ones, for error messages.
    async fn diagnosis(&self) -> String {
        let mut text = String::from("the stack's instances:\n");
        for instance in self.platform.instances().await.unwrap_or_default() {
            text.push_str(&format!("  {} {:?} {:?}\n", instance.name, instance.state, instance.address));
            if instance.state == State::Dead || matches!(instance.tier, Tier::App | Tier::DbProxy) {
                text.push_str(&self.platform.log_tail(&instance.name).await);
            }
        }
        text
    }
}

/// One instance of a stack.
#[derive(Debug)]
pub struct Handle<'a> {
    stack: &'a Stack,
    name: String,
}

impl Handle<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&self) -> Result<()> {
        self.fault(Fault::Kill).await
    }

    /// SIGTERM; it drains.
    pub async fn terminate(&self) -> Result<()> {
        self.fault(Fault::Terminate).await
    }

    /// SIGSTOP.
    pub async fn stop(&self) -> Result<()> {
        self.fault(Fault::Pause).await
    }

    /// SIGCONT.
    pub async fn cont(&self) -> Result<()> {
        self.fault(Fault::Resume).await
    }

    /// Any fault.
    pub async fn fault(&self, fault: Fault) -> Result<()> {
        let done = self.stack.platform.fault(&self.name, fault).await;
        done.with_context(|| format!("{fault:?} on {}", self.name))
    }

    /// Starts it again after it ended.
    pub async fn restart(&self) -> Result<()> {
        self.stack.platform.restart(&self.name).await.with_context(|| format!("restarting {}", self.name))
    }

    /// What `stack status` says of it.
    pub async fn status(&self) -> Result<Instance> {
        let all = self.stack.platform.instances().await?;
        all.into_iter().find(|it| it.name == self.name).with_context(|| format!("no instance {}", self.name))
    }
}

/// The admin listener's port of a tier of ours.
pub fn admin_port(tier: Tier) -> Option<u16> {
    match tier {
        Tier::Dns => Some(9001),
        Tier::Lb => Some(9002),
        Tier::App => Some(9003),
        Tier::DbProxy => Some(9005),
        _ => None,
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub(crate) fn sum_samples(text: &str, metric: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| {
            line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_whole_name_and_label() {
        let text = "# TYPE hits counter\nhits_total{a=\"x\"} 2\nhits_total{a=\"y\"} 3\nhits_total_more 9\n";
        assert!((sum_samples(text, "hits_total", "") - 5.0).abs() < 1e-9);
        assert!((sum_samples(text, "hits_total", "a=\"y\"") - 3.0).abs() < 1e-9);
    }
}
