//! What "the stack works" means: one client's way through all tiers, with every step's answer looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::dns_client::DnsClient;
use crate::http_client::{HttpClient, Response};
use crate::stack::Stack;
use crate::topology::{SITE, Sessions};

/// For one request of the journey.
const STEP_DEADLINE: Duration = Duration::from_secs(5);

/// What the client saw on its way.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The addresses that the name has, in the order given.
    pub addresses: Vec<SocketAddr>,
    /// The apps that answered.
    pub served_by: BTreeSet<String>,
    /// The first hit of the search.
    pub found: String,
    /// Whether a session made through one balancer was seen through another.
    pub session_shared: bool,
}

/// Resolves the name, reads the front page, searches, puts a find into the plan, and reads the plan through another
/// balancer.
pub async fn once(stack: &Stack) -> Result<Seen> {
    let (endpoints, topology) = (stack.endpoints(), stack.platform().topology());
    let resolved =
        DnsClient::new(endpoints.dns).addresses(SITE).await.context("resolving the site's name")?;
    let addresses: Vec<_> =
        resolved.addresses.iter().map(|ip| SocketAddr::new(*ip, endpoints.site_port)).collect();
    ensure!(
        addresses.len() == usize::from(topology.lbs),
        "{SITE} has the addresses {addresses:?}, not {}",
        topology.lbs
    );
    let mut served_by = BTreeSet::new();
    let visitor = HttpClient::new(addresses[0]).host(SITE).deadline(STEP_DEADLINE);
    let page = good(visitor.get("/").await?, "the front page")?;
    served_by.insert(page.header("x-served-by").to_owned());
    let search = good(visitor.get("/api/exercises?q=squat&limit=3").await?, "a search")?;
    let found: Value = search.json()?;
    let slug = found["results"][0]["slug"].as_str().context("the search found nothing")?.to_owned();
    let item = json!({"slug": slug, "sets": 3, "reps": 5});
    let stored = good(visitor.post_json("/api/plan", &item).await?, "storing in the plan")?;
    served_by.insert(stored.header("x-served-by").to_owned());
    // Sessions in one app's memory are not shared: that they are not is a drill, no fault of the stack.
    let session_shared = topology.sessions == Sessions::Redis;
    if session_shared {
        let elsewhere = visitor.moved_to(addresses[addresses.len() - 1]);
        let plan = good(elsewhere.get("/api/plan").await?, "the plan through the other balancer")?;
        served_by.insert(plan.header("x-served-by").to_owned());
        ensure!(plan.text().contains(&slug), "the plan lacks {slug}: {}", plan.text());
    }
    if served_by.contains("") {
        bail!("an answer without x-served-by");
    }
    Ok(Seen { addresses, served_by, found: slug, session_shared })
}

fn good(response: Response, what: &str) -> Result<Response> {
    ensure!(response.status.is_success(), "{what}: {} {}", response.status, response.text());
    Ok(response)
}
