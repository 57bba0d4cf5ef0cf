//! Search, the cache, and changes of the catalogue.

use anyhow::Result;
use http::Method;
use serde_json::json;

use crate::site::{self, Client};
use crate::{Stage, servers::Server};

/// A stage whose apps cache in a Redis of their own.
fn cached() -> Result<Option<(Stage, Server)>> {
    let Some(mut stage) = Stage::set()? else { return Ok(None) };
    let redis = Server::redis()?;
    stage.environment.insert("APP_CACHE__REDIS_URL".into(), format!("redis://127.0.0.1:{}", redis.port));
    // Far from the limit of a quiet machine: this is not about speed.
    stage.environment.insert("APP_CACHE__DEADLINE_MS".into(), "2000".into());
    Ok(Some((stage, redis)))
}

/// Until an app has found its cache.
async fn hits(client: &Client, path: &str) {
    site::eventually("the cache answers", async || {
        client.clone().get(path).await.is_ok_and(|answer| answer.header("x-cache") == "hit")
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_is_found() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    let answer = client.get("/api/exercises?q=Front%20Squat&limit=5").await?.expect(200);
    assert_eq!(answer.header("x-cache"), "miss");
    assert_eq!(answer.header("x-served-by"), "app-test");
    let body = answer.json();
    assert_eq!(body["query"], "Front Squat");
    let results = body["results"].as_array().expect("a list");
    assert_eq!(results.len(), 5);
    assert_eq!(results[0]["slug"], "front-squat");
    let keys: Vec<_> = results[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["equipment", "level", "muscles", "name", "score", "slug"]);
    let scores: Vec<f64> = results.iter().filter_map(|hit| hit["score"].as_f64()).collect();
    assert!(scores.is_sorted_by(|one, next| one >= next) && scores[0] <= 1.0, "{scores:?}");
    let all = client.get("/api/exercises?q=squat&limit=100").await?.expect(200).json();
    assert_eq!(all["results"].as_array().map(Vec::len), Some(100));
    assert_eq!(client.get("/api/exercises?q=%3F%3F").await?.expect(200).json()["results"], json!([]));
    assert!(client.get("/?q=front+squat").await?.expect(200).text.contains("/exercises/front-squat"));
    Ok(())
}

#[tokio::test]
async fn the_cache_helps_and_is_never_needed() -> Result<()> {
    let Some((stage, mut redis)) = cached()? else { return Ok(()) };
    let (one, two) = (stage.site().await?, stage.site().await?);
    let client = Client::new(&one);
    let first = client.clone().get("/api/exercises?q=chest").await?.expect(200);
    assert_eq!(first.header("x-cache"), "miss");
    hits(&client, "/api/exercises?q=chest").await;
    // The same question in other clothes, at another instance.
    let mut other = Client::new(&two);
    hits(&other, "/api/exercises?q=%20CHEST%20&limit=20").await;
    let again = other.get("/api/exercises?q=chest").await?.expect(200);
    assert_eq!((again.header("x-cache"), again.json()), ("hit", first.json()));

    redis.kill();
    let without = other.get("/api/exercises?q=chest").await?.expect(200);
    assert_eq!((without.header("x-cache"), without.json()), ("miss", first.json()));
    redis.start()?;
    hits(&client, "/api/exercises?q=chest").await;
    Ok(())
}

#[tokio::test]
async fn an_editor_changes_what_is_found() -> Result<()> {
    let Some((stage, _redis)) = cached()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut editor = Client::new(&site);
    let path = "/api/exercises/front-squat";
    let exercise = editor.get(path).await?.expect(200);
    let tag = exercise.header("etag").to_owned();
    editor.with("if-none-match", &tag).get(path).await?.expect(304);
    let mut change = exercise.json();
    change["name"] = json!("Anterior Barbell Squat");

    let put = async |client: &Client, tag: Option<&str>| {
        let mut client = tag.map_or_else(|| client.clone(), |tag| client.with("if-match", tag));
        client.send(Method::PUT, path, Some("application/json"), change.to_string()).await
    };
    put(&editor, Some(&tag)).await?.expect_problem(401);
    let credentials = json!({"email": "ada@example.com", "password": "correct horse battery"});
    editor.post("/api/register", &credentials).await?.expect(201);
    editor.post("/api/login", &credentials).await?.expect(200);
    put(&editor, Some(&tag)).await?.expect_problem(403);
    site::run(&["grant-editor", "ada@example.com"], &stage.environment)?;
    put(&editor, None).await?.expect_problem(428);
    put(&editor, Some("\"99\"")).await?.expect_problem(412);

    hits(&editor, "/api/exercises?q=front+squat").await;
    let changed = put(&editor, Some(&tag)).await?.expect(200);
    assert_ne!(changed.header("etag"), tag);
    put(&editor, Some(&tag)).await?.expect_problem(412);
    let found = editor.get("/api/exercises?q=anterior+barbell+squat&limit=1").await?.expect(200).json();
    assert_eq!(found["results"][0]["name"], "Anterior Barbell Squat");
    let old = editor.get("/api/exercises?q=front+squat").await?.expect(200);
    assert_eq!(old.header("x-cache"), "miss", "answers from before the change do not count");

    // The catalogue does not take the editor's text back.
    site::run(&["migrate"], &stage.environment)?;
    assert_eq!(editor.get(path).await?.json()["name"], "Anterior Barbell Squat");
    Ok(())
}

#[tokio::test]
async fn vectors_may_live_in_a_database_of_their_own() -> Result<()> {
    let Some(mut stage) = Stage::set()? else { return Ok(()) };
    let search = format!("{}_search", stage.database);
    stage.shared.postgres.psql("postgres", &format!("CREATE DATABASE {search} OWNER app"))?;
    stage.shared.postgres.psql(&search, "CREATE EXTENSION vector")?;
    stage.psql("DROP TABLE exercise_vectors");
    let dsn = format!("postgres://app@127.0.0.1:{}/{search}", stage.shared.postgres.port);
    stage.environment.insert("APP_DATABASE__SEARCH_DSN".into(), dsn);
    site::run(&["migrate"], &stage.environment)?;
    let site = stage.site().await?;
    let found = Client::new(&site).get("/api/exercises?q=front+squat&limit=1").await?.expect(200).json();
    assert_eq!(found["results"][0]["slug"], "front-squat");
    Ok(())
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_generated_exercises_come_and_are_indexed() -> Result<()> {
    let Some(mut stage) = Stage::set()? else { return Ok(()) };
    let state = "SELECT count(*), sum(version) FROM exercises";
    let before = stage.psql(state);
    site::run(&["migrate"], &stage.environment)?;
    assert_eq!(stage.psql(state), before);
    let ours = stage.psql("SELECT count(*) FROM exercises").parse::<u32>()?;
    assert!(ours >= 300);
    stage.environment.insert("APP_MIGRATE__GENERATED_EXERCISES".into(), "3000".into());
    site::run(&["migrate"], &stage.environment)?;
    assert_eq!(stage.psql("SELECT count(*) FROM exercise_vectors"), (ours + 3000).to_string());
    // A vector of another embedder is made again.
    stage.psql("UPDATE exercise_vectors SET embedder = 'other' WHERE slug = 'front-squat'");
    site::run(&["migrate"], &stage.environment)?;
    assert_eq!(stage.psql("SELECT count(*) FROM exercise_vectors WHERE embedder = 'other'"), "0");
    let plan = stage.psql(
        "SET enable_seqscan = off; EXPLAIN SELECT slug FROM exercise_vectors ORDER BY embedding <=> \
         (SELECT embedding FROM exercise_vectors WHERE slug = 'front-squat') LIMIT 10",
    );
    assert!(plan.contains("exercise_vectors_nearest"), "{plan}");
    Ok(())
}
