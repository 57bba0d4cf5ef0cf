//! The program itself: its metrics, its readiness, its commands.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use session_store::{Change, Policy, SessionToken};

use crate::redis_server::{RedisServer, available};
use crate::world::{PATIENCE, create, eventually, load, open_redis, patient, present};

fn program(server: &RedisServer) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_session-store"));
    command
        .env("SESSION_STORE_STORE__REDIS_URL", server.url())
        .env("SESSION_STORE_STORE__COMMAND_TIMEOUT_MS", "5000")
        .env("SESSION_STORE_WATCH__READ_INTERVAL_MS", "20")
        .env("SESSION_STORE_ADMIN__LISTEN", "127.0.0.1:0")
        .env("SESSION_STORE_SHUTDOWN__LAME_DUCK_MS", "1");
    command
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn admin_address(ready_file: &Path) -> SocketAddr {
    let mut address = None;
    eventually("the ready-file", async || {
        let text = std::fs::read_to_string(ready_file).unwrap_or_default();
        let bound: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        address = bound.and_then(|bound| bound["admin"].as_str()?.parse().ok());
        address.is_some()
    })
    .await;
    address.unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn counts_sessions_and_tells_when_the_store_goes_and_comes() {
    if !available("counts_sessions_and_tells_when_the_store_goes_and_comes") {
        return;
    }
    let mut server = RedisServer::start();
    let store = open_redis(patient(&server), Policy::default()).await;
    for number in 0..250 {
        let id = create(&store, &[("a", "1")]).await;
        if number < 30 {
            present(&store, &id, &[Change::Destroy]).await;
        }
    }
    server.ask(&["SET", "session:not-a-hash", "1"]).await;
    server.ask(&["HSET", "other:hash", "a", "1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let ready_file = folder.path().join("ready");
    let child = program(&server).arg("--ready-file").arg(&ready_file).stdout(Stdio::null()).spawn().unwrap();
    let _running = Running(child);
    let admin = admin_address(&ready_file).await;
    let metrics = async |line: &str| {
        eventually(line, async || get(admin, "/metrics").lines().any(|found| found == line)).await;
    };
    metrics("session_store_reachable 1").await;
    metrics("session_store_sessions 220").await;
    metrics("session_store_tombstones 30").await;
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));
    server.kill();
    metrics("session_store_reachable 0").await;
    eventually("degraded", async || get(admin, "/readyz").contains("degraded")).await;
    server.launch();
    metrics("session_store_reachable 1").await;
    eventually("ready again", async || get(admin, "/readyz").contains("\"ready\"")).await;
}

fn output(command: &mut Command, stdin: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The JSON that the command printed last.
#[track_caller]
fn report(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test]
async fn a_session_is_inspected_and_revoked_by_id_or_cookie() {
    if !available("a_session_is_inspected_and_revoked_by_id_or_cookie") {
        return;
    }
    let server = RedisServer::start();
    let store = open_redis(patient(&server), Policy::default()).await;
    let token = SessionToken::generate();
    let id = token.id();
    store.apply(&id, session_store::Expect::Absent, &[Change::set("user", "jane")]).await.unwrap();

    let seen = output(program(&server).args(["inspect", &id.to_string()]), "");
    assert!(!String::from_utf8_lossy(&seen.stdout).contains("jane"), "values are hidden");
    let seen = report(&seen);
    assert_eq!(seen["state"], "live");
    assert_eq!(seen["fields"]["user"]["bytes"], 4);
    let idle_ms = u64::try_from(Policy::default().idle_timeout.as_millis()).unwrap();
    assert_eq!(seen["expires_at_ms"].as_u64().unwrap(), seen["last_seen_ms"].as_u64().unwrap() + idle_ms);

    let by_cookie =
        output(program(&server).args(["inspect", "-", "values"]), &format!("{}\n", token.expose()));
    assert_eq!(report(&by_cookie)["fields"]["user"], "jane");

    let revoked = output(program(&server).arg("revoke"), &token.expose());
    let printed = [&revoked.stdout[..], &revoked.stderr[..]].concat();
    assert!(!String::from_utf8_lossy(&printed).contains(&token.expose()), "the cookie is not repeated");
    assert_eq!(report(&revoked)["revoked"], true);
    assert_eq!(load(&store, &id).await, None);
    assert_eq!(report(&output(program(&server).arg("revoke"), &token.expose()))["revoked"], false);
    assert_eq!(report(&output(program(&server).args(["inspect", &id.to_string()]), ""))["state"], "ended");
    let unknown = SessionToken::generate().id().to_string();
    assert_eq!(report(&output(program(&server).args(["inspect", &unknown]), ""))["state"], "unknown");
    assert!(!output(program(&server).args(["revoke", "nonsense"]), "").status.success());
}

#[tokio::test]
async fn commands_give_up_when_there_is_no_store() {
    if !available("commands_give_up_when_there_is_no_store") {
        return;
    }
    let server = RedisServer::not_started();
    let id = SessionToken::generate().id().to_string();
    let mut command = program(&server);
    let waiting = tokio::task::spawn_blocking(move || output(command.args(["revoke", &id]), ""));
    let output = tokio::time::timeout(PATIENCE + Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
