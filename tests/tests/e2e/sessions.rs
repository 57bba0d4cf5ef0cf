//! A session belongs to the site, not to the server that made it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::Stack;
use tests::http_client::HttpClient;

use crate::runner::Ended;

async fn planner(stack: &Stack) -> Result<HttpClient> {
    let client = stack.client(1);
    let stored =
        client.post_json("/api/plan", &json!({"slug": "goblet-squat", "sets": 4, "reps": 6})).await?;
    ensure!(stored.status.is_success(), "{} {}", stored.status, stored.text());
    Ok(client)
}

async fn plan_is_there(client: &HttpClient) -> Result<()> {
    let plan = client.get("/api/plan").await?;
    ensure!(
        plan.status.is_success() && plan.text().contains("goblet-squat"),
        "{} {}",
        plan.status,
        plan.text()
    );
    Ok(())
}

pub(crate) async fn seen_elsewhere(stack: &Stack) -> Result<Ended> {
    let client = planner(stack).await?;
    let sid = client.cookies(|jar| jar.get("sid").map(str::to_owned));
    ensure!(sid.is_some_and(|it| it.len() >= 22), "the session cookie has at least 128 bits");
    let elsewhere = client.moved_to(stack.endpoints().lbs[1]);
    for _ in 0..12 {
        plan_is_there(&elsewhere).await?;
    }
    let stranger = stack.client(2).get("/api/plan").await?;
    ensure!(!stranger.text().contains("goblet-squat"), "a stranger sees the plan: {}", stranger.text());
    Ok(Ended::Passed)
}

pub(crate) async fn survive_apps(stack: &Stack) -> Result<Ended> {
    let client = planner(stack).await?;
    for n in 1..=stack.platform().topology().apps {
        stack.app(n).kill().await?;
        stack.app(n).restart().await?;
    }
    stack.whole(Duration::from_secs(30)).await?;
    plan_is_there(&client).await?;
    Ok(Ended::Passed)
}
