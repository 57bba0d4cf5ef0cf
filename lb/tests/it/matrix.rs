//! Real clients over every version that they speak: curl and nghttp.

use std::process::Command;

use crate::authority::Authority;
use crate::backend::Backend;
use crate::process::{Lb, Setup};
use crate::tools::{output, tool};

async fn start(backend: &Backend, authority: &Authority) -> Lb {
    authority.issue("site", &["fitness.example.com"]);
    Setup::new(&[backend])
        .secure(authority, &["site"])
        .with("server.proxy_protocol", "accept")
        .with("server.proxy_protocol_from", r#"["127.0.0.1"]"#)
        .start(1)
        .await
}

/// How each version is asked for, and what curl then says it spoke.
const VERSIONS: [(&str, &[&str], &str); 5] = [
    ("http", &["--http1.0"], "1"),
    ("http", &["--http1.1"], "1.1"),
    ("http", &["--http2-prior-knowledge"], "2"),
    ("https", &["--http1.1"], "1.1"),
    ("https", &["--http2"], "2"),
];

/// Path, further arguments, what the body is (or ends with), with curl's own `%{http_code}` behind it.
const CASES: [(&str, &[&str], &str); 9] = [
    ("/hello", &[], "hello 200"),
    ("/status/404", &[], " 404"),
    ("/count", &["--data-binary", "0123456789"], "10 200"),
    ("/count", &["--data-binary", "0123456789", "--header", "expect: 100-continue"], "10 200"),
    ("/hello", &["--head"], "\r\n\r\n 200"),
    ("/chunks/5", &["--output", "/dev/null"], " 200"),
    ("/unmodified", &[], " 304"),
    ("/echo", &["--haproxy-protocol", "--haproxy-clientip", "192.0.2.9"], "body:  200"),
    ("/hello", &["--request", "OPTIONS"], "hello 200"),
];

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_the_same_over_every_version() {
    let Some(curl) = tool("curl") else { return };
    let curl = || again(&curl);
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    let lb = start(&backend, &authority).await;
    let mut done = 0;
    for (scheme, flags, spoken) in VERSIONS {
        for (path, arguments, expected) in CASES {
            let port = if scheme == "http" { lb.http.port() } else { lb.bound["https"].port() };
            let mut command = curl();
            command
                .args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
                .arg(authority.ca())
                .args(["--resolve", &format!("fitness.example.com:{port}:127.0.0.1")])
                .args(["--write-out", " %{http_code} %{http_version}"])
                .args(flags)
                .args(arguments)
                .arg(format!("{scheme}://fitness.example.com:{port}{path}"));
            let got = output(command).await;
            let expected = format!("{expected} {spoken}");
            assert!(
                got.ends_with(&expected),
                "{scheme} {flags:?} {path} {arguments:?}: {got:?} {expected:?}"
            );
            if path == "/echo" {
                assert!(got.contains("\nx-forwarded-for: 192.0.2.9\n"), "{got}");
            }
            done += 1;
        }
    }
    println!("curl: {done} of {} as expected", VERSIONS.len() * CASES.len());
}

/// The same command once more.
fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args()).env_clear();
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn nghttp_multiplexes_uploads_and_sees_trailers() {
    let Some(nghttp) = tool("nghttp") else { return };
    let (backend, authority) = (Backend::start("app-1"), Authority::new());
    let lb = start(&backend, &authority).await;
    let upload = authority.path("upload");
    std::fs::write(&upload, vec![b'x'; 3_000_000]).unwrap();
    let upload = upload.to_str().unwrap();
    let urls = [format!("http://{}", lb.http), format!("https://{}", lb.bound["https"])];
    let cases: [(&[&str], &str, &str); 4] = [
        (&["--multiply=20"], "/hello", "hello"),
        (&["--data", upload], "/count", "3000000"),
        (&["--header", "te: trailers", "--verbose"], "/trailers", "x-check: sum"),
        (&["--expect-continue", "--data", upload], "/count", "3000000"),
    ];
    let mut done = 0;
    for url in &urls {
        for (arguments, path, expected) in cases {
            let mut command = again(&nghttp);
            command.args(["--timeout=10", "--header", ":authority: fitness.example.com"]);
            command.args(arguments).arg(format!("{url}{path}"));
            let got = output(command).await;
            assert!(got.contains(expected), "{url}{path} {arguments:?}: {got}");
            done += 1;
        }
    }
    println!("nghttp: {done} of {} as expected", urls.len() * cases.len());
}
