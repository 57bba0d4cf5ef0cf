//! One look at one backend.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use http_body_util::Empty;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::answer::{Look, judge};
use crate::config::{Check, Http, Mode};
use crate::health::Outcome;
use crate::proxy_protocol;

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
    match service_kit::probe::exchange(stream, request).await {
        Ok((status, body)) => judge(status, &http.statuses, &body),
        Err(reason) => Look::bad(reason),
    }
}
