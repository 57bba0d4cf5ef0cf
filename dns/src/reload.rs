//! Publishes zones: at start all or nothing, later file by file. A broken file keeps the zone it had, and the new
//! snapshot, good files and kept zones together, is put in force at once.

use crate::config::{Config, ZoneFiles};
use crate::directory::{self, Loaded, ZoneFile};
use crate::metrics::Metrics;
use crate::roster::{Roster, now_unix_ms};
use crate::steering;
use crate::watch::Watch;
use crate::zone::{Orders, Zone, Zones};
use arc_swap::ArcSwap;
use service_kit::{Dependency, Reloads};
use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The zones in force, and how they are replaced.
#[derive(Debug)]
pub struct Publisher {
    /// As they are served.
    zones: Arc<ArcSwap<Zones>>,
    /// As they were loaded, with nothing steered in them.
    base: Zones,
    orders: Orders,
    roster: Roster,
    published: watch::Sender<()>,
    metrics: Metrics,
    /// Lost while there is no zone at all: a server that refuses everything should not be asked.
    readiness: Dependency,
    watch: Watch,
}

/// The start is refused: these files are broken.
#[derive(Debug)]
pub struct BrokenZones(Vec<String>);

impl fmt::Display for BrokenZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zones are broken: {}", self.0.join("; "))
    }
}

impl std::error::Error for BrokenZones {}

impl Publisher {
    /// Loads the zones to start with. Every file must be right: what to serve in place of a broken one is not known yet.
    pub async fn start(
        files: &ZoneFiles,
        roster: Roster,
        metrics: Metrics,
        readiness: Dependency,
    ) -> Result<Publisher, BrokenZones> {
        let (zones, base, orders) = (Arc::default(), Zones::default(), files.orders.clone());
        let watch = Watch::new(files);
        let published = watch::Sender::new(());
        let mut publisher = Publisher { zones, base, orders, roster, published, metrics, readiness, watch };
        let read = read(files).await.map_err(|reason| BrokenZones(vec![reason]))?;
        let errors = read.iter().filter_map(|file| Some(file.outcome.as_ref().err()?.to_string()));
        let broken: Vec<String> = errors.collect();
        if broken.is_empty() {
            let included = publisher.publish(read);
            publisher.watch.includes(included);
            Ok(publisher)
        } else {
            Err(BrokenZones(broken))
        }
    }

    /// The zones in force, for workers to load once a packet.
    pub fn zones(&self) -> Arc<ArcSwap<Zones>> {
        self.zones.clone()
    }

