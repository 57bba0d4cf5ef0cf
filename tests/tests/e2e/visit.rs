//! What the site is for: search, plan, register, log in, log a workout, read it back, log out.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::Stack;

use crate::runner::Ended;

pub(crate) async fn whole(stack: &Stack) -> Result<Ended> {
    let client = stack.client(1);
    let search: Value = client.get("/api/exercises?q=push%20up&limit=5").await?.json()?;
    let results = search["results"].as_array().context("results")?;
    ensure!(!results.is_empty() && results.len() <= 5, "{search}");
    let slug = results[0]["slug"].as_str().context("a slug")?;
    let one: Value = client.get(&format!("/api/exercises/{slug}")).await?.json()?;
    ensure!(one["slug"] == slug, "{one}");

    let item = json!({"slug": slug, "sets": 3, "reps": 10});
    ensure!(client.post_json("/api/plan", &item).await?.status.is_success());
    let anonymous_sid = client.cookies(|jar| jar.get("sid").map(str::to_owned));
    let account = json!({"email": "visitor@example.com", "password": "a long enough passphrase"});
    let registered = client.post_json("/api/register", &account).await?;
    // The stack may be used for more than one run of this case.
    ensure!(
        registered.status.is_success() || registered.status == StatusCode::CONFLICT,
        "{}",
        registered.text()
    );
    let login = client.post_json("/api/login", &account).await?;
    ensure!(login.status.is_success(), "{} {}", login.status, login.text());
    let sid = client.cookies(|jar| jar.get("sid").map(str::to_owned));
    ensure!(sid != anonymous_sid, "the session id changes at log-in");
    let me: Value = client.get("/api/me").await?.json()?;
    ensure!(me["email"] == "visitor@example.com", "{me}");
    let plan = client.get("/api/plan").await?.text();
    ensure!(plan.contains(slug), "log-in carries the plan over: {plan}");

    workout_is_kept_once(stack, &client, slug).await?;
    ensure!(client.post_json("/api/logout", &json!({})).await?.status.is_success());
    ensure!(client.get("/api/me").await?.status == StatusCode::UNAUTHORIZED);
    Ok(Ended::Passed)
}

async fn workout_is_kept_once(
    stack: &Stack,
    client: &tests::http_client::HttpClient,
    slug: &str,
) -> Result<()> {
    let key = format!("e2e-{}", std::process::id());
    let workout = json!({
        "slug": slug, "sets": 3, "reps": 10, "weight_kg": 12.5, "performed_at": "2026-01-02T03:04:05Z",
    });
    let body = Bytes::from(workout.to_string());
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let elsewhere = client.moved_to(stack.endpoints().lbs[1]);
    let first = client.send(Method::POST, "/api/workouts", &headers, body.clone()).await?;
    ensure!(first.status == StatusCode::CREATED, "{} {}", first.status, first.text());
    let again: Value = elsewhere.send(Method::POST, "/api/workouts", &headers, body).await?.json()?;
    let first: Value = first.json()?;
    ensure!(first["id"] == again["id"], "{first} and {again}");
    let list: Value = elsewhere.get("/api/workouts").await?.json()?;
    let copies =
        list["workouts"].as_array().context("workouts")?.iter().filter(|it| it["id"] == first["id"]).count();
    ensure!(copies == 1, "{copies} copies in {list}");
    Ok(())
}
