//! The name server's soak in its short form.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::soak::dns::{self, Options};

use crate::runner::Ended;

/// Half a minute for each of both subjects. At a rate that leaves a slow and shared machine room, and with an allowance:
/// somebody else's burst in our turn and not in NSD's is no defect of ours. The hour has neither.
pub(crate) async fn dns_short() -> Result<Ended> {
    let duration = Duration::from_secs(30);
    let options = Options { duration, share: 0.4, allowance_per_million: 100, peer_every: 1 };
    let report = dns::run(&options).await?;
    println!("{report}");
    ensure!(report.passed, "see the rules that are broken above");
    Ok(Ended::Passed)
}
