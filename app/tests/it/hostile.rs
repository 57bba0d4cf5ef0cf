//! What nobody should send, and what they hear.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::json;

use crate::Stage;
use crate::site::{Client, Site};

#[tokio::test]
async fn bad_input_gets_a_refusal_that_says_why() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    let ada = json!({"email": "ada@example.com", "password": "correct horse battery"});
    client.post("/api/register", &ada).await?.expect(201);
    client.post("/api/login", &ada).await?.expect(200);

    let long = "a".repeat(1000);
    let gets = [
        ("/api/exercises", 400),
        ("/api/exercises?q=", 400),
        ("/api/exercises?q=%00%01", 400),
        ("/api/exercises?q=squat&limit=0", 400),
        ("/api/exercises?q=squat&limit=101", 400),
        ("/api/exercises?q=squat&limit=many", 400),
        (&format!("/api/exercises?q={long}"), 400),
        (&format!("/?q={long}"), 400),
        ("/api/exercises/no-such-exercise", 404),
        ("/api/exercises/'%3B%20DROP%20TABLE%20exercises%3B--", 404),
        ("/exercises/..%2F..%2Fetc%2Fpasswd", 404),
        ("/exercises/%FF%FE", 404),
        ("/nothing/here", 404),
        ("/api/login", 405),
    ];
    for (path, status) in gets {
        println!("GET {path}");
        client.get(path).await?.expect_problem(status);
    }
    let posts = [
        ("/api/plan", "", 400),
        ("/api/plan", "{", 400),
        ("/api/plan", "[]", 422),
        ("/api/plan", r#"{"slug":"front-squat"}"#, 422),
        ("/api/plan", r#"{"slug":"front-squat","sets":0,"reps":1}"#, 422),
        ("/api/plan", r#"{"slug":"front-squat","sets":1e99,"reps":1}"#, 422),
        ("/api/plan", r#"{"slug":"no-such-exercise","sets":1,"reps":1}"#, 404),
        ("/api/plan", r#"{"slug":"' OR 1=1 --","sets":1,"reps":1}"#, 422),
        ("/api/workouts", r#"{"slug":"front-squat","sets":1,"reps":1,"performed_at":"soon"}"#, 422),
        ("/api/workouts", r#"{"slug":"front-squat","sets":1,"reps":1,"weight_kg":-1}"#, 422),
        ("/api/register", r#"{"email":"nobody","password":"12345678"}"#, 422),
        ("/api/register", r#"{"email":"a@example.com","password":"short"}"#, 422),
        ("/api/login", r#"{"email":"' OR ''='@example.com","password":"x"}"#, 422),
        ("/api/login", r#"{"email":"x'or'1'='1@example.com","password":"x"}"#, 401),
        ("/api/password", r#"{}"#, 422),
    ];
    for (path, body, status) in posts {
        println!("POST {path} {body}");
        let answer = client.send(Method::POST, path, Some("application/json"), body.to_owned()).await?;
        answer.expect_problem(status);
    }
    let deep = format!("{{\"slug\":\"a\",\"more\":{}", "[".repeat(10_000));
    client.send(Method::POST, "/api/plan", Some("application/json"), deep).await?.expect_problem(400);
    let large = " ".repeat(70_000);
    client.send(Method::POST, "/api/plan", Some("application/json"), large).await?.expect_problem(413);
    client
        .with("idempotency-key", "k".repeat(300))
        .post("/api/workouts", &json!({"slug": "front-squat", "sets": 1, "reps": 1}))
        .await?
        .expect_problem(400);
    assert!(stage.psql("SELECT count(*) FROM exercises").parse::<u32>()? >= 300);
    assert_eq!(
        client.get("/api/exercises?q=%27%3B%20DROP%20TABLE%20exercises%3B%20--").await?.expect(200).json()["query"],
        "'; DROP TABLE exercises; --"
    );
    Ok(())
}

#[tokio::test]
async fn other_sites_cannot_send_for_a_visitor() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    let item = json!({"slug": "front-squat", "sets": 1, "reps": 1});
    client.post("/api/plan", &item).await?.expect(200);
    client.with("origin", "https://evil.example").post("/api/plan", &item).await?.expect_problem(403);
    client.with("origin", "null").post("/api/plan", &item).await?.expect_problem(403);
    client.with("sec-fetch-site", "cross-site").post("/api/plan", &item).await?.expect_problem(403);
    client
        .with("sec-fetch-site", "cross-site")
        .send(Method::DELETE, "/api/plan/front-squat", None, String::new())
        .await?
        .expect_problem(403);
    client
        .with("origin", format!("http://{}", site.address))
        .with("sec-fetch-site", "same-origin")
        .post("/api/plan", &item)
        .await?
        .expect(200);
    client.form("/api/plan", "slug=front-squat&sets=1&reps=1").await?.expect_problem(415);
    client.send(Method::POST, "/api/plan", Some("text/plain"), item.to_string()).await?.expect_problem(415);
    // Following a link from elsewhere is no attack.
    client.with("sec-fetch-site", "cross-site").get("/").await?.expect(200);
    Ok(())
}

#[tokio::test]
async fn request_ids_are_kept_when_they_are_safe() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let client = Client::new(&site);
    assert_eq!(
        client
            .with("x-request-id", "from-the-balancer")
            .get("/nothing")
            .await?
            .expect_problem(404)
            .header("x-request-id"),
        "from-the-balancer"
    );
    assert_ne!(
        client.with("x-request-id", "a b").get("/nothing").await?.expect_problem(404).header("x-request-id"),
        "a b"
    );
    // People get a page.
    let page = client.with("accept", "text/html,*/*").get("/nothing").await?.expect(404);
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("Not Found"));
    Ok(())
}

#[tokio::test]
async fn noise_on_the_socket_harms_nobody() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let whole = b"POST /api/plan HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 44\r\n\r\n{\"slug\":\"front-squat\",\"sets\":1,\"reps\":1}    ";
    let before = descriptors(&site)?;
    let address = site.address.clone();
    tokio::task::spawn_blocking(move || -> Result<()> {
        for length in 0..whole.len() {
            throw(&address, &whole[..length])?;
        }
        let noise: Vec<u8> = (0..1 << 20).map(|_| fastrand::u8(..)).collect();
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x-a: b\r\n".repeat(500));
        let long = format!("GET / HTTP/1.1\r\nx-a: {}\r\n\r\n", "b".repeat(100_000));
        let address_long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
        for payload in [
            &noise[..],
            many.as_bytes(),
            long.as_bytes(),
            address_long.as_bytes(),
            b"\0\0\0\0",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
        ] {
            throw(&address, payload)?;
        }
        Ok(())
    })
    .await??;
    Client::new(&site).get("/api/exercises?q=squat").await?.expect(200);
    crate::site::eventually("descriptors are given back", async || {
        descriptors(&site).is_ok_and(|now| now <= before + 4)
    })
    .await;
    Ok(())
}

/// Sends bytes, hangs up, and does not care for the answer.
fn throw(address: &str, payload: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_millis(5)))?;
    // The app may well have closed already: that is one right answer.
    let _ = stream.write_all(payload);
    let _ = stream.read(&mut [0; 1024]);
    Ok(())
}

fn descriptors(site: &Site) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", site.pid()))?.count())
}
