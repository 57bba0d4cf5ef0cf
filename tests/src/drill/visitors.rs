//! Visitors with something to lose: a plan in their session, or an account with workouts.

use anyhow::{Context as _, Result, ensure};
use http::HeaderValue;
use serde_json::{Value, json};

use crate::http_client::HttpClient;
use crate::stack::Stack;

/// A visitor with one exercise in the plan.
#[derive(Debug)]
pub(super) struct Planner {
    client: HttpClient,
    slug: String,
    /// The app that stored it.
    pub(super) app: String,
}

/// What a planner found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether the plan was still there.
    pub(super) plan: bool,
    /// The app that answered, if one did.
    pub(super) app: String,
}

/// Slugs to plan and to log, from a search.
pub(super) async fn slugs(stack: &Stack) -> Result<Vec<String>> {
    let response = stack.client(1).get("/api/exercises?q=squat&limit=20").await?;
    let body: Value = response.json()?;
    let results = body["results"].as_array().context("a search has results")?;
    let slugs: Vec<String> = results.iter().filter_map(|it| it["slug"].as_str().map(str::to_owned)).collect();
    ensure!(!slugs.is_empty(), "the catalogue is empty");
    Ok(slugs)
}

/// Visitors who stored a plan, as many through each balancer.
pub(super) async fn planners(stack: &Stack, count: usize) -> Result<Vec<Planner>> {
    let lbs = stack.endpoints().lbs.len();
    planners_at(stack, count, |n| 1 + n % lbs).await
}

/// The same, the n-th through the balancer (from 1) that is told.
pub(super) async fn planners_at(
    stack: &Stack,
    count: usize,
    lb: impl Fn(usize) -> usize,
) -> Result<Vec<Planner>> {
    let slugs = slugs(stack).await?;
    let mut planners = Vec::with_capacity(count);
    for n in 0..count {
        let (client, slug) = (stack.client(lb(n)), slugs[n % slugs.len()].clone());
        let item = json!({"slug": slug, "sets": 3, "reps": 8});
        let stored = client.post_json("/api/plan", &item).await?;
        ensure!(stored.status.is_success(), "storing a plan: {} {}", stored.status, stored.text());
        let app = stored.header("x-served-by").to_owned();
        planners.push(Planner { client, slug, app });
    }
    Ok(planners)
}

impl Planner {
    /// Whether the plan is still there; an error answer or none means that it is not.
    pub(super) async fn keeps_the_plan(&self) -> bool {
        self.look().await.plan
    }

    /// Asks for the plan.
    pub(super) async fn look(&self) -> Found {
        match self.client.get("/api/plan").await {
            Ok(response) => Found {
                plan: response.status.is_success() && response.text().contains(&self.slug),
                app: response.header("x-served-by").to_owned(),
            },
            Err(_) => Found { plan: false, app: String::new() },
        }
    }

    /// The same visitor, cookies included, at this balancer (from 1).
    pub(super) fn moved_to(&self, stack: &Stack, lb: usize) -> Self {
        let client = self.client.moved_to(stack.endpoints().lbs[lb - 1]);
        Self { client, slug: self.slug.clone(), app: self.app.clone() }
    }
}

/// How many of them have lost their plan now.
pub(super) async fn losses(planners: impl IntoIterator<Item = &Planner>) -> u64 {
    let mut lost = 0;
    for planner in planners {
        lost += u64::from(!planner.keeps_the_plan().await);
    }
    lost
}

/// An account that is logged in.
#[derive(Debug)]
pub(super) struct Athlete {
    client: HttpClient,
    /// To be sent by a load client that keeps no cookies itself.
    pub(super) cookies: HeaderValue,
}

/// Registers and logs in so many, one after the other: passwords are costly on purpose.
pub(super) async fn athletes(stack: &Stack, count: usize, seed: u64) -> Result<Vec<Athlete>> {
    let lbs = stack.endpoints().lbs.len();
    let mut athletes = Vec::with_capacity(count);
    for n in 0..count {
        let client = stack.client(1 + n % lbs);
        let account = json!({
            "email": format!("athlete-{seed}-{n}@example.com"),
            "password": format!("correct horse {seed} {n} staple"),
        });
        for path in ["/api/register", "/api/login"] {
            let response = client.post_json(path, &account).await?;
            ensure!(response.status.is_success(), "{path}: {} {}", response.status, response.text());
        }
        let cookies = client.cookies(|jar| jar.header()).context("a log-in gives a cookie")?;
        athletes.push(Athlete { client, cookies });
    }
    Ok(athletes)
}

impl Athlete {
    /// Every workout's weight in grams, in which drills hide their operation ids.
    pub(super) async fn weights_grams(&self) -> Result<Vec<u64>> {
        let response = self.client.get("/api/workouts").await?;
        ensure!(
            response.status.is_success(),
            "the list of workouts: {} {}",
            response.status,
            response.text()
        );
        let body: Value = response.json()?;
        let workouts = body["workouts"].as_array().context("a list of workouts")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small positive whole numbers"
        )]
        let grams = |it: &Value| it["weight_kg"].as_f64().map(|kg| (kg * 1000.0).round() as u64);
        workouts.iter().map(|it| grams(it).context("a workout has a weight")).collect()
    }
}
