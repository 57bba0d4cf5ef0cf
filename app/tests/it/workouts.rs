//! Durable writes that happen once.

use anyhow::Result;
use serde_json::{Value, json};

use crate::Stage;
use crate::site::{Client, Site};

async fn ada(site: &Site) -> Result<Client> {
    let mut client = Client::new(site);
    let ada = json!({"email": "ada@example.com", "password": "correct horse battery"});
    client.post("/api/register", &ada).await?.expect(201);
    client.post("/api/login", &ada).await?.expect(200);
    Ok(client)
}

fn squat(reps: u32) -> Value {
    json!({"slug": "front-squat", "sets": 3, "reps": reps, "weight_kg": 60})
}

#[tokio::test]
async fn one_key_is_one_workout() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut keyed = ada(&site).await?.with("idempotency-key", "one");
    let first = keyed.post("/api/workouts", &squat(5)).await?.expect(201).json();
    let again = keyed.post("/api/workouts", &squat(5)).await?.expect(201);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.json(), first);
    keyed.post("/api/workouts", &squat(6)).await?.expect_problem(422);
    keyed.extra.clear();
    let other = keyed.post("/api/workouts", &squat(5)).await?.expect(201).json();
    assert_ne!(other, first);
    assert_eq!(stage.psql("SELECT count(*) FROM workouts"), "2");
    Ok(())
}

#[tokio::test]
async fn one_key_sent_at_once_to_two_instances_is_one_workout() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let (one, two) = (stage.site().await?, stage.site().await?);
    let client = ada(&one).await?;
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..24 {
        let mut client = client.with("idempotency-key", format!("key-{}", number / 8));
        client.address.clone_from(if number % 2 == 0 { &one.address } else { &two.address });
        requests.spawn(async move {
            let answer = client.post("/api/workouts", &squat(5)).await?.expect(201);
            anyhow::Ok((number / 8, answer.json()["id"].as_i64()))
        });
    }
    let mut ids = std::collections::BTreeSet::new();
    while let Some(done) = requests.join_next().await {
        ids.insert(done??);
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert_eq!(stage.psql("SELECT count(*) FROM workouts"), "3");
    Ok(())
}

#[tokio::test]
async fn users_see_their_own() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut ada = ada(&site).await?.with("idempotency-key", "same");
    ada.post("/api/workouts", &squat(5)).await?.expect(201);
    let mut bob = Client::new(&site);
    let credentials = json!({"email": "bob@example.com", "password": "correct horse battery"});
    bob.post("/api/register", &credentials).await?.expect(201);
    bob.post("/api/login", &credentials).await?.expect(200);
    assert_eq!(bob.get("/api/workouts").await?.json(), json!({"workouts": []}));
    // Keys are each user's own, too.
    bob.with("idempotency-key", "same").post("/api/workouts", &squat(9)).await?.expect(201);
    assert_eq!(ada.get("/api/workouts").await?.json()["workouts"].as_array().map(Vec::len), Some(1));
    Ok(())
}
