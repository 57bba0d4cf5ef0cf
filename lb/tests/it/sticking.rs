//! The `route` cookie between two balancers that share nothing but a key ring.

use nix::sys::signal::Signal;

use crate::backend::Backend;
use crate::client::{Answer, get, send};
use crate::process::{Lb, Setup, sum};

const KEY_ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const KEY_TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn ring(one: &str, two: &str) -> String {
    let entry = |id: u8, state: &str, secret: &str| {
        if state.is_empty() {
            String::new()
        } else {
            format!("[[key]]\nid = {id}\nstate = '{state}'\nsecret = '{secret}'\n")
        }
    };
    entry(1, one, KEY_ONE) + &entry(2, two, KEY_TWO)
}

/// A ring in a file of its own.
pub(crate) struct Keys(tempfile::NamedTempFile);

impl Keys {
    pub(crate) fn new(one: &str, two: &str) -> Self {
        let keys = Self(tempfile::NamedTempFile::new().unwrap());
        keys.set(one, two);
        keys
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn set(&self, one: &str, two: &str) {
        std::fs::write(self.0.path(), ring(one, two)).unwrap();
    }

    async fn start(&self, backends: &[&Backend], ready: usize) -> Lb {
        Setup::new(backends)
            .with("sticky.mode", "cookie")
            .with("sticky.keys_file", self.path())
            .start(ready)
            .await
    }
}

async fn with_cookie(lb: &Lb, cookie: &str) -> Answer {
    send(lb.http, "GET /echo", &[("cookie", &format!("a=b; route={cookie}; sid=c"))], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_balancers_keep_a_client_where_it_is() {
    let (one, two, three) = (Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3"));
    let keys = Keys::new("issue", "");
    let lbs = [keys.start(&[&one, &two, &three], 3).await, keys.start(&[&three, &one, &two], 3).await];
    let first = get(lbs[0].http, "/").await;
    let (home, cookie) = (first.header("x-served-by").to_owned(), first.route().unwrap());
    let line = first.header("set-cookie");
    assert!(line.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{line}");
    for nth in 0..12 {
        let answer = with_cookie(&lbs[nth % 2], &cookie).await;
        assert_eq!((answer.header("x-served-by"), answer.route()), (home.as_str(), None));
        assert!(answer.text().contains("\ncookie: a=b; sid=c\n"), "{}", answer.text());
    }
    assert_eq!(lbs[1].metric("lb_cookies_total", "outcome=\"kept\"").await, 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_moves_when_its_backend_dies_or_restarts_and_stays_while_it_drains() {
    let (one, mut two) = (Backend::start("app-1"), Backend::start("app-2"));
    let keys = Keys::new("issue", "");
    let lb = keys.start(&[&one, &two], 2).await;
    let mut answer = get(lb.http, "/").await;
    while answer.header("x-served-by") != "app-2" {
        answer = get(lb.http, "/").await;
    }
    let cookie = answer.route().unwrap();
    two.health("draining");
    lb.wait("it drains", |metrics| sum(metrics, "lb_backend_state", "state=\"draining\"") == 1.0).await;
    let kept = with_cookie(&lb, &cookie).await;
    assert_eq!((kept.header("x-served-by"), kept.route()), ("app-2", None));
    two.kill();
    let moved = with_cookie(&lb, &cookie).await;
    assert_eq!((moved.status.as_u16(), moved.header("x-served-by")), (200, "app-1"));
    let new = moved.route().unwrap();
    assert_eq!(with_cookie(&lb, &new).await.route(), None);
    // Back under its old name and address, but what it remembered is gone.
    let _again = Backend::start_at("app-2", two.address, 2);
    lb.wait("it is back", |metrics| sum(metrics, "lb_backend_state", "state=\"up\"") == 2.0).await;
    assert!(with_cookie(&lb, &cookie).await.route().is_some());
    assert_eq!(lb.metric("lb_cookies_total", "outcome=\"restarted\"").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_moves_the_request_and_not_the_client() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let keys = Keys::new("issue", "");
    let lb = Setup::new(&[&one, &two])
        .with("sticky.mode", "cookie")
        .with("sticky.keys_file", keys.path())
        .with("upstream.try_timeout_ms", "200")
        .with("health.fall", "1000")
        .start(2)
        .await;
    let first = get(lb.http, "/").await;
    let (home, cookie) = (first.header("x-served-by").to_owned(), first.route().unwrap());
    let own = if home == "app-1" { &one } else { &two };
    own.freeze();
    let moved = with_cookie(&lb, &cookie).await;
    assert_ne!(moved.header("x-served-by"), home);
    assert_eq!((moved.status.as_u16(), moved.route()), (200, None));
    own.thaw();
    assert_eq!(with_cookie(&lb, &cookie).await.header("x-served-by"), home);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_cookies_are_counted_and_never_an_error() {
    let backend = Backend::start("app-1");
    let keys = Keys::new("issue", "");
    let lb = keys.start(&[&backend], 1).await;
    let good = get(lb.http, "/").await.route().unwrap();
    let flipped = format!("{}{}{}", &good[..50], if &good[50..51] == "A" { "B" } else { "A" }, &good[51..]);
    for (cookie, outcome) in [
        (flipped, "forged"),
        ("x".repeat(3_000), "wrong-size"),
        (String::new(), "wrong-size"),
        (format!("{good}; route={good}"), "duplicated"),
        ("!".repeat(good.len()), "malformed"),
    ] {
        let before = lb.metric("lb_cookies_total", &format!("outcome=\"{outcome}\"")).await;
        let answer = with_cookie(&lb, &cookie).await;
        assert_eq!(answer.status, 200);
        assert!(answer.route().is_some(), "{outcome}: a new cookie");
        assert!(!answer.text().contains("route="), "{}", answer.text());
        let counted = lb.metric("lb_cookies_total", &format!("outcome=\"{outcome}\"")).await;
        assert_eq!(counted, before + 1.0, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_answers_carry_no_cookie() {
    let backend = Backend::start("app-1");
    let lb = Keys::new("issue", "").start(&[&backend], 1).await;
    for (cache, cookie) in
        [("public", false), ("max-age=1, immutable", false), ("private", true), ("no-store", true)]
    {
        let path = format!("/cache/{}", cache.replace(", ", ","));
        assert_eq!(get(lb.http, &path).await.route().is_some(), cookie, "{cache}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_side_scheme_makes_the_cookie_secure() {
    let backend = Backend::start("app-1");
    let keys = Keys::new("issue", "");
    let lb = Setup::new(&[&backend])
        .with("sticky.mode", "cookie")
        .with("sticky.keys_file", keys.path())
        .with("server.trusted_proxies", r#"["127.0.0.1"]"#)
        .start(1)
        .await;
    let answer = send(lb.http, "GET /", &[("x-forwarded-proto", "https")], "").await;
    assert!(answer.header("set-cookie").ends_with("; Secure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_by_reload_without_losing_a_client() {
    let (one, two) = (Backend::start("app-1"), Backend::start("app-2"));
    let keys = Keys::new("issue", "");
    let lb = keys.start(&[&one, &two], 2).await;
    let first = get(lb.http, "/").await;
    let (home, cookie) = (first.header("x-served-by").to_owned(), first.route().unwrap());
    for (step, (one, two)) in [("issue", "accept"), ("accept", "issue")].into_iter().enumerate() {
        keys.set(one, two);
        lb.signal(Signal::SIGHUP);
        crate::process::eventually("the reload", || {
            lb.log().matches("configuration replaced").count() == step + 1
        })
        .await;
        let answer = with_cookie(&lb, &cookie).await;
        assert_eq!((answer.header("x-served-by"), answer.route()), (home.as_str(), None));
    }
    keys.set("retired", "issue");
    lb.signal(Signal::SIGHUP);
    crate::process::eventually("the reload", || lb.log().matches("configuration replaced").count() == 3)
        .await;
    let answer = with_cookie(&lb, &cookie).await;
    let renewed = answer.route().expect("the old key is retired");
    assert_eq!(with_cookie(&lb, &renewed).await.route(), None);
    assert_eq!(lb.metric("lb_cookies_total", "outcome=\"unknown-key\"").await, 1.0);
}

async fn table(backends: &[&Backend], key: &str) -> Lb {
    Setup::new(backends)
        .with("sticky.mode", "table")
        .with("sticky.table_key", key)
        .start(backends.len())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_keeps_clients_until_it_is_lost() {
    let (one, mut two) = (Backend::start("app-1"), Backend::start("app-2"));
    let lb = table(&[&one, &two], "cookie").await;
    let mut answer = get(lb.http, "/").await;
    while answer.header("x-served-by") != "app-2" {
        answer = get(lb.http, "/").await;
    }
    let line = answer.header("set-cookie");
    assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{line}");
    let cookie = answer.cookie("route").unwrap();
    assert_eq!(cookie.len(), 22);
    for _ in 0..8 {
        let kept = with_cookie(&lb, &cookie).await;
        assert_eq!((kept.header("x-served-by"), kept.cookie("route")), ("app-2", None));
        assert!(kept.text().contains("\ncookie: a=b; sid=c\n"), "{}", kept.text());
    }
    // Its backend dies: the entry moves, under the same cookie.
    two.kill();
    for _ in 0..3 {
        let moved = with_cookie(&lb, &cookie).await;
        assert_eq!((moved.header("x-served-by"), moved.cookie("route")), ("app-1", None));
    }
    // Another balancer knows nothing of it and does not adopt it.
    let other = table(&[&one], "cookie").await;
    let answer = with_cookie(&other, &cookie).await;
    assert!(answer.cookie("route").is_some_and(|new| new != cookie));
    assert_eq!(other.metric("lb_cookies_total", "outcome=\"unknown\"").await, 1.0);
    other.wait("it is counted", |metrics| sum(metrics, "lb_table_entries", "") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_knows_clients_by_their_address() {
    let backends = [Backend::start("app-1"), Backend::start("app-2"), Backend::start("app-3")];
    let lb = table(&backends.each_ref(), "address").await;
    let home = get(lb.http, "/").await.header("x-served-by").to_owned();
    for _ in 0..12 {
        let answer = get(lb.http, "/").await;
        assert_eq!((answer.header("x-served-by"), answer.cookie("route")), (home.as_str(), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_answers_carry_no_table_cookie_either() {
    let backend = Backend::start("app-1");
    let lb = table(&[&backend], "cookie").await;
    assert_eq!(get(lb.http, "/cache/public").await.cookie("route"), None);
    assert!(get(lb.http, "/cache/private").await.cookie("route").is_some());
}
