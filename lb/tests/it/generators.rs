//! Load generators and attackers of others: wrk, h2load and slowhttptest with its three attacks.

use std::process::Command;

use crate::authority::Authority;
use crate::backend::Backend;
use crate::hostile::Good;
use crate::process::{Lb, Setup, sum};
use crate::tools::{output, tool};

/// Connections of each attack.
const ATTACKERS: u32 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn wrk_gets_nothing_but_2xx() {
    let Some(mut wrk) = tool("wrk") else { return };
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend]).start(1).await;
    wrk.args(["--threads", "1", "--connections", "16", "--duration", "2s", "--timeout", "20s"]);
    wrk.arg(format!("http://{}/hello", lb.http));
    let said = output(wrk).await;
    let requests = number_before(&said, " requests in ");
    assert!(requests > 100, "{said}");
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    println!("wrk: {requests} of {requests} requests with 2xx");
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_succeeds_with_every_stream() {
    let Some(h2load) = tool("h2load") else { return };
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    authority.issue("site", &["fitness.example.com"]);
    let lb = Setup::new(&[&backend]).secure(&authority, &["site"]).start(1).await;
    for url in [format!("https://{}/hello", lb.bound["https"]), format!("http://{}/hello", lb.http)] {
        let mut command = Command::new(h2load.get_program());
        command.args(h2load.get_args()).env_clear();
        command.args(["--requests=2000", "--clients=4", "--max-concurrent-streams=20"]).arg(&url);
        let said = output(command).await;
        assert!(said.contains("2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{url}: {said}");
        assert!(said.contains("status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{url}: {said}");
        println!("h2load: 2000 of 2000 requests over {} with 2xx", url.split(':').next().unwrap_or_default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_are_cut_and_nobody_notices() {
    // One more header line a second, for ever.
    attack(&["-H", "-i", "1", "-x", "8"], "/hello", "header").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_are_cut_and_nobody_notices() {
    attack(&["-B", "-i", "1", "-s", "8192", "-x", "8"], "/count", "slow-upload").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_are_cut_and_nobody_notices() {
    // A window of some bytes, and five of them read each second: to the balancer it takes nothing. What it had received
    // before the end it goes on reading for minutes, so that it does not see the end itself.
    attack(&["-l", "10", "-X", "-w", "16", "-y", "64", "-n", "1", "-z", "5"], "/size/30000000", "write")
        .await;
}

/// Runs one attack to its end: the balancer has ended every connection for the reason `cut`, its own probes and a good
/// client beside it were served all the time.
#[allow(clippy::print_stdout, reason = "counts are a part of the result")]
async fn attack(arguments: &[&str], path: &str, cut: &str) {
    let Some(mut slow) = tool("slowhttptest") else { return };
    let backend = Backend::start("app-1");
    let lb = Setup::new(&[&backend])
        .with("server.header_timeout_ms", "2000")
        .with("server.first_byte_timeout_ms", "2000")
        .with("limits.rate_grace_ms", "2000")
        .with("server.write_timeout_ms", "2000")
        .start(1)
        .await;
    let good = Good::start(&lb);
    let connections = ATTACKERS.to_string();
    slow.args(["-l", "60"]).args(arguments).args(["-c", &connections, "-r", &connections, "-p", "20", "-u"]);
    slow.arg(format!("http://{}{path}", lb.http));
    let said = output(slow).await;
    ended(&lb, cut).await;
    let (sent, failed) = good.report().await;
    assert!(cut == "write" || said.contains("No open connections left"), "{said}");
    assert!(said.contains("service available") && !said.contains("NO\n"), "{said}");
    assert!(sent > 20 && failed == 0, "{failed} of {sent} failed beside it");
    println!(
        "slowhttptest {}: {ATTACKERS} of {ATTACKERS} connections cut ({cut}), {sent} requests beside it",
        arguments.join(" ")
    );
}

async fn ended(lb: &Lb, cut: &str) {
    let label = format!("reason=\"{cut}\"");
    lb.wait("all attackers are cut", |metrics| {
        sum(metrics, "lb_connections_cut_total", &label) >= f64::from(ATTACKERS)
    })
    .await;
}

/// The number that ends before `words`.
fn number_before(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().unwrap_or_default();
    before.rsplit(char::is_whitespace).next().and_then(|word| word.parse().ok()).unwrap_or_default()
}
