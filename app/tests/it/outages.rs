//! What goes on when something that the app depends on is away.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::chaos::CommitCutter;
use crate::servers::{self, Server};
use crate::site::{self, Client, Site, environment};
use crate::{Stage, migrated, redis_sessions};

#[tokio::test]
async fn without_the_session_store_anonymous_visitors_notice_nothing() -> Result<()> {
    let Some(mut stage) = Stage::set()? else { return Ok(()) };
    let mut redis = Server::redis()?;
    stage.environment.extend(redis_sessions(redis.port));
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    client.post("/api/plan", &json!({"slug": "front-squat", "sets": 1, "reps": 1})).await?.expect(200);

    redis.kill();
    let mut anonymous = Client::new(&site);
    for path in
        ["/", "/?q=squat", "/exercises/front-squat", "/api/exercises?q=squat", "/api/exercises/front-squat"]
    {
        anonymous.get(path).await?.expect(200);
        client.get(path).await?.expect(200);
    }
    let away = client.get("/api/plan").await?.expect_problem(503);
    assert!(!away.header("retry-after").is_empty());
    let away = anonymous
        .post("/api/plan", &json!({"slug": "plank", "sets": 1, "reps": 1}))
        .await?
        .expect_problem(503);
    assert!(!away.header("retry-after").is_empty());
    site::eventually("the loss shows in /readyz, with 200", async || {
        let ready = Client::new(&site).get("/readyz").await.expect("it answers").expect(200);
        ready.json()["status"] == "degraded"
    })
    .await;

    redis.start()?;
    site::eventually("sessions are back", async || {
        let item = json!({"slug": "front-squat", "sets": 1, "reps": 1});
        Client::new(&site).post("/api/plan", &item).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn without_the_database_what_is_cached_is_served_stale() -> Result<()> {
    if servers::root().is_none() {
        return Ok(());
    }
    let (mut postgres, redis) = (Server::postgres()?, Server::redis()?);
    let mut environment = environment(postgres.port, &migrated(&postgres)?);
    environment.insert("APP_CACHE__REDIS_URL".into(), format!("redis://127.0.0.1:{}", redis.port));
    environment.insert("APP_CACHE__DEADLINE_MS".into(), "2000".into());
    environment.insert("APP_CACHE__TTL_MS".into(), "300".into());
    let site = Site::start(&environment)?.ready().await?;
    let mut client = Client::new(&site);
    site::eventually("an answer is in the cache", async || {
        client
            .clone()
            .get("/api/exercises?q=squat")
            .await
            .is_ok_and(|answer| answer.header("x-cache") == "hit")
    })
    .await;
    let fresh = client.get("/api/exercises?q=squat").await?.expect(200).json();

    postgres.kill();
    site::eventually("the answer is old, and given", async || {
        let answer = client.clone().get("/api/exercises?q=squat").await.expect("it answers").expect(200);
        assert_eq!(answer.json(), fresh);
        answer.header("x-cache") == "stale"
    })
    .await;
    let away = client.get("/api/exercises?q=never+asked+before").await?.expect_problem(503);
    assert!(!away.header("retry-after").is_empty());
    client.get("/").await?.expect(200);
    client.get("/exercises/front-squat").await?.expect_problem(503);
    client.post("/api/plan", &json!({"slug": "front-squat", "sets": 1, "reps": 1})).await?.expect(200);
    client
        .post("/api/login", &json!({"email": "a@example.com", "password": "12345678"}))
        .await?
        .expect_problem(503);

    postgres.start()?;
    site::eventually("the database answers again", async || {
        client.clone().get("/exercises/front-squat").await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_not_noticed() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    for _ in 0..5 {
        // Several at once, so that the pool holds several connections.
        let mut requests = tokio::task::JoinSet::new();
        for number in 0..6 {
            let mut client = client.clone();
            requests.spawn(async move { client.get(&format!("/api/exercises?q=squat+{number}")).await });
        }
        while let Some(done) = requests.join_next().await {
            done??.expect(200);
        }
        stage.psql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database()");
        client.get("/api/exercises/front-squat").await?.expect(200);
    }
    Ok(())
}

#[tokio::test]
async fn an_app_starts_with_nothing_there() -> Result<()> {
    let mut environment = environment(1, "fitness");
    environment.extend(redis_sessions(1));
    environment.insert("APP_CACHE__REDIS_URL".into(), "redis://127.0.0.1:1".into());
    let site = Site::start(&environment)?;
    let mut client = Client::new(&site);
    client.get("/livez").await?.expect(200);
    client.get("/").await?.expect(200);
    let ready = client.get("/readyz").await?.expect(503).json();
    assert_eq!(ready["status"], "starting");
    let names: Vec<_> =
        ready["dependencies"].as_array().into_iter().flatten().map(|line| line["name"].clone()).collect();
    assert_eq!(names, ["database", "search", "session-store"]);
    client.get("/api/exercises?q=squat").await?.expect_problem(503);
    client.get("/api/me").await?.expect_problem(401);
    client
        .post("/api/plan", &json!({"slug": "front-squat", "sets": 1, "reps": 1}))
        .await?
        .expect_problem(503);
    Ok(())
}

/// The worst moment: COMMIT arrived, and its acknowledgement did not.
#[tokio::test]
async fn a_commit_without_an_acknowledgement_is_never_called_done() -> Result<()> {
    let Some(mut stage) = Stage::set()? else { return Ok(()) };
    let cutter = CommitCutter::start(stage.shared.postgres.port).await?;
    let dsn = format!("postgres://app@127.0.0.1:{}/{}", cutter.port, stage.database);
    stage.environment.insert("APP_DATABASE__DATA_DSN".into(), dsn);
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    let ada = json!({"email": "ada@example.com", "password": "correct horse battery"});
    client.post("/api/register", &ada).await?.expect(201);
    client.post("/api/login", &ada).await?.expect(200);
    let squat = json!({"slug": "front-squat", "sets": 3, "reps": 5, "weight_kg": 60});

    cutter.cut_next();
    let unknown = client.post("/api/workouts", &squat).await?.expect_problem(503);
    assert_eq!(unknown.json()["type"], "urn:problem:outcome-unknown");
    assert!(!unknown.header("retry-after").is_empty());
    assert_eq!(stage.psql("SELECT count(*) FROM workouts"), "1", "it was not sent twice");

    // With a key the app may send it again, and finds its own first attempt.
    cutter.cut_next();
    let known = client.with("idempotency-key", "one").post("/api/workouts", &squat).await?.expect(201);
    assert_eq!(known.header("idempotent-replayed"), "true");
    assert_eq!(stage.psql("SELECT count(*) FROM workouts"), "2");
    assert_eq!(
        stage.psql("SELECT id FROM workouts WHERE idempotency_key = 'one'"),
        known.json()["id"].to_string()
    );

    // Work that only reads is repeated, too.
    cutter.cut_next();
    let list = client.get("/api/workouts").await?.expect(200).json();
    assert_eq!(list["workouts"].as_array().map(Vec::len), Some(2));
    assert_eq!(cutter.cuts(), 3);
    Ok(())
}

#[tokio::test]
async fn a_cache_that_stopped_answering_is_left_alone() -> Result<()> {
    let Some(mut stage) = Stage::set()? else { return Ok(()) };
    let redis = Server::redis()?;
    stage.environment.insert("APP_CACHE__REDIS_URL".into(), format!("redis://127.0.0.1:{}", redis.port));
    stage.environment.insert("APP_CACHE__DEADLINE_MS".into(), "500".into());
    let site = stage.site().await?;
    let client = Client::new(&site);
    let origin_is = async |origin: &str| {
        client.clone().get("/api/exercises?q=squat").await.expect("it answers").expect(200).header("x-cache")
            == origin
    };
    site::eventually("the cache answers", async || origin_is("hit").await).await;
    redis.signal("STOP")?;
    site::eventually("the database answers", async || origin_is("miss").await).await;
    redis.signal("CONT")?;
    site::eventually("the cache is back", async || origin_is("hit").await).await;
    Ok(())
}

/// Every workout is sent until it is acknowledged, while the database is killed twice: all are there, none twice.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_workouts_are_kept_once_whatever_happens_to_the_database() -> Result<()> {
    const WORKOUTS: i64 = 120;
    if servers::root().is_none() {
        return Ok(());
    }
    let mut postgres = Server::postgres()?;
    let database = migrated(&postgres)?;
    let mut environment = environment(postgres.port, &database);
    // Shorter than the outage, so that the app cannot sit it out.
    environment.insert("APP_DATABASE__CONNECT_TIMEOUT_MS".into(), "100".into());
    let site = Site::start(&environment)?.ready().await?;
    let mut client = Client::new(&site);
    let ada = json!({"email": "ada@example.com", "password": "correct horse battery"});
    client.post("/api/register", &ada).await?.expect(201);
    client.post("/api/login", &ada).await?.expect(200);

    let (acknowledged, mut count) = tokio::sync::watch::channel(0);
    let writer = tokio::spawn(async move {
        let mut refused = 0;
        for number in 1..=WORKOUTS {
            let mut keyed = client.with("idempotency-key", format!("key-{number}"));
            let workout = json!({"slug": "front-squat", "sets": 3, "reps": number});
            let deadline = Instant::now() + Duration::from_secs(30);
            while keyed.post("/api/workouts", &workout).await?.status != 201 {
                refused += 1;
                assert!(Instant::now() < deadline, "workout {number} is never acknowledged");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            acknowledged.send_replace(number);
        }
        anyhow::Ok(refused)
    });
    for kill_at in [30, 70] {
        count.wait_for(|count| *count >= kill_at).await?;
        postgres.kill();
        // Not back before somebody noticed.
        tokio::time::sleep(Duration::from_millis(500)).await;
        postgres.start()?;
    }
    let refused = writer.await??;
    assert!(refused > 0, "the database was not missed");
    let stored = postgres.psql(&database, "SELECT count(*), count(DISTINCT reps) FROM workouts")?;
    assert_eq!(stored, format!("{WORKOUTS}|{WORKOUTS}"));
    Ok(())
}
