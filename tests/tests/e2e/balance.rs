//! Requests are spread over the apps, whichever balancer they go through.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tests::Stack;

use crate::runner::Ended;

pub(crate) async fn every_app_serves(stack: &Stack) -> Result<Ended> {
    let topology = stack.platform().topology();
    for lb in 1..=usize::from(topology.lbs) {
        let client = stack.client(lb);
        let mut by_app: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..60 {
            let response = client.get("/").await?;
            ensure!(response.status == http::StatusCode::OK, "{}", response.status);
            *by_app.entry(response.header("x-served-by").to_owned()).or_default() += 1;
        }
        ensure!(by_app.len() == usize::from(topology.apps), "through balancer {lb}: {by_app:?}");
        ensure!(by_app.values().all(|count| *count >= 5), "uneven through balancer {lb}: {by_app:?}");
    }
    Ok(Ended::Passed)
}
