//! The program under test as a black box, and a client with a cookie jar.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

const START_DEADLINE: Duration = Duration::from_secs(30);

/// One running app.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) address: String,
    process: Child,
    _folder: tempfile::TempDir,
}

/// The environment of an app that uses these servers.
pub(crate) fn environment(postgres_port: u16, database: &str) -> BTreeMap<String, String> {
    let dsn = format!("postgres://app@127.0.0.1:{postgres_port}/{database}");
    [
        ("APP_SERVER__LISTEN", "127.0.0.1:0"),
        ("APP_ADMIN__LISTEN", "127.0.0.1:0"),
        ("APP_SERVICE__INSTANCE", "app-test"),
        ("APP_DATABASE__DATA_DSN", &dsn),
        ("APP_DATABASE__CONNECT_TIMEOUT_MS", "2000"),
        ("APP_SHUTDOWN__LAME_DUCK_MS", "0"),
        ("APP_LOG__FILTER", "warn"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Runs a one-shot command of the app to its end. What it writes is a log, and logs hold no e-mail addresses.
pub(crate) fn run(arguments: &[&str], environment: &BTreeMap<String, String>) -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_app")).args(arguments).envs(environment).output()?;
    if !output.status.success() {
        bail!("app {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let written = [output.stdout, output.stderr].concat();
    let written = String::from_utf8_lossy(&written);
    assert!(!written.contains("@example.com"), "{written}");
    Ok(())
}

impl Site {
    /// Starts an app and waits until it listens.
    pub(crate) fn start(environment: &BTreeMap<String, String>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ready = folder.path().join("ready.json");
        let process = Command::new(env!("CARGO_BIN_EXE_app"))
            .arg("--ready-file")
            .arg(&ready)
            .envs(environment)
            .stdin(Stdio::null())
            .spawn()?;
        let mut site = Self { address: String::new(), process, _folder: folder };
        let deadline = Instant::now() + START_DEADLINE;
        while site.address.is_empty() {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                let bound: Value = serde_json::from_str(&text)?;
                site.address =
                    bound["http"].as_str().context("no http listener in the ready-file")?.to_owned();
            } else if Instant::now() > deadline {
                bail!("the app does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(site)
    }

    /// Waits until `/readyz` says 200.
    pub(crate) async fn ready(self) -> Result<Self> {
        eventually("the app is ready", async || {
            Client::new(&self).get("/readyz").await.is_ok_and(|answer| answer.status == StatusCode::OK)
        })
        .await;
        Ok(self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for a condition, and fails by its name.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// A refusal, with everything a refusal has.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let body = self.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert!(!self.header("x-served-by").is_empty());
        self
    }
}

/// Talks to one app as one visitor.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) cookies: BTreeMap<String, String>,
    pub(crate) extra: Vec<(&'static str, String)>,
}

impl Client {
    pub(crate) fn new(site: &Site) -> Self {
        Self { address: site.address.clone(), cookies: BTreeMap::new(), extra: Vec::new() }
    }

    /// The same visitor with one header more.
    pub(crate) fn with(&self, name: &'static str, value: impl Into<String>) -> Self {
        let mut client = self.clone();
        client.extra.push((name, value.into()));
        client
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None, String::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some("application/json"), body.to_string()).await
    }

    pub(crate) async fn form(&mut self, path: &str, body: &str) -> Result<Answer> {
        self.send(Method::POST, path, Some("application/x-www-form-urlencoded"), body.to_owned()).await
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: String,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.address);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        for (name, value) in &self.extra {
            request = request.header(*name, value);
        }
        let exchange = exchange(&self.address, request.body(Full::new(Bytes::from(body)))?);
        let answer = tokio::time::timeout(Duration::from_secs(30), exchange)
            .await
            .context("no answer within 30 s")??;
        self.keep_cookies(&answer);
        Ok(answer)
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for set in answer.headers.get_all(header::SET_COOKIE) {
            let text = set.to_str().expect("cookies are text");
            let (name, value) =
                text.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie has a name");
            match text.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
    }
}

async fn exchange(address: &str, request: Request<Full<Bytes>>) -> Result<Answer> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&body).into_owned(),
    })
}
