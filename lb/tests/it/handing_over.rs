//! A new process takes over from the running one, under load and with everything that can go wrong.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::authority::Authority;
use crate::backend::Backend;
use crate::client::{get, request, send};
use crate::load::Load;
use crate::process::{Lb, PATIENCE, Setup, eventually};
use crate::upgrading;

/// Both processes have the same settings; only the number of workers differs.
fn setup(backends: &[&Backend], folder: &Path) -> Setup {
    Setup::new(backends)
        .with("handover.socket", folder.join("handover").to_str().unwrap())
        .with("handover.ready_timeout_ms", "2000")
        .with("shutdown.lame_duck_ms", "600")
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_the_process_was_replaced() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&[&one, &two], folder.path());
    let mut running = setup.clone().start(2).await;
    let (http, admin) = (running.http, running.admin);
    let load = Load::start(http).await;
    load.more(100).await;
    // More workers than sockets, fewer, and as before.
    for workers in ["3", "1", "2"] {
        let new = setup.clone().with("service.workers", workers).start(2).await;
        assert_eq!((new.http, new.admin), (http, admin));
        assert_eq!(get(admin, "/readyz").await.status, 200);
        load.more(100).await;
        assert!(running.ended().await);
        assert!(running.log().contains("handed over: draining"), "{}", running.log());
        load.more(100).await;
        running = new;
    }
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_a_hand_over_fails_requests() {
    let backend = Backend::start("app-1");
    let first = Setup::new(&[&backend]).start(1).await;
    let setup = Setup::new(&[&backend]).with("server.listen", &first.http.to_string());
    let load = Load::start(first.http).await;
    load.more(100).await;
    drop(first);
    let second = setup.start(1).await;
    load.more(50).await;
    let (_, failures) = load.end().await;
    assert!(!failures.is_empty(), "this test could not see a lost request");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_ends_where_it_began() {
    let backend = Backend::start("app-1");
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&[&backend], folder.path());
    let mut old = setup.clone().start(1).await;
    let http = old.http;
    let slow = tokio::spawn(async move { get(http, "/slow/2500").await });
    let mut kept = crate::client::Client::connect(http).await;
    kept.send(request("GET /", &[], "")).await.unwrap();
    eventually("the slow one is there", || backend.state.seen("/slow/2500") == 1).await;
    let new = setup.start(1).await;
    // A connection that was kept is served on, and told to come back on another.
    let answer = kept.send(request("GET /", &[], "")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, "close"));
    // New ones are the new process's from now on.
    assert_eq!(get(http, "/").await.header("connection"), "");
    assert_eq!(new.metric("lb_connections_accepted_total", "").await, 1.0);
    assert_eq!(slow.await.unwrap().text(), "slow");
    assert!(old.ended().await);
    assert_eq!(send(http, "POST /echo", &[], "still here").await.status, 200);
}

/// What a taker that fails leaves behind: the old process, serving as if nothing had been.
async fn serves_on(old: &mut Lb, load: Load) {
    load.more(220).await;
    assert!(old.is_alive());
    assert!(!old.log().contains("draining"), "{}", old.log());
    load.end_without_failure().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_healthy_backends_does_not_take_over() {
    let backend = Backend::start("app-1");
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&[&backend], folder.path());
    let mut old = setup.clone().start(1).await;
    let load = Load::start(old.http).await;
    load.more(50).await;
    let mut new = setup.with("discovery.static", "[\"127.0.0.1:1\"]").spawn_with("");
    assert!(!new.ended().await);
    assert!(new.log().contains("not ready to take over within 2s"), "{}", new.log());
    serves_on(&mut old, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_or_refused_on_the_way_changes_nothing() {
    let backend = Backend::start("app-1");
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&[&backend], folder.path());
    let mut old = setup.clone().start(1).await;
    let load = Load::start(old.http).await;
    // It cannot get ready, so there is time.
    let nowhere = setup.clone().with("discovery.static", "[\"127.0.0.1:1\"]");
    let mut killed = nowhere.clone().spawn_with("");
    eventually("it takes over", || killed.log().contains("taking over")).await;
    let mut second = nowhere.clone().spawn_with("");
    assert!(!second.ended().await);
    assert!(second.log().contains("another process is taking over"), "{}", second.log());
    killed.signal(Signal::SIGKILL);
    killed.ended().await;
    let bad = nowhere.with("handover.socket", "/no/such/folder/handover");
    assert!(!bad.spawn_with("").ended().await);
    serves_on(&mut old, load).await;
    // And after all that, one that can take over does.
    let new = setup.start(1).await;
    assert!(old.ended().await);
    assert_eq!(get(new.http, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_no_obstacle() {
    let backend = Backend::start("app-1");
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&[&backend], folder.path());
    let mut killed = setup.clone().start(1).await;
    killed.signal(Signal::SIGKILL);
    killed.ended().await;
    assert!(folder.path().join("handover").exists(), "a stale socket file");
    let mut next = setup.start(1).await;
    assert_eq!(get(next.http, "/").await.status, 200);
    next.signal(Signal::SIGTERM);
    assert!(next.ended().await);
    assert!(!folder.path().join("handover").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_idles_through_it_is_not_cut_early() {
    let backend = Backend::start("app-1");
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&[&backend], folder.path());
    let mut old = setup.clone().start(1).await;
    let mut idle = crate::client::Client::connect(old.http).await;
    idle.send(request("GET /", &[], "")).await.unwrap();
    let _new = setup.start(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!idle.is_closed(), "closed within the lame-duck time");
    eventually("it is closed at its end", || idle.is_closed()).await;
    assert!(old.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_lasts_to_the_drain_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::of(&[upgrading::echo().await])
        .with("handover.socket", folder.path().join("handover").to_str().unwrap())
        .with("shutdown.lame_duck_ms", "100")
        .with("shutdown.drain_deadline_ms", "2000");
    let mut old = setup.clone().start(1).await;
    let http = old.http;
    let mut socket = upgrading::open(TcpStream::connect(http).await.unwrap()).await;
    upgrading::talk(&mut socket, "before").await;
    let new = setup.start(1).await;
    eventually("it finishes", || old.log().contains("finishing what is in flight")).await;
    upgrading::talk(&mut socket, "in the old process").await;
    let mut next = upgrading::open(TcpStream::connect(http).await.unwrap()).await;
    upgrading::talk(&mut next, "in the new one").await;
    assert_eq!(new.metric("lb_tunnels_opened_total", "").await, 1.0);
    let ended = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it is cut at the deadline");
    assert!(!matches!(ended, Some(Ok(Message::Text(_)))), "{ended:?}");
    assert!(old.ended().await);
    upgrading::talk(&mut next, "and on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listeners_of_tls_are_handed_over_too() {
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let folder = tempfile::tempdir().unwrap();
    let setup = setup(&[&backend], folder.path()).secure(&authority, &["site"]);
    let mut old = setup.clone().start(1).await;
    let client = authority.client(&["http/1.1"], rustls::ALL_VERSIONS);
    let load = Load::start_over_tls(old.bound["https"], client).await;
    load.more(80).await;
    let new = setup.start(1).await;
    assert_eq!(new.bound, old.bound);
    load.more(80).await;
    assert!(old.ended().await);
    load.more(80).await;
    load.end_without_failure().await;
}
