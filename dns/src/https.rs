//! DNS over HTTPS (RFC 8484): a query is a request of HTTP/1.1 or HTTP/2, its answer the response's body, octet by octet what
//! TCP would carry. One task owns a connection; HTTP/2's requests have one each beside it, as many as are allowed at a time.
//!
//! Neither version of HTTP knows when a client does nothing useful. Here a connection ends when for the idle time no request
//! began and none was answered, whatever else its client does; a request whose body is late is answered with 408.

mod freshness;
mod request;

use crate::answer::{Transport, Verdict};
use crate::config::Https;
use crate::metrics::{Closed, Path};
use crate::query_log::Entry;
use crate::tcp::Listeners;
use crate::udp::Service;
use bytes::Bytes;
use freshness::max_age_s;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use request::{Asked, MESSAGE, Refusal, asked};
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

/// For a client to take note of our leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Octets of a request's head; with a query in its path it has room for any that is common.
const HEAD_BYTES_MAX: usize = 16_384;
/// Octets that a client may send before we read them: of one request, of all.
const STREAM_WINDOW_BYTES: u32 = 65_535;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 18;
/// Octets of one answer that wait for a client to read.
const SEND_BUFFER_BYTES: usize = 65_536;

/// Serves one connection until something ends it; says what did.
pub async fn serve(
    stream: Box<TlsStream<TcpStream>>,
    client: IpAddr,
    https: &Arc<Https>,
    shared: &Listeners,
) -> Closed {
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let connection = Arc::new(Connection {
        client,
        service: shared.service.clone(),
        https: https.clone(),
        query_bytes_max: shared.limits.query_bytes_max,
        heard: Mutex::new(Instant::now()),
    });
    let answering = connection.clone();
    let service = service_fn(move |request| {
        let connection = answering.clone();
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    if speaks_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(https.streams_max)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER_BYTES);
        let serving = builder.serve_connection(io, service);
        drive(serving, |serving| serving.graceful_shutdown(), &connection, shared).await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BYTES_MAX);
        let serving = builder.serve_connection(io, service);
        drive(serving, |serving| serving.graceful_shutdown(), &connection, shared).await
    }
}

/// Polls a connection to its end, and brings that about when it is idle or the program stops.
async fn drive<C>(
    serving: C,
    goodbye: impl Fn(Pin<&mut C>),
    connection: &Connection,
    shared: &Listeners,
) -> Closed
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut serving = pin!(Box::pin(serving));
    let stopping = shared.shutdown.stopping();
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => return match ended {
                _ if told => Closed::Stopping,
                Ok(()) => Closed::Client,
                Err(error) if error.is_parse() => Closed::Malformed,
                Err(_) => Closed::Broken,
            },
            () = connection.is_idle_for(shared.limits.idle_timeout) => {
                goodbye(serving.as_mut().get_mut().as_mut());
                let _ = timeout(GOODBYE_TIMEOUT, serving).await;
                return Closed::Idle;
            }
            // What has begun is finished, nothing new is taken.
            () = stopping.cancelled(), if !told => {
                told = true;
                goodbye(serving.as_mut().get_mut().as_mut());
            }
        }
    }
}

/// What the requests of one connection share.
struct Connection {
    client: IpAddr,
    service: Service,
    https: Arc<Https>,
    query_bytes_max: usize,
    /// When the last request began or was answered. Held for a copy.
    heard: Mutex<Instant>,
}

impl Connection {
    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn is_idle_for(&self, limit: Duration) {
        loop {
            let due = *self.heard.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.hear();
        let query = self.query(request).await;
        let response = query.and_then(|query| self.respond(&query)).unwrap_or_else(refuse);
        self.service.metrics.responded(response.status());
        self.hear();
        response
    }

    /// The message that a request brings.
    async fn query(&self, request: Request<Incoming>) -> Result<Bytes, Refusal> {
        let limits = (self.https.path.as_str(), self.query_bytes_max);
        match asked(request.method(), request.uri(), request.headers(), limits)? {
            Asked::Message(octets) => Ok(octets.into()),
            Asked::Body => {
                let body = Limited::new(request.into_body(), self.query_bytes_max).collect();
                match timeout(self.https.request_timeout, body).await {
                    Ok(Ok(whole)) => Ok(whole.to_bytes()),
                    Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLong),
                    Ok(Err(_)) => Err(Refusal::Broken),
                    Err(_) => Err(Refusal::Late),
                }
            }
        }
    }

    fn respond(&self, query: &[u8]) -> Result<Response<Full<Bytes>>, Refusal> {
        let Service { zones, metrics, exchange, log, .. } = &self.service;
        let terms = self.service.terms(Transport::Https, self.client);
        let mut random = fastrand::Rng::new();
        let mut octets = Vec::new();
        let zones = zones.load();
        let verdict =
            exchange.datagram(query, &zones, terms, &mut |bound| random.usize(..bound), &mut octets);
        metrics.verdict(Transport::Https, verdict);
        if log.is_on() {
            let (transport, client, now_ms) = (Transport::Https, self.client, terms.now_ms);
            let bytes = octets.len();
            let (path, zones) = (Path::Slow, &zones);
            let entry = Entry { now_ms, transport, client, query, bytes, verdict, path, zones };
            log.worker().push(entry, || random.f64());
        }
        if !matches!(verdict, Verdict::Answered { .. }) {
            return Err(Refusal::NotAQuery);
        }
        let age = HeaderValue::try_from(format!("max-age={}", max_age_s(&octets)));
        let mut response = Response::new(Full::new(octets.into()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE));
        response.headers_mut().insert(CACHE_CONTROL, age.expect("a word and a number"));
        Ok(response)
    }
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{refusal}\n"))));
    *response.status_mut() = refusal.status();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    if refusal == Refusal::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}
