//! What changes under load: the zone each second, and targets that go and come back. Each change is waited for until an
//! answer shows it; only then comes the next.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::answers::{Pools, Question};
use super::reader::{self, Versions};
use super::targets::Targets;
use super::zone;
use crate::bench::dns::subjects::ZONE_FILE;
use crate::dns_client::DnsClient;
use crate::process::Process;

/// From one version of the zone to the next, unless the last one takes longer to be seen.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// How long a target stays as it is once that was seen.
const STAY: Duration = Duration::from_millis(500);
/// How often it is looked whether a change shows.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For a change to show: far beyond what is usual, so that a slow machine is no failure.
const DEADLINE: Duration = Duration::from_secs(30);

/// Changes of one kind.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Changes {
    /// That were made.
    pub made: u64,
    /// That an answer showed within 30 s.
    pub reflected: u64,
    /// The longest that one took to show, in milliseconds.
    pub slowest_ms: u64,
}

impl Changes {
    /// Counts a change and waits until it shows, or does not.
    async fn made(&mut self, shows: impl AsyncFn() -> bool) {
        self.made += 1;
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            if shows().await {
                self.reflected += 1;
                let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.slowest_ms = self.slowest_ms.max(took_ms);
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Where a subject has its zone, and how it is told of a new one.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) folder: PathBuf,
    pub(super) versions: Versions,
    pub(super) pools: Pools,
}

impl Zone {
    /// The first version, for a subject that is to start.
    pub(super) fn first(folder: &Path, pools: &Pools) -> Result<Self> {
        let zone = Self { folder: folder.to_owned(), versions: Versions::new(1), pools: pools.clone() };
        zone.write(1)?;
        Ok(zone)
    }

    /// Beside it and renamed, so that nobody reads half of it.
    fn write(&self, version: u32) -> Result<()> {
        let (beside, path) = (self.folder.join("next"), self.folder.join(ZONE_FILE));
        fs::write(&beside, zone::text(version, &self.pools.first, &self.pools.second))
            .and_then(|()| fs::rename(&beside, &path))
            .with_context(|| path.display().to_string())
    }

    /// A new version each second until it is told to stop; the last one is still waited for.
    pub(super) async fn reload(
        &self,
        process: &Process,
        target: SocketAddr,
        reloads: &mut Changes,
        stop: &CancellationToken,
    ) -> Result<()> {
        let client = DnsClient::new(target);
        let mut tick = tokio::time::interval(RELOAD_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let version = self.versions.written() + 1;
            self.versions.write(version);
            self.write(version)?;
            process.signal(Signal::SIGHUP)?;
            let shows = async || {
                // What is wrong with an answer is for the reader to count.
                let _ = reader::read(&client, Question::Serial, &self.versions, &self.pools).await;
                self.versions.seen() == version
            };
            reloads.made(shows).await;
        }
        Ok(())
    }
}

/// Takes one target of the first pool after the other away and brings it back, until it is told to stop: then all are there.
pub(super) async fn flip(
    targets: &mut Targets,
    target: SocketAddr,
    flips: &mut Changes,
    stop: &CancellationToken,
) -> Result<()> {
    let client = DnsClient::new(target);
    let pools = targets.pools.clone();
    let has_come_to = async |pool: &[std::net::Ipv4Addr]| {
        let found = client.addresses(&zone::steered(0)).await;
        found.is_ok_and(|it| it.addresses.iter().all(|address| pool.iter().any(|known| known == address)))
    };
    while !stop.is_cancelled() {
        let number = usize::try_from(flips.made / 2).unwrap_or_default();
        targets.close(number).await;
        flips.made(async || has_come_to(&pools.second).await).await;
        let _ = stop.run_until_cancelled(tokio::time::sleep(STAY)).await;
        targets.open(number).await?;
        flips.made(async || has_come_to(&pools.first).await).await;
        let _ = stop.run_until_cancelled(tokio::time::sleep(STAY)).await;
    }
    Ok(())
}
