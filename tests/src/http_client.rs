//! A one-shot HTTP/1.1 client for tests: a fixed address, any Host, a cookie jar, nothing hidden.
//!
//! Every request opens a connection of its own, so that a test that asks twice is balanced twice. No redirects are
//! followed, no request is repeated. `open` and `CookieJar` are shared with the load client.
//!
//! In reading order: the client, `cookies`, `connection`, `secure`, `response`, `error`.

mod connection;
mod cookies;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod response;
mod secure;

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use serde::Serialize;
use tokio::time::timeout;

pub use cookies::CookieJar;
pub use error::HttpError;
pub use response::{BODY_BYTES_MAX, Response};

pub(crate) use connection::{Connection, open};
pub(crate) use response::{BodyFault, collect};
pub(crate) use secure::Trust;

/// One visitor: an address, a Host, a cookie jar.
#[derive(Debug)]
pub struct HttpClient {
    address: SocketAddr,
    host: String,
    deadline: Duration,
    // Locked only around reading and writing the map, never across an await.
    jar: Mutex<CookieJar>,
}

impl HttpClient {
    /// A visitor of `address` with the address as Host and 10 s for each request.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), deadline: Duration::from_secs(10), jar: Mutex::default() }
    }

    /// Names another Host than the address.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    /// Changes the deadline of a whole request.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same visitor, cookies included, at another address: what a browser does when a balancer is gone.
    #[must_use]
    pub fn moved_to(&self, address: SocketAddr) -> Self {
        let jar = Mutex::new(self.cookies(|jar| jar.clone()));
        Self { address, host: self.host.clone(), deadline: self.deadline, jar }
    }

    /// Reads or changes the cookie jar.
    pub fn cookies<T>(&self, change: impl FnOnce(&mut CookieJar) -> T) -> T {
        change(&mut self.jar.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Response, HttpError> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// POST of a JSON body.
    pub async fn post_json(&self, path: &str, body: &impl Serialize) -> Result<Response, HttpError> {
        self.json(Method::POST, path, body).await
    }

    /// Any method with a JSON body.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response, HttpError> {
        let body = serde_json::to_vec(body).map_err(|error| HttpError::Request(error.to_string()))?;
        self.send(method, path, &[(CONTENT_TYPE.as_str(), "application/json")], body.into()).await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response, HttpError> {
        let cookies = self.cookies(|jar| jar.header());
        let request = build(method, path, &self.host, headers, cookies, body)?;
        let late = |_| HttpError::Timeout { address: self.address, deadline_ms: self.deadline.as_millis() };
        let response = timeout(self.deadline, self.exchange(request)).await.map_err(late)??;
        self.cookies(|jar| jar.store(&response.headers));
        Ok(response)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response, HttpError> {
        let address = self.address;
        let mut connection = open(address).await?;
        let response = connection
            .sender
            .send_request(request)
            .await
            .map_err(|source| HttpError::Exchange { address, source })?;
        let (head, body) = response.into_parts();
        let body = collect(body, BODY_BYTES_MAX).await.map_err(|(_, reason)| HttpError::Body {
            address,
            status: head.status,
            reason,
        })?;
        Ok(Response { status: head.status, headers: head.headers, body })
    }
}

fn build(
    method: Method,
    path: &str,
    host: &str,
    headers: &[(&str, &str)],
    cookies: Option<HeaderValue>,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, HttpError> {
    let bad = |what: String| HttpError::Request(what);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .body(Full::new(body))
        .map_err(|error| bad(error.to_string()))?;
    if let Some(cookies) = cookies {
        request.headers_mut().insert(COOKIE, cookies);
    }
    for (name, value) in headers {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        let (Ok(name), Ok(value)) = parsed else { return Err(bad(format!("header {name}: {value}"))) };
        // Insert, so that a test can give a Host or a Cookie of its own.
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::fake::{raw, serve};
    use super::*;
    use http::StatusCode;
    use http::header::SET_COOKIE;
    use http_body_util::BodyExt;
    use hyper::body::Incoming;

    #[tokio::test]
    async fn the_jar_follows_what_the_server_sets_and_deletes() {
        let server = serve(|request: Request<Incoming>| async move {
            let seen = request.headers().get(COOKIE).map_or("none", |value| value.to_str().unwrap());
            let set = match request.uri().path() {
                "/in" => "sid=abc; HttpOnly; SameSite=Lax",
                "/out" => "sid=; Max-Age=0",
                _ => "other=1; Max-Age=60",
            };
            http::Response::builder()
                .header(SET_COOKIE, set)
                .body(Full::new(Bytes::from(seen.to_owned())))
                .unwrap()
        })
        .await;
        let client = HttpClient::new(server.address);
        assert_eq!(client.get("/in").await.unwrap().text(), "none");
        assert_eq!(client.get("/x").await.unwrap().text(), "sid=abc");
        let moved = client.moved_to(server.address);
        assert_eq!(moved.get("/out").await.unwrap().text(), "other=1; sid=abc");
        assert_eq!(moved.get("/x").await.unwrap().text(), "other=1");
        assert_eq!(client.cookies(|jar| jar.get("sid").map(str::to_owned)), Some("abc".into()));
    }

    #[tokio::test]
    async fn sends_json_and_any_host() {
        let server = serve(|request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let body: serde_json::Value =
                serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
            let host = head.headers[HOST].to_str().unwrap();
            let answer = serde_json::json!({"host": host, "type": head.headers[CONTENT_TYPE].to_str().unwrap(), "slug": body["slug"]});
            http::Response::new(Full::new(answer.to_string().into()))
        })
        .await;
        let client = HttpClient::new(server.address).host("fitness.example.com");
        let answer = client.post_json("/api/plan", &serde_json::json!({"slug": "squat"})).await.unwrap();
        let json: serde_json::Value = answer.json().unwrap();
        assert_eq!(json["host"], "fitness.example.com");
        assert_eq!(json["type"], "application/json");
        assert_eq!(json["slug"], "squat");
    }

    #[tokio::test]
    async fn a_short_body_is_an_error() {
        let server = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour").await;
        let error = HttpClient::new(server.address).get("/").await.unwrap_err();
        assert!(matches!(error, HttpError::Body { status: StatusCode::OK, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_chunked_body_without_its_last_chunk_is_an_error() {
        let server = raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n").await;
        let error = HttpClient::new(server.address).get("/").await.unwrap_err();
        assert!(matches!(error, HttpError::Body { .. }), "{error}");
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = HttpClient::new(silent.local_addr().unwrap()).deadline(Duration::from_millis(50));
        let error = client.get("/").await.unwrap_err();
        assert!(matches!(error, HttpError::Timeout { deadline_ms: 50, .. }), "{error}");
    }
}
