//! Looks at the files of certificates now and then, and takes new ones into use: whoever renews certificates need not tell us.
//!
//! Looking at times and sizes works on every file system and through links and mounts, unlike the kernel's notifications.

use std::sync::Arc;
use std::time::Duration;

use service_kit::tls::{Certificates, Files, Stamp};
use tracing::{info, warn};

use super::Live;
use crate::config::Config;
use crate::metrics::Metrics;

/// How often there is nothing to look at.
const IDLE: Duration = Duration::from_secs(1);

/// Runs until it is dropped. `config` gives the configuration of the moment.
pub(crate) async fn watch(live: &Live, metrics: &Metrics, config: impl Fn() -> Arc<Config>) {
    let mut refused = None;
    loop {
        let now = config();
        let Some(tls) = now.tls.as_ref().filter(|tls| tls.watch_interval.is_some()) else {
            tokio::time::sleep(IDLE).await;
            continue;
        };
        tokio::time::sleep(tls.watch_interval.unwrap_or(IDLE)).await;
        let found = stamps(&tls.files);
        let known = live.now.load().as_ref().map(|current| current.stamps.clone());
        // What was refused is looked at again only once it changed again.
        if known.as_ref() == Some(&found) || refused.as_ref() == Some(&found) {
            continue;
        }
        // A SIGHUP in the meantime has read other files.
        if !Arc::ptr_eq(&now, &config()) {
            continue;
        }
        let outcome = Certificates::load(&tls.files, tls.strict_sni)
            .map_err(|unusable| unusable.to_string())
            .and_then(|new| live.replace(tls, &Arc::new(new)).map_err(|error| error.to_string()));
        metrics.certificates_loaded(outcome.is_ok());
        match outcome {
            Ok(()) => info!("certificates replaced: their files have changed"),
            Err(reason) => {
                warn!(%reason, "certificates kept: their files have changed and cannot be used");
                refused = Some(found);
            }
        }
    }
}

fn stamps(files: &[Files]) -> Vec<Stamp> {
    files.iter().flat_map(|one| [&one.chain, &one.key]).filter_map(|path| Stamp::of(path)).collect()
}
