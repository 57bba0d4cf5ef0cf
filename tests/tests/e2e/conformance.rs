//! The balancer beside HAProxy and nginx, case by case, as the committed table says.

use anyhow::{Result, ensure};
use tests::conformance;

use crate::runner::Ended;

pub(crate) async fn as_the_table_says() -> Result<Ended> {
    let report = conformance::run().await?;
    println!("  {report}");
    let faults = report.faults();
    ensure!(faults.is_empty(), "{} cases:\n{}", faults.len(), faults.join("\n"));
    Ok(Ended::Passed)
}
