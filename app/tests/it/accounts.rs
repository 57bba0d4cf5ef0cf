//! Registering, logging in and out, sessions and the plan.

use anyhow::Result;
use serde_json::json;

use crate::Stage;
use crate::site::Client;

const ADA: &str = "ada@example.com";
const SECRET: &str = "correct horse battery";

async fn registered(client: &mut Client, email: &str) -> Result<()> {
    client.post("/api/register", &json!({"email": email, "password": SECRET})).await?.expect(201);
    Ok(())
}

async fn logged_in(client: &mut Client, email: &str) -> Result<()> {
    let answer = client.post("/api/login", &json!({"email": email, "password": SECRET})).await?.expect(200);
    assert_eq!(answer.json()["email"], email);
    Ok(())
}

#[tokio::test]
async fn the_whole_journey_across_two_instances() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let (one, two) = (stage.site().await?, stage.site().await?);
    let mut client = Client::new(&one);
    client.get("/api/me").await?.expect_problem(401);
    let plan =
        client.post("/api/plan", &json!({"slug": "front-squat", "sets": 3, "reps": 8})).await?.expect(200);
    assert_eq!(plan.json()["items"], json!([{"slug": "front-squat", "sets": 3, "reps": 8}]));

    let registered =
        client.post("/api/register", &json!({"email": " Ada@Example.com", "password": SECRET})).await?;
    registered.expect(201);
    client.get("/api/me").await?.expect_problem(401);
    logged_in(&mut client, ADA).await?;

    // The other instance knows the session, with the plan of the time before.
    client.address.clone_from(&two.address);
    assert_eq!(client.get("/api/me").await?.expect(200).json(), json!({"email": ADA}));
    assert_eq!(client.get("/api/plan").await?.json()["items"][0]["slug"], "front-squat");
    client.send(http::Method::DELETE, "/api/plan/front-squat", None, String::new()).await?.expect(200);
    assert_eq!(client.get("/api/plan").await?.json(), json!({"items": []}));

    let workout = json!({"slug": "front-squat", "sets": 5, "reps": 5, "weight_kg": 62.5, "performed_at": "2031-05-04T07:30:00Z"});
    let id = client.post("/api/workouts", &workout).await?.expect(201).json()["id"].clone();
    client.address.clone_from(&one.address);
    let list = client.get("/api/workouts").await?.expect(200).json();
    assert_eq!(list["workouts"].as_array().map(Vec::len), Some(1));
    let mut expected = workout;
    expected["id"] = id;
    assert_eq!(list["workouts"][0], expected);

    client.post("/api/logout", &json!({})).await?.expect(204);
    client.get("/api/workouts").await?.expect_problem(401);
    Ok(())
}

#[tokio::test]
async fn nothing_is_stored_before_there_is_something_to_store() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    for path in ["/", "/exercises/front-squat", "/plan", "/login", "/api/plan", "/api/exercises?q=squat"] {
        client.get(path).await?.expect(200);
        assert!(!client.cookies.contains_key("sid"), "{path} made a session");
    }
    client.send(http::Method::DELETE, "/api/plan/front-squat", None, String::new()).await?.expect(200);
    assert!(!client.cookies.contains_key("sid"));
    Ok(())
}

#[tokio::test]
async fn ids_that_clients_bring_are_never_adopted() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    let brought = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".to_owned();
    client.cookies.insert("sid".into(), brought.clone());
    client.post("/api/plan", &json!({"slug": "front-squat", "sets": 1, "reps": 1})).await?.expect(200);
    assert_ne!(client.cookies["sid"], brought);
    let mut attacker = Client::new(&site);
    attacker.cookies.insert("sid".into(), brought);
    assert_eq!(attacker.get("/api/plan").await?.json(), json!({"items": []}));
    Ok(())
}

#[tokio::test]
async fn logging_in_kills_the_id_from_before() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut victim = Client::new(&site);
    victim.post("/api/plan", &json!({"slug": "front-squat", "sets": 1, "reps": 1})).await?.expect(200);
    let attacker = victim.clone();
    registered(&mut victim, ADA).await?;
    logged_in(&mut victim, ADA).await?;
    assert_ne!(attacker.cookies["sid"], victim.cookies["sid"]);
    let mut fixed = attacker.clone();
    fixed.get("/api/me").await?.expect_problem(401);
    assert_eq!(attacker.clone().get("/api/plan").await?.json(), json!({"items": []}));

    // So do a new password and logging out.
    let mut before = victim.clone();
    let change = json!({"current_password": "wrong", "new_password": "another horse"});
    victim.post("/api/password", &change).await?.expect_problem(403);
    let change = json!({"current_password": SECRET, "new_password": "another horse"});
    victim.post("/api/password", &change).await?.expect(204);
    before.get("/api/me").await?.expect_problem(401);
    victim.get("/api/me").await?.expect(200);
    let mut after = victim.clone();
    victim.post("/api/logout", &json!({})).await?.expect(204);
    after.get("/api/me").await?.expect_problem(401);
    victim.post("/api/login", &json!({"email": ADA, "password": SECRET})).await?.expect_problem(401);
    victim.post("/api/login", &json!({"email": ADA, "password": "another horse"})).await?.expect(200);
    Ok(())
}

