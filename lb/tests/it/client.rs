//! Clients: one that speaks HTTP, and bytes on a socket.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::PATIENCE;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `route` cookie that it sets.
    pub(crate) fn route(&self) -> Option<String> {
        self.cookie("route")
    }

    /// The value of a cookie that it sets.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let lines = self.headers.get_all("set-cookie").iter();
        let value =
            lines.filter_map(|line| line.to_str().ok()?.strip_prefix(name)?.strip_prefix('=')).next()?;
        Some(value.split(';').next().unwrap().to_owned())
    }
}

/// A keep-alive connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(stream: TcpStream) -> Self {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        self.sender.ready().await?;
        let whole = async {
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("an answer within the test's patience")
    }
}

/// `METHOD /path`, then headers.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "fitness.example.com");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// One request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    Client::connect(address).await.send(request(line, headers, body)).await.unwrap()
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path}"), &[], "").await
}

/// Writes bytes and returns all that comes until the other side closes; `None` if it does not within `limit`.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8], limit: Duration) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    match tokio::time::timeout(limit, stream.read_to_end(&mut answer)).await {
        Ok(_) => Some(answer),
        Err(_) => None,
    }
}

/// The status of the first answer in some bytes; 0 if there is none.
pub(crate) fn status_of(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    let rest = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
    rest.and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}
