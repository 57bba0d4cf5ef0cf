//! Binds, spawns workers and probes, follows the cluster, drains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use service_kit::{Context, Dependency, Error};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::backend::connection::Login;
use crate::cancel::Cancels;
use crate::cluster::probe::{Outcome, Probe};
use crate::cluster::roles::Roles;
use crate::cluster::{NodeId, NodeShared, Role, Snapshot};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::scram::Verifier;
use crate::worker::Worker;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The counters.
    pub metrics: Metrics,
    /// In the order of the configuration.
    pub nodes: Vec<Arc<NodeShared>>,
    /// The cluster now.
    pub snapshot: ArcSwap<Snapshot>,
    /// Wakes those who wait for a change; carries the epoch.
    pub epochs: watch::Receiver<u64>,
    /// Who may log in.
    pub verifiers: BTreeMap<String, Verifier>,
    /// Makes salts for those who may not.
    pub mock_secret: [u8; 32],
    /// Who can cancel what.
    pub cancels: Cancels,
    /// Connections of clients, over all workers.
    pub clients: AtomicUsize,
}

/// The program.
pub async fn start(cx: Context<Config>) -> Result<(), Error> {
    let config = cx.settings.clone();
    let listeners = service_kit::net::bind_tcp_group(config.listen, cx.workers.max(1))?;
    cx.bound("postgres", listeners[0].local_addr()?);
    let mut metrics = None;
    cx.metrics.register(|registry| metrics = Some(Metrics::new(registry, &config.nodes)));
    let metrics = metrics.expect("register calls its argument");

    let (epoch, epochs) = watch::channel(0);
    let mut mock_secret = [0; 32];
    getrandom::fill(&mut mock_secret)?;
    let node =
        |node: &crate::config::Node| Arc::new(NodeShared::new(node.clone(), config.servers_per_node_max));
    let shared = Arc::new(Shared {
        nodes: config.nodes.iter().map(node).collect(),
        snapshot: ArcSwap::from_pointee(Snapshot::empty(config.nodes.len())),
        verifiers: verifiers(&config),
        epochs,
        metrics,
        mock_secret,
        cancels: Cancels::default(),
        clients: AtomicUsize::new(0),
        config,
    });

    let (outcomes, seen) = mpsc::channel(64);
    for probe in probes(&shared.config) {
        let aborted = cx.shutdown.aborted();
        let ended = drained(&cx, &shared);
        let (name, outcomes) =
            (format!("probe-{}", shared.config.nodes[probe.node.0].name), outcomes.clone());
        cx.tasks.spawn(name, async move {
            tokio::select! {
                () = probe.run(outcomes) => {}
                () = aborted.cancelled() => {}
                () = ended => {}
            }
        });
    }
    drop(outcomes);
    let primary = cx.readiness.dependency("primary");
    cx.tasks.spawn("roles", follow(Arc::clone(&shared), seen, epoch, primary));
    for (at, listener) in listeners.into_iter().enumerate() {
        let worker = Worker::new(Arc::clone(&shared), cx.shutdown.clone());
        cx.tasks.spawn_worker(format!("db-proxy-worker-{at}"), move || worker.run(listener))?;
    }
    cx.run().await
}

fn verifiers(config: &Config) -> BTreeMap<String, Verifier> {
    let derive = |password: &service_kit::Secret| Verifier::derive(password.expose());
    config.credentials.users.iter().map(|(user, password)| (user.clone(), derive(password))).collect()
}

fn probes(config: &Config) -> Vec<Probe> {
    let probe = |(at, node): (usize, &crate::config::Node)| Probe {
        node: NodeId(at),
        address: node.address.clone(),
        login: Login {
            user: config.probe_user.clone(),
            password: config.credentials.probe.clone(),
            database: config.database.clone(),
            application_name: "db-proxy probe",
        },
        interval: config.probe_interval,
        limit: config.probe_timeout,
    };
    config.nodes.iter().enumerate().map(probe).collect()
}

/// Ends when the stop has begun and the last client is gone: clients that drain still need a cluster that is followed.
fn drained(cx: &Context<Config>, shared: &Arc<Shared>) -> impl Future<Output = ()> + Send + use<> {
    let (stopping, shared) = (cx.shutdown.stopping(), Arc::clone(shared));
    async move {
        stopping.cancelled().await;
        while shared.clients.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Feeds the probes' outcomes to the decision and publishes what comes out.
async fn follow(
    shared: Arc<Shared>,
    mut seen: mpsc::Receiver<Outcome>,
    epoch: watch::Sender<u64>,
    primary: Dependency,
) {
    let config = &shared.config;
    let mut roles = Roles::new(config.nodes.len(), config.lost_after_failures, config.replica_lag_bytes_max);
    while let Some((node, outcome)) = seen.recv().await {
        let changes = roles.observe(node, outcome);
        if changes.is_empty() {
            continue;
        }
        let snapshot = roles.snapshot().clone();
        for change in changes {
            let name = &config.nodes[change.node.0].name;
            let (from, to) = (change.from.as_str(), change.to.as_str());
            if matches!(change.to, Role::Down | Role::Fenced | Role::Lagging) {
                warn!(node = %name, from, to, reason = %change.reason, epoch = snapshot.epoch, "node changed its role");
            } else {
                info!(node = %name, from, to, reason = %change.reason, epoch = snapshot.epoch, "node changed its role");
            }
            shared.metrics.role_changes.inc();
            shared.metrics.role(name, change.from, change.to);
        }
        match snapshot.primary() {
            Some(_) => primary.reached(),
            None => primary.lost("no node is primary; writes wait"),
        }
        let number = snapshot.epoch;
        shared.metrics.epoch.set(i64::try_from(number).unwrap_or(i64::MAX));
        shared.snapshot.store(Arc::new(snapshot));
        epoch.send_replace(number);
    }
}