#[tokio::test]
async fn another_user_does_not_inherit_the_plan() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    registered(&mut client, ADA).await?;
    registered(&mut client, "bob@example.com").await?;
    logged_in(&mut client, ADA).await?;
    client.post("/api/plan", &json!({"slug": "front-squat", "sets": 1, "reps": 1})).await?.expect(200);
    logged_in(&mut client, "bob@example.com").await?;
    assert_eq!(client.get("/api/plan").await?.json(), json!({"items": []}));
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_do_not_tell_which() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    registered(&mut client, ADA).await?;
    client
        .post("/api/register", &json!({"email": "ADA@example.com", "password": SECRET}))
        .await?
        .expect_problem(409);
    let wrong = client
        .post("/api/login", &json!({"email": ADA, "password": "wrong wrong"}))
        .await?
        .expect_problem(401);
    let unknown = client
        .post("/api/login", &json!({"email": "eve@example.com", "password": SECRET}))
        .await?
        .expect_problem(401);
    assert_eq!(wrong.json()["detail"], unknown.json()["detail"]);
    assert!(client.cookies.is_empty());
    Ok(())
}

#[tokio::test]
async fn forms_work_without_a_session_and_are_refused_without_their_token() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let mut client = Client::new(&site);
    let token = form_token(&client.get("/exercises/front-squat").await?.expect(200).text);
    let body = format!("slug=front-squat&sets=4&reps=6&form_token={token}");
    Client::new(&site).form("/plan", &body).await?.expect_problem(403);
    client.form("/plan", "slug=front-squat&sets=4&reps=6&form_token=").await?.expect_problem(403);
    client.form("/plan", &body).await?.expect(303);
    assert!(client.cookies.contains_key("sid"));
    // The token of the time before is no token of the session.
    client.form("/plan", &body).await?.expect_problem(403);
    let page = client.get("/plan").await?.expect(200).text;
    assert!(page.contains("Front Squat"), "{page}");
    let token = form_token(&page);
    client.form("/plan/remove", &format!("slug=front-squat&form_token={token}")).await?.expect(303);
    assert!(client.get("/plan").await?.text.contains("Nothing in it yet"));

    let token = form_token(&client.get("/register").await?.text);
    let join = format!("email=ada%40example.com&password=correct+horse+battery&form_token={token}");
    client.form("/register", &join).await?.expect(303);
    let page = client.get("/workouts").await?.expect(200).text;
    assert!(page.contains("Nothing logged yet") && page.contains(ADA));
    let (token, key) = (form_token(&page), between(&page, "name=\"key\" value=\"", "\""));
    let log = format!(
        "slug=Front+Squat&sets=3&reps=5&weight_kg=60&performed_at=2031-05-04&key={key}&form_token={token}"
    );
    client.form("/workouts", &log).await?.expect(303);
    client.form("/workouts", &log).await?.expect(303);
    let page = client.get("/workouts").await?.expect(200).text;
    assert_eq!(page.matches("href=\"/exercises/front-squat\"").count(), 1, "sent twice, it is one workout");
    assert!(page.contains("Sunday, 4 May 2031"));
    client.form("/logout", &format!("form_token={}", form_token(&page))).await?.expect(303);
    client.get("/api/me").await?.expect_problem(401);
    Ok(())
}

#[tokio::test]
async fn cookies_follow_the_scheme() -> Result<()> {
    let Some(stage) = Stage::set()? else { return Ok(()) };
    let site = stage.site().await?;
    let item = json!({"slug": "front-squat", "sets": 1, "reps": 1});
    let plain = Client::new(&site).post("/api/plan", &item).await?.expect(200);
    let set = plain.header("set-cookie");
    assert!(set.starts_with("sid=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let sealed =
        Client::new(&site).with("x-forwarded-proto", "https").post("/api/plan", &item).await?.expect(200);
    let set = sealed.header("set-cookie");
    assert!(
        set.starts_with("__Host-sid=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"),
        "{set}"
    );
    Ok(())
}

fn form_token(page: &str) -> String {
    between(page, "name=\"form_token\" value=\"", "\"")
}

/// What stands between two texts, the last time.
fn between(page: &str, before: &str, after: &str) -> String {
    let rest = page.rsplit_once(before).unwrap_or_else(|| panic!("no {before} in {page}")).1;
    rest.split_once(after).expect("it ends").0.to_owned()
}
