//! One look at one backend.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::answer::{Look, judge};
use crate::config::{Check, Http, Mode};
use crate::health::Outcome;
use crate::proxy_protocol;

/// Longest health answer that is read.
const ANSWER_BYTES_MAX: usize = 16_384;

/// Connects anew and asks what the mode says. Has no deadline of its own.
pub(super) async fn look(address: SocketAddr, check: &Check) -> Look {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Look::bad("connection refused");
        }
        Err(error) => return Look::bad(error.to_string()),
    };
    // Whoever wants to be told of clients wants it of every connection; this one is our own.
    if let Some(version) = check.send_proxy
        && let Err(error) = stream.write_all(&proxy_protocol::encode(version, None)).await
    {
        return Look::bad(error.to_string());
    }
    match &check.mode {
        Mode::Off | Mode::Tcp => Look::new(Outcome::Good, "it accepts connections"),
        Mode::Http(http) => ask(stream, address, http).await,
    }
}

async fn ask(stream: TcpStream, address: SocketAddr, http: &Http) -> Look {
    let host = http.host.clone().unwrap_or_else(|| {
        HeaderValue::from_str(&address.to_string()).expect("an address is made of plain characters")
    });
    let request = Request::get(http.path.as_str())
        .header(HOST, host)
        .header(USER_AGENT, "lb-health")
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a checked path and plain values make a request");
    let (mut sender, connection) = match handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return Look::bad(error.to_string()),
    };
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("status {status}, then {error}"))?;
        Ok::<_, String>(judge(status, &http.statuses, &body.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    // The connection is driven here rather than in a task: when time is up both go.
    let answered = tokio::select! {
        biased;
        answered = exchange.as_mut() => answered,
        _ = connection => exchange.await,
    };
    answered.unwrap_or_else(Look::bad)
}