    /// Changes whenever there is a new snapshot.
    pub fn published(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// Reloads at every SIGHUP, and when a file was changed if that is wanted; derives the zones anew whenever the roster
    /// says so. `also` takes what else may change. Listeners and limits stay as they are until a restart.
    pub async fn run(mut self, mut files: ZoneFiles, mut reloads: Reloads<Config>, also: impl Fn(&Config)) {
        loop {
            let steering = tokio::select! {
                config = reloads.next() => {
                    also(&config);
                    files = config.zones;
                    Some(config.steering)
                }
                () = self.watch.changed() => {
                    info!("zone files were changed");
                    None
                }
                () = self.roster.changed() => {
                    self.derive();
                    continue;
                }
            };
            self.watch.reading(&files);
            match self.read_meanwhile(&files).await {
                Ok(read) => {
                    self.orders.clone_from(&files.orders);
                    if let Some(steering) = steering {
                        self.roster.configure(steering);
                    }
                    let included = self.publish(read);
                    self.watch.includes(included);
                }
                Err(reason) => {
                    error!(%reason, "reload failed: all zones stay as they are");
                    self.metrics.reloads_failed.inc();
                }
            }
        }
    }

    /// Reads the zones. What dies or is ordered meanwhile is heard of at once: reading large zones takes longer.
    async fn read_meanwhile(&mut self, files: &ZoneFiles) -> Result<Vec<ZoneFile>, String> {
        let mut reading = pin!(read(files));
        loop {
            tokio::select! {
                read = &mut reading => return read,
                () = self.roster.changed() => self.derive(),
            }
        }
    }

    /// Puts in force what the roster says of the zones that are loaded.
    fn derive(&mut self) {
        let mut steering = self.roster.steering();
        let offers = steering::derive::offers(&self.base, &steering);
        self.metrics.offers(&steering, &offers);
        self.roster.history.record(offers, now_unix_ms());
        steering.history.clone_from(&self.roster.history);
        let zones = steering::derive::derive(&self.base, &Arc::new(steering), &self.orders);
        let before = self.zones.load();
        for zone in zones.iter() {
            if let Some(before) = before.get(zone.origin()) {
                zone.continue_replaced_from(before);
            }
        }
        self.zones.store(Arc::new(zones));
    }

    /// Puts a new snapshot in force; gives the files that zones include.
    fn publish(&mut self, files: Vec<ZoneFile>) -> Vec<PathBuf> {
        let mut all_included = Vec::new();
        let before = std::mem::take(&mut self.base);
        let mut next = Vec::with_capacity(files.len());
        let mut failed = false;
        for ZoneFile { origin, outcome } in files {
            let old = origin.as_ref().and_then(|origin| before.get(origin));
            match outcome {
                Ok(Loaded { zone, warnings, included }) => {
                    all_included.extend(included);
                    for warning in &warnings {
                        warn!("{warning}");
                    }
                    next.push(take_over(zone, old));
                }
                Err(error) => {
                    // One of them may be the file to repair.
                    all_included.extend(error.files().iter().cloned());
                    failed = true;
                    let serial_kept = old.map(|zone| zone.soa().1.serial);
                    error!(kind = error.kind(), serial_kept, "zone not reloaded: {error}");
                    next.extend(old.cloned());
                }
            }
        }
        self.put(Zones::new(next), &before);
        let counter = if failed { &self.metrics.reloads_failed } else { &self.metrics.reloads_ok };
        counter.inc();
        all_included
    }

    fn put(&mut self, next: Zones, before: &Zones) {
        for gone in before.iter().filter(|zone| next.get(zone.origin()).is_none()) {
            info!(zone = %gone.origin(), "zone withdrawn: its file is gone");
        }
        self.metrics.zones(&next);
        match next.len() {
            0 => self.readiness.lost("no zone is loaded"),
            _ => self.readiness.reached(),
        }
        self.base = next;
        self.roster.follow(&self.base);
        self.derive();
        self.published.send_replace(());
    }
}

/// A freshly read zone with the cyclic order of the version before, and a line in the log about the change.
fn take_over(zone: Zone, old: Option<&Arc<Zone>>) -> Arc<Zone> {
    let (origin, serial, records) = (zone.origin(), zone.soa().1.serial, zone.record_count());
    match old.map(|old| old.soa().1.serial) {
        None => info!(zone = %origin, serial, records, "zone loaded"),
        Some(before) if before == serial => {
            info!(zone = %origin, serial, records, "zone reloaded, serial unchanged");
        }
        // RFC 1982: serials go round; secondaries ignore what is not ahead of what they have.
        Some(before) if serial.wrapping_sub(before) > 1 << 31 => {
            warn!(zone = %origin, serial, before, records, "zone reloaded with a serial that went back");
        }
        Some(before) => info!(zone = %origin, serial, before, records, "zone reloaded"),
    }
    if let Some(old) = old {
        zone.continue_from(old);
    }
    Arc::new(zone)
}

/// Reads the directory off the runtime: a large zone takes seconds.
async fn read(files: &ZoneFiles) -> Result<Vec<ZoneFile>, String> {
    let owned = files.clone();
    let read = tokio::task::spawn_blocking(move || directory::read(&owned)).await;
    let directory = files.directory.display();
    match read {
        Ok(Ok(files)) => Ok(files),
        Ok(Err(error)) => Err(format!("{directory}: cannot be read: {error}; see zones.directory")),
        Err(error) => Err(format!("{directory}: reading ended early: {error}")),
    }
}
