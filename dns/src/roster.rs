//! Who is up. The one owner of what steers names: the plan, the health of its targets, the orders of operators. It is told
//! of looks, of orders and of time passing, and says when the zones have to be derived anew.

use crate::config;
use crate::metrics::Metrics;
use crate::probe::{self, Looked};
use crate::steering::orders::{self, Order, Orders, Refused, Unusable};
use crate::steering::plan::{Plan, Target};
use crate::steering::table::{Look, Table};
use crate::steering::{Force, Steering, View, build, history::History};
use crate::zone::Zones;
use service_kit::Tasks;
use service_kit::health::{Outcome, Verdict};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is looked for targets that nobody has heard of.
const AGE_EVERY: Duration = Duration::from_secs(1);
/// Looks and requests that wait for the roster.
const QUEUE_LEN_MAX: usize = 1_024;

/// What the admin listener asks for.
#[derive(Debug)]
pub enum Request {
    /// How everything stands now.
    Look(oneshot::Sender<Arc<Steering>>),
    Order(Wanted, oneshot::Sender<Result<(), Refused>>),
}

/// What an operator wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub subject: String,
    /// `None`: an earlier order is taken back.
    pub force: Option<Force>,
    pub by: String,
    /// Even if it leaves nothing healthy.
    pub insist: bool,
}

#[derive(Debug)]
pub struct Roster {
    settings: Arc<config::Steering>,
    plan: Arc<Plan>,
    table: Table,
    orders: Orders,
    pub history: History,
    probers: HashMap<Target, Prober>,
    looked: (mpsc::Sender<Looked>, mpsc::Receiver<Looked>),
    requests: mpsc::Receiver<Request>,
    metrics: Metrics,
    tasks: Tasks,
}

/// Ends its task when dropped.
#[derive(Debug)]
struct Prober {
    urgent: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Roster {
    /// Reads the orders that are kept. The plan comes with the first zones.
    pub fn start(
        settings: Arc<config::Steering>,
        metrics: Metrics,
        tasks: Tasks,
    ) -> Result<(Roster, mpsc::Sender<Request>), Unusable> {
        let orders = Orders::load(settings.orders_file.as_deref())?;
        for order in orders.list() {
            info!(subject = order.subject, force = ?order.force, by = order.by, "order in force, from before");
        }
        let (sender, requests) = mpsc::channel(QUEUE_LEN_MAX);
        let roster = Roster {
            settings,
            plan: Arc::default(),
            table: Table::default(),
            orders,
            history: History::default(),
            probers: HashMap::new(),
            looked: mpsc::channel(QUEUE_LEN_MAX),
            requests,
            metrics,
            tasks,
        };
        Ok((roster, sender))
    }

    /// Takes up other settings. Where orders are kept changes only with a restart.
    pub fn configure(&mut self, settings: Arc<config::Steering>) {
        self.settings = settings;
    }

    /// Makes the plan anew for zones that were loaded. Targets that stay keep their state, and their probers.
    pub fn follow(&mut self, base: &Zones) {
        let (plan, warnings) = build::plan(&self.settings, base);
        for warning in warnings {
            warn!("{warning}");
        }
        if plan.names != self.plan.names {
            self.history = History::default();
        }
        self.plan = Arc::new(plan);
        let new = self.table.follow(&self.plan, now_unix_ms());
        let (plan, metrics) = (&self.plan, &self.metrics);
        self.probers.retain(|target, _| {
            let stays = plan.targets.contains(target);
            if !stays {
                metrics.forget(target);
            }
            stays
        });
        for target in new {
            let prober = self.prober(target.clone());
            self.probers.insert(target, prober);
        }
    }

    fn prober(&self, target: Target) -> Prober {
        let prober = Prober { urgent: Arc::new(AtomicBool::new(true)), stop: CancellationToken::new() };
        let name = format!("check {target}");
        let (urgent, looked) = (prober.urgent.clone(), self.looked.0.clone());
        let stop = prober.stop.clone();
        self.tasks.spawn(name, async move {
            stop.run_until_cancelled(probe::run(target, urgent, looked)).await;
        });
        prober
    }

    /// How everything stands now.
    pub fn steering(&self) -> Steering {
        let mut view = View { targets: self.table.states(&self.plan), ..View::default() };
        orders::apply(self.orders.list(), &self.plan, &mut view);
        Steering {
            plan: self.plan.clone(),
            view,
            history: self.history.clone(),
            orders: self.orders.list().to_vec(),
            orders_are_kept: self.orders.are_kept(),
            explain_from: self.settings.explain_from.clone(),
        }
    }

    /// Waits until something has changed that answers depend on. May be dropped at any time: nothing is lost with it.
    pub async fn changed(&mut self) {
        let mut age = tokio::time::interval(AGE_EVERY);
        loop {
            let changed = tokio::select! {
                // What waits is heard before anybody counts as silent.
                biased;
                Some(Looked { target, look }) = self.looked.1.recv() => self.observe(&target, look),
                Some(request) = self.requests.recv() => self.answer(request),
                _ = age.tick() => self.age(),
            };
            if changed {
                return;
            }
        }
    }

    fn observe(&mut self, target: &Target, look: Look) -> bool {
        // Forgotten meanwhile: its prober was still at it.
        let Some(prober) = self.probers.get(target) else { return false };
        self.metrics.looked(target, look.outcome == Outcome::Good);
        let change = self.table.observe(target, look, now_unix_ms());
        prober.urgent.store(self.table.is_urgent(target), Ordering::Relaxed);
        let Some(change) = change else { return false };
        let (reason, looks) = (&change.reason, change.looks);
        match change.now {
            Verdict::Down => warn!("target {target} down: {reason}, {looks} times in a row"),
            _ => info!("target {target} up: {reason}"),
        }
        true
    }

    fn age(&mut self) -> bool {
        let aged = self.table.age(now_unix_ms());
        for target in &aged {
            warn!("target {target} unknown: its checks have gone silent; this is a bug");
        }
        !aged.is_empty()
    }

    fn answer(&mut self, request: Request) -> bool {
        // Whoever asked may be gone; what was ordered holds.
        match request {
            Request::Look(reply) => {
                let _ = reply.send(Arc::new(self.steering()));
                false
            }
            Request::Order(wanted, reply) => {
                let done = self.order(wanted);
                let changed = done.is_ok();
                let _ = reply.send(done);
                changed
            }
        }
    }

    fn order(&mut self, wanted: Wanted) -> Result<(), Refused> {
        let subject = match wanted.subject.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().to_string(),
            Err(_) => wanted.subject,
        };
        let by = wanted.by;
        let order = wanted.force.map(|force| Order {
            subject: subject.clone(),
            force,
            by: by.clone(),
            since_unix_ms: now_unix_ms(),
        });
        if let Some(order) = &order {
            let view = self.steering().view;
            orders::check(&self.plan, &view, self.orders.list(), order, wanted.insist)?;
        } else if !self.orders.list().iter().any(|order| order.subject == subject) {
            return Err(Refused::NoOrder { subject });
        }
        self.orders.set(&subject, order)?;
        match wanted.force {
            Some(Force::Down) => warn!(subject, by, "forced down"),
            Some(Force::Up) => warn!(subject, by, "forced up"),
            None => info!(subject, by, "order taken back: checks decide"),
        }
        Ok(())
    }
}

/// The time of day, for people; only differences of seconds are taken of it.
pub fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
