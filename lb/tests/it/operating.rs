//! What people and programs are told, and what operators may do.

use serde_json::Value;

use crate::backend::Backend;
use crate::client::{self, get, send};
use crate::peers;
use crate::process::{Lb, PATIENCE, Setup, eventually};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn stats(lb: &Lb) -> Value {
    let answer = get(lb.admin, "/stats.json").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// The backend of a name in the first pool.
fn backend<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let all = stats["pools"][0]["backends"].as_array().unwrap();
    all.iter().find(|backend| backend["name"] == name).unwrap_or_else(|| panic!("no {name} in {stats}"))
}

/// Waits until the stats satisfy a condition.
async fn wait(lb: &Lb, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let started = std::time::Instant::now();
    loop {
        let stats = stats(lb).await;
        if condition(&stats) {
            return stats;
        }
        assert!(started.elapsed() < PATIENCE, "never: {what}\n{stats:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn stats_count_what_happened() {
    let (a, mut b) = (Backend::start("a"), Backend::start("b"));
    let lb = Setup::new(&[&a, &b]).with("sticky.mode", "off").start(2).await;
    for _ in 0..10 {
        assert_eq!(get(lb.http, "/size/1000").await.status, 200);
    }
    assert_eq!(get(lb.http, "/status/503").await.status, 503);
    assert_eq!(send(lb.http, "POST /count", &[], "12345").await.text(), "5");
    assert_eq!(
        client::status_of(&client::raw(lb.http, b"GET / HTTP/1.1\r\n\r\n", PATIENCE).await.unwrap()),
        400
    );
    let now = wait(&lb, "a sample", |stats| stats["recent"]["requests"].as_u64() > Some(0)).await;
    assert_eq!(now["totals"]["requests"], 13);
    assert_eq!(now["totals"]["answers"]["2xx"], 11);
    assert_eq!(now["totals"]["answers"]["5xx"], 1);
    assert_eq!(now["totals"]["own_answers"]["host-count"], 1, "{}", now["totals"]["own_answers"]);
    assert_eq!(now["totals"]["errors"], 1);
    assert_eq!((&now["totals"]["bytes_in"], &now["totals"]["in_flight"]), (&5.into(), &0.into()));
    assert_eq!(now["protocols"]["HTTP/1.1"], 13);
    let served: u64 = ["a", "b"].map(|name| backend(&now, name)["requests"].as_u64().unwrap()).iter().sum();
    assert_eq!(served, 12);
    assert!(backend(&now, "a")["latency"]["p99_ms"].as_f64().unwrap() > 0.0);
    b.kill();
    let now = wait(&lb, "b is down", |stats| backend(stats, "b")["state"] == "down").await;
    assert!(backend(&now, "b")["why"].as_str().unwrap().contains("failed checks"), "{now:#}");
    assert_eq!((&backend(&now, "b")["times_down"], &backend(&now, "a")["state"]), (&1.into(), &"up".into()));
}

#[tokio::test]
async fn the_csv_is_haproxys_to_the_letter_of_its_header() {
    let (a, mut b) = (Backend::start("a"), Backend::start("b"));
    let lb = Setup::new(&[&a, &b]).start(2).await;
    for _ in 0..6 {
        assert_eq!(get(lb.http, "/").await.status, 200);
    }
    b.kill();
    wait(&lb, "b is down", |stats| backend(stats, "b")["state"] == "down").await;
    let ours = get(lb.admin, "/stats;csv").await.text();
    assert_eq!(get(lb.admin, "/stats.csv").await.text().lines().next(), ours.lines().next());
    let (header, rows) = ours.split_once('\n').unwrap();
    let columns: Vec<&str> = header.trim_start_matches("# ").split(',').collect();
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == columns.len()), "{ours}");
    let cell = |server: &str, column: &str| {
        let at = columns.iter().position(|known| *known == column).unwrap();
        rows.iter().find(|row| row[1] == server).unwrap_or_else(|| panic!("{server} in {ours}"))[at]
            .to_owned()
    };
    assert_eq!((cell("FRONTEND", "status"), cell("FRONTEND", "req_tot")), ("OPEN".into(), "6".into()));
    assert_eq!((cell("BACKEND", "status"), cell("BACKEND", "act")), ("UP".into(), "1".into()));
    assert_eq!((cell("BACKEND", "hrsp_2xx"), cell("BACKEND", "stot")), ("6".into(), "6".into()));
    assert_eq!((cell("a", "status"), cell("a", "type")), ("UP".into(), "2".into()));
    assert_eq!((cell("b", "status"), cell("b", "chkdown")), ("DOWN".into(), "1".into()));
    if let Some(real) = peers::haproxy_csv() {
        assert_eq!(header, real.lines().next().unwrap(), "haproxy's header line");
        // Where both fill a column, both fill it with a number or with words.
        for row in real.lines().skip(1) {
            let theirs: Vec<&str> = row.split(',').collect();
            let server = if theirs[0] == "stats" || theirs[1] == "b" { continue } else { theirs[1] };
            for (column, their) in columns.iter().zip(&theirs).filter(|(_, cell)| !cell.is_empty()) {
                let our = cell(server, column);
                let number = |text: &str| text.parse::<f64>().is_ok();
                assert!(
                    our.is_empty() || number(&our) == number(their),
                    "{server} {column}: {our} and {their}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_access_log_tells_of_each_request_and_survives_rotation() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let lb = Setup::new(&[&a, &b])
        .with("access_log.format", "json")
        .with("access_log.file", path.to_str().unwrap())
        .start(2)
        .await;
    let hostile = [("user-agent", "\"}\u{7f}"), ("x-request-id", "request-0001")];
    let hostile = &hostile.map(|(name, value)| (name, value.trim_end_matches('\u{7f}')));
    assert_eq!(send(lb.http, "POST /count?a=%0Ab%22", hostile, "12345").await.status, 200);
    assert_eq!(get(lb.http, "/reset").await.status, 502);
    client::raw(lb.http, b"GET / HTTP/1.1\r\n\r\n", PATIENCE).await.unwrap();
    let _ = client::raw(lb.http, b"GET /cut/50000 HTTP/1.1\r\nhost: x\r\n\r\n", PATIENCE).await;
    eventually("four lines", || std::fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 4))
        .await;
    let lines: Vec<Value> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    // Workers hand over when they like, so the order is theirs.
    let of = |target: &str| {
        lines.iter().find(|line| line["target"].as_str().is_some_and(|it| it.starts_with(target)))
    };
    let all = ["/count", "/reset", "/cut"]
        .map(|target| of(target).unwrap_or_else(|| panic!("{target} in {lines:#?}")));
    let ([posted, reset, cut], refused) = (all, lines.iter().find(|line| line["target"] == "/").unwrap());
    assert_eq!((&posted["target"], &posted["bytes_in"]), (&"/count?a=%0Ab%22".into(), &5.into()));
    assert_eq!((&posted["user_agent"], &posted["request_id"]), (&"\"}".into(), &"request-0001".into()));
    assert_eq!((&posted["termination"], &posted["reason"]), (&"--".into(), &"complete".into()));
    assert!(["a", "b"].contains(&posted["backend"].as_str().unwrap()));
    assert_eq!(
        (&reset["termination"], &reset["status"], &reset["reason"]),
        (&"SH".into(), &502.into(), &"reset".into())
    );
    assert!(reset["attempts"].as_u64().unwrap() >= 2, "{reset}");
    assert_eq!((&refused["termination"], &refused["address"]), (&"PR".into(), &Value::Null));
    assert_eq!((&cut["termination"], &cut["reason"]), (&"SD".into(), &"broken-off".into()), "{cut}");
    let old = folder.path().join("access.log.1");
    std::fs::rename(&path, &old).unwrap();
    lb.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("a new file", || path.exists()).await;
    assert_eq!(get(lb.http, "/").await.status, 200);
    eventually("the fifth line", || std::fs::read_to_string(&path).unwrap().lines().count() == 1).await;
    assert_eq!(std::fs::read_to_string(&old).unwrap().lines().count(), 4);
}

#[tokio::test]
async fn haproxys_own_tool_reads_our_log() {
    let a = Backend::start("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut lb = Setup::new(&[&a])
        .with("access_log.format", "haproxy")
        .with("access_log.file", path.to_str().unwrap())
        .with("service.instance", "lb one")
        .start(1)
        .await;
    for _ in 0..7 {
        assert_eq!(get(lb.http, "/a?b=%22").await.status, 200);
    }
    assert_eq!(get(lb.http, "/status/404").await.status, 404);
    // What was not handed over yet is written at the end.
    lb.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(lb.ended().await);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 8, "{text}");
    assert!(text.contains(r#" default/a 0/0/"#) && text.contains(r#""GET /a?b=%22 HTTP/1.1""#), "{text}");
    if let Some((servers, errors)) = peers::halog(&text, "-srv") {
        assert!(servers.contains("default/a 0 7 0 1 0 0 8 8 100.0"), "{servers}");
        assert!(errors.contains("8 lines in, 1 lines out, 0 parsing errors"), "{errors}");
    }
}

/// An order with the token: its status and JSON.
async fn order(lb: &Lb, line: &str, body: &str) -> (u16, Value) {
    let token = format!("Bearer {TOKEN}");
    let headers = [("host", "localhost"), ("authorization", token.as_str())];
    let answer = send(lb.admin, line, &headers, body.to_owned()).await;
    let json = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()));
    (answer.status.as_u16(), json)
}

#[tokio::test]
async fn operators_take_backends_out_and_back_and_everything_needs_the_token() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let lb = Setup::new(&[&a, &b]).with("admin.token", TOKEN).start(2).await;
    let token = format!("Bearer {TOKEN}");
    let with = [("host", "localhost"), ("authorization", token.as_str())];
    let state = async |name: &str| backend(&stats(&lb).await, name)["state"].as_str().unwrap().to_owned();
    let base = "/admin/pools/default/backends";

    let drain = format!("POST {base}/a/drain");
    for (headers, status) in [
        (&[("host", "localhost")][..], 401),
        (&[("host", "evil.example"), with[1]], 403),
        (&[with[0], with[1], ("origin", "http://localhost")], 403),
        (&[with[0], ("authorization", "Bearer 0123456789abcdef")], 401),
    ] {
        assert_eq!(send(lb.admin, &drain, headers, "").await.status, status, "{headers:?}");
    }
    assert_eq!(state("a").await, "up");

    let ask = async |line: &str, body: &str| {
        let answer = send(lb.admin, line, &with, body.to_owned()).await;
        let json: Value =
            serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()));
        (answer.status.as_u16(), json)
    };
    assert_eq!(ask(&drain, "").await.1["state"], "draining");
    assert_eq!(state("a").await, "draining");
    let before = a.state.total();
    for _ in 0..6 {
        assert_eq!(get(lb.http, "/").await.header("x-served-by"), "b");
    }
    assert_eq!(a.state.total(), before);
    let now = stats(&lb).await;
    assert_eq!(backend(&now, "a")["asked"]["what"], "drain");
    assert_eq!(
        (&backend(&now, "a")["cause"], &backend(&now, "b")["cause"]),
        (&"operator".into(), &"checks".into())
    );
    assert_eq!(ask(&format!("PUT {base}/{}/ready", a.address), "").await.1["state"], "up");
    assert_eq!(ask(&format!("POST {base}/a/weight"), r#"{"weight": 7}"#).await.0, 200);
    assert_eq!(ask(&format!("POST {base}/a/limit"), r#"{"limit": 9}"#).await.0, 200);
    let now = stats(&lb).await;
    assert_eq!((&backend(&now, "a")["weight"], &backend(&now, "a")["limit"]), (&7.into(), &9.into()));
    assert_eq!(ask(&format!("POST {base}/b/eject"), r#"{"seconds": 60}"#).await.1["state"], "ejected");
    assert!(backend(&stats(&lb).await, "b")["until_s"].as_u64() > Some(50));
    assert_eq!(ask(&format!("POST {base}/b/ready"), "").await.1["state"], "up");
    assert_eq!(ask(&format!("POST {base}/b/maintenance"), "").await.1["state"], "maintenance");
    assert!(!lb.log().contains(TOKEN), "the token is in the log");
    assert!(lb.log().contains("operator: drain") && lb.log().contains("admin request"), "{}", lb.log());
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let a = Backend::start("a");
    let lb = Setup::new(&[&a]).start(1).await;
    let root = get(lb.admin, "/").await;
    assert_eq!((root.status.as_u16(), root.header("location")), (307, "/stats"));
    let page = get(lb.admin, "/stats").await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for path in ["/stats", "/stats/page.css", "/stats/page.js", "/stats/icon.svg"] {
        let answer = get(lb.admin, path).await;
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text().replace("http://www.w3.org/2000/svg", "");
        assert!(
            !text.contains("http://") && !text.contains("https://") && !text.contains(" style="),
            "{path}"
        );
    }
}

#[tokio::test]
async fn backends_are_added_and_removed_and_what_is_no_order_is_a_problem() {
    let (a, b, c) = (Backend::start("a"), Backend::start("b"), Backend::start("c"));
    let lb = Setup::new(&[&a, &b]).with("admin.token", TOKEN).start(2).await;
    let base = "/admin/pools/default/backends";
    let ask = async |line: &str, body: &str| order(&lb, line, body).await;
    let (status, json) = ask(&format!("POST {base}"), &format!(r#"{{"address": "{}"}}"#, c.address)).await;
    assert_eq!((status, &json["address"]), (201, &c.address.to_string().into()), "{json}");
    wait(&lb, "c is up", |stats| {
        stats["pools"][0]["backends"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["name"] == "c" && it["state"] == "up")
    })
    .await;
    assert_eq!(ask(&format!("DELETE {base}/c"), "").await.1["state"], "removed");
    for (line, body, status, reason) in [
        (format!("POST {base}/nobody/drain"), "", 404, "no-backend"),
        ("POST /admin/pools/none/backends/a/drain".to_owned(), "", 404, "no-pool"),
        (format!("POST {base}/a/explode"), "", 404, "no-action"),
        (format!("POST {base}/a/weight"), "{}", 400, "bad-body"),
        (format!("POST {base}/a/weight"), r#"{"weight": 1000}"#, 400, "weight"),
        (format!("POST {base}/a/limit"), r#"{"limit": 0}"#, 400, "limit"),
        (format!("DELETE {base}/a"), "", 409, "discovered"),
    ] {
        let (got, json) = ask(&line, body).await;
        assert_eq!((got, &json["reason"]), (status, &reason.into()), "{line}: {json}");
    }
    let pools: Value = serde_json::from_slice(&get(lb.admin, "/admin/pools").await.body).unwrap();
    assert_eq!(pools["pools"][0]["backends"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn explain_names_the_backend_and_why_and_nobody_logs_the_cookie() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml");
    let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    std::fs::write(&keys, format!("[[key]]\nid = 1\nstate = \"issue\"\nsecret = \"{secret}\"\n")).unwrap();
    let lb = Setup::new(&[&a, &b])
        .with("sticky.mode", "cookie")
        .with("sticky.keys_file", keys.to_str().unwrap())
        .with("log.filter", "trace")
        .start(2)
        .await;
    let answer = get(lb.http, "/").await;
    let (cookie, own) = (answer.route().unwrap(), answer.header("x-served-by").to_owned());
    let explain = async |query: &str| {
        let answer = get(lb.admin, &format!("/admin/explain?{query}")).await;
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status.as_u16(), json)
    };
    let (status, json) = explain(&format!("host=x&path=/&cookie=route%3D{cookie}")).await;
    assert_eq!((status, &json["pick"]["backend"]), (200, &own.as_str().into()), "{json}");
    assert_eq!((&json["pick"]["why"], &json["affinity"]), (&"sticky".into(), &"kept".into()), "{json}");
    assert_eq!(json["candidates"].as_array().unwrap().len(), 2);
    let (_, json) = explain("host=x&method=POST").await;
    assert_eq!((&json["affinity"], &json["method"]), (&"absent".into(), &"POST".into()), "{json}");
    assert_eq!(explain(&format!("nonsense={cookie}")).await.0, 400);
    assert!(!lb.log().contains(&cookie), "the cookie is in the log");
}
