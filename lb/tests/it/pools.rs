//! Several pools behind one balancer, and what a reload does to them.

use nix::sys::signal::Signal;

use crate::backend::Backend;
use crate::client::{Answer, Client, get, request, send};
use crate::process::{Lb, Setup, eventually, sum};
use crate::sticking::Keys;

/// Two pools and the routes to the second.
fn two_pools(default: &Backend, api: &Backend) -> (Setup, String) {
    let file = format!(
        "[pools.api.discovery]\nstatic = ['{}']\n\
         [[routes]]\nhost = 'api.example.com'\npool = 'api'\n\
         [[routes]]\nhost = '*.example.com'\npath = '/echo/api/'\npool = 'api'\n",
        api.address
    );
    (Setup::new(&[default]), file)
}

async fn served_by(lb: &Lb, host: &str, path: &str) -> String {
    let answer = send(lb.http, &format!("GET {path}"), &[("host", host)], "").await;
    answer.header("x-served-by").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_paths_lead_to_their_pool() {
    let (web, api) = (Backend::start("web-1"), Backend::start("api-1"));
    let (setup, file) = two_pools(&web, &api);
    let lb = setup.start_ready(&file, 2).await;
    assert_eq!(served_by(&lb, "api.example.com", "/").await, "api-1");
    assert_eq!(served_by(&lb, "API.example.com:8080", "/").await, "api-1");
    assert_eq!(served_by(&lb, "www.example.com", "/echo/api/x").await, "api-1");
    assert_eq!(served_by(&lb, "www.example.com", "/echo/apis").await, "web-1");
    assert_eq!(served_by(&lb, "example.com", "/").await, "web-1");
    let answers = |pool: &str| format!("pool=\"{pool}\",backend=");
    assert_eq!(lb.metric("lb_answers_total", &answers("api")).await, 3.0);
    assert_eq!(lb.metric("lb_answers_total", &answers("default")).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_backends_harms_no_other() {
    let (web, mut api) = (Backend::start("web-1"), Backend::start("api-1"));
    let (setup, file) = two_pools(&web, &api);
    let lb = setup.start_ready(&file, 2).await;
    api.kill();
    lb.wait("it is down", |metrics| sum(metrics, "lb_backend_state", "pool=\"api\"") == 1.0).await;
    let refused = send(lb.http, "GET /", &[("host", "api.example.com")], "").await;
    assert_eq!(refused.status, 503);
    assert_eq!(served_by(&lb, "example.com", "/").await, "web-1");
    assert_eq!(get(lb.admin, "/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_of_one_pool_is_worth_nothing_in_another() {
    let (web, api) = (Backend::start("app-1"), Backend::start("app-1"));
    let keys = Keys::new("issue", "");
    let (setup, file) = two_pools(&web, &api);
    let setup = setup.with("sticky.mode", "cookie").with("sticky.keys_file", keys.path());
    let lb = setup.start_ready(&file, 2).await;
    let ask = async |host: &str, cookies: &str| -> Answer {
        send(lb.http, "GET /echo", &[("host", host), ("cookie", cookies)], "").await
    };
    let web_cookie = get(lb.http, "/").await.cookie("route").unwrap();
    let api_cookie = ask("api.example.com", "a=b").await.cookie("route-api").unwrap();
    // Each in its place; neither reaches a backend.
    let both = format!("route={web_cookie}; sid=c; route-api={api_cookie}");
    for host in ["www.example.com", "api.example.com"] {
        let answer = ask(host, &both).await;
        assert_eq!((answer.cookie("route"), answer.cookie("route-api")), (None, None));
        assert!(answer.text().contains("\ncookie: sid=c\n"), "{}", answer.text());
    }
    assert_eq!(lb.metric("lb_cookies_total", "outcome=\"kept\"").await, 2.0);
    // Under the other's name it is a forgery, although instance, generation and keys are the same.
    let replayed = ask("api.example.com", &format!("route-api={web_cookie}")).await;
    assert_eq!(replayed.status, 200);
    assert!(replayed.cookie("route-api").is_some());
    assert_eq!(lb.metric("lb_cookies_total", "outcome=\"forged\"").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_of_the_list_is_served() {
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("server.listen", r#"["127.0.0.1:0","127.0.0.2:0"]"#)
        .with("shutdown.lame_duck_ms", "10")
        .start(1)
        .await;
    let second = lb.bound["http-2"];
    assert_eq!(second.ip().to_string(), "127.0.0.2");
    for _ in 0..8 {
        assert_eq!(get(lb.http, "/").await.status, 200);
        assert_eq!(get(second, "/").await.status, 200);
    }
    let mut lb = lb;
    lb.signal(Signal::SIGTERM);
    assert!(lb.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_backends_that_stay_and_swaps_pools() {
    let (web, api, img) = (Backend::start("web-1"), Backend::start("api-1"), Backend::start("img-1"));
    let file = |path: &str, pool: &str, backend: &Backend| {
        format!(
            "[server]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\n[service]\nworkers = 1\n\
             [discovery]\nstatic = ['{}']\ninterval_ms = 50\n[health]\ninterval_ms = 100\n\
             [pools.{pool}.discovery]\nstatic = ['{}']\n[[routes]]\npath = '{path}'\npool = '{pool}'\n",
            web.address, backend.address
        )
    };
    let lb = Setup::empty().start_ready(&file("/echo", "api", &api), 2).await;
    let mut client = Client::connect(lb.http).await;
    let mut ask = async |path: &str| -> String {
        let answer = client.send(request(&format!("GET {path}"), &[], "")).await.unwrap();
        answer.header("x-served-by").to_owned()
    };
    assert_eq!(ask("/").await, "web-1");
    assert_eq!(ask("/echo").await, "api-1");
    let opened = lb.metric("lb_backend_connections_opened_total", "pool=\"default\"").await;
    std::fs::write(lb.config(), file("/size/1", "img", &img)).unwrap();
    lb.signal(Signal::SIGHUP);
    eventually("it is replaced", || lb.log().contains("configuration replaced")).await;
    // At no moment was the backend that stays anything but up, and its connection is still the same.
    assert_eq!(ask("/").await, "web-1");
    assert_eq!(ask("/echo").await, "web-1");
    let state = "pool=\"default\",backend=";
    assert_eq!(
        lb.metric("lb_backend_transitions_total", &format!("{state}\"{}\",state=\"up\"", web.address)).await,
        1.0
    );
    assert_eq!(lb.metric("lb_backend_connections_opened_total", "pool=\"default\"").await, opened);
    // The old pool is gone and the new one is looked at.
    lb.up(2).await;
    assert_eq!(ask("/size/1").await, "img-1");
    assert_eq!(lb.metric("lb_backend_state", "pool=\"api\"").await, 0.0);
    assert!(lb.log().contains("pool removed"), "{}", lb.log());
}
