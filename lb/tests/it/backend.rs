//! A backend in a thread of its own, that can stop like a stopped process and die like a killed one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What a backend saw and how it behaves; shared with the test.
#[derive(Default)]
pub(crate) struct State {
    name: String,
    generation: AtomicU64,
    frozen: AtomicBool,
    /// It really stands still.
    still: AtomicBool,
    pub(crate) health: Mutex<&'static str>,
    /// How long every answer takes, probes aside.
    pub(crate) delay_ms: AtomicU64,
    /// Every answer is 500 at once, probes aside.
    pub(crate) fails: AtomicBool,
    /// What its health answer says besides.
    more: Mutex<&'static str>,
    /// The Host header of every health check.
    pub(crate) probes: Mutex<Vec<String>>,
    /// Requests get 502, checks are fine.
    pub(crate) broken: AtomicBool,
    /// Requests by path, without probes.
    pub(crate) seen: Mutex<BTreeMap<String, u64>>,
    /// The same in the order in which they came.
    pub(crate) order: Mutex<Vec<String>>,
    pub(crate) open: AtomicU64,
    pub(crate) accepted: AtomicU64,
}

impl State {
    pub(crate) fn seen(&self, path: &str) -> u64 {
        self.seen.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.seen.lock().unwrap().values().sum()
    }
}

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_at(name, SocketAddr::from(([127, 0, 0, 1], 0)), 1)
    }

    pub(crate) fn start_at(name: &str, address: SocketAddr, generation: u64) -> Self {
        let listener = service_kit::net::bind_tcp(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            generation: AtomicU64::new(generation),
            health: Mutex::new("ready"),
            ..State::default()
        });
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
            // Dropping the runtime closes every socket at once, as the kernel does for a killed process.
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Like SIGKILL: every connection ends, nothing listens.
    pub(crate) fn kill(&mut self) {
        self.thaw();
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Like SIGSTOP: the kernel still accepts, nobody answers.
    pub(crate) fn freeze(&self) {
        self.state.frozen.store(true, Ordering::SeqCst);
        while !self.state.still.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn thaw(&self) {
        self.state.frozen.store(false, Ordering::SeqCst);
    }

    /// Members that its health answer has from now on: `,"weight":0`.
    pub(crate) fn says(&self, more: &'static str) {
        *self.state.more.lock().unwrap() = more;
    }

    pub(crate) fn health(&self, health: &'static str) {
        *self.state.health.lock().unwrap() = health;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let watched = Arc::clone(&state);
    tokio::spawn(async move {
        loop {
            // Blocks the only thread on purpose.
            while watched.frozen.load(Ordering::SeqCst) {
                watched.still.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
            }
            watched.still.store(false, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        state.accepted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(connection(stream, Arc::clone(&state)));
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    state.open.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(|request| answer(request, Arc::clone(&state)));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    state.open.fetch_sub(1, Ordering::SeqCst);
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Content>, io::Error> {
    let path = request.uri().path().to_owned();
    if path == "/readyz" {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        state.probes.lock().unwrap().push(host);
        return Ok(health(&state));
    }
    *state.seen.lock().unwrap().entry(path.clone()).or_default() += 1;
    state.order.lock().unwrap().push(path.clone());
    if state.fails.load(Ordering::SeqCst) {
        let name = state.name.as_str();
        return Ok(Response::builder()
            .status(500)
            .header("x-served-by", name)
            .body(Content::text(String::new()))
            .unwrap());
    }
    let delay = state.delay_ms.load(Ordering::SeqCst);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let (word, argument) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let number = || argument.parse::<u64>().unwrap();
    let mut response = Response::builder().header("x-served-by", &state.name);
    if state.broken.load(Ordering::SeqCst) {
        return Ok(response.status(StatusCode::BAD_GATEWAY).body(Content::text(String::new())).unwrap());
    }
    let content = match word {
        "echo" => Content::text(echo(request).await),
        "size" => Content::Zeros(number(), true),
        "chunks" => Content::Zeros(number(), false),
        "count" => Content::text(count(request.into_body()).await.to_string()),
        "status" => {
            response = response.status(argument.parse::<u16>().unwrap());
            Content::text(String::new())
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            Content::text("slow".to_owned())
        }
        "cache" => {
            response = response.header("cache-control", argument);
            Content::text("cached".to_owned())
        }
        "hop" => {
            response =
                response.header("connection", "x-hop").header("x-hop", "1").header("keep-alive", "timeout=9");
            Content::text("hop".to_owned())
        }
        "trailers" => {
            response = response.header("trailer", "x-check");
            Content::Checked(Some(Bytes::from_static(b"checked")), true)
        }
        "unmodified" => {
            response = response.status(304).header("content-length", "1234").header("etag", "\"1\"");
            Content::Zeros(1_234, true)
        }
        "early" => {
            response = response.status(StatusCode::PAYLOAD_TOO_LARGE);
            Content::text("too large".to_owned())
        }
        "hang" => std::future::pending().await,
        // An error of the service closes the connection without an answer.
        "reset" => return Err(io::Error::other("on purpose")),
        "cut" => Content::Cut(number(), 5),
        _ => Content::text("hello".to_owned()),
    };
    Ok(response.body(content).unwrap())
}

fn health(state: &State) -> Response<Content> {
    let word = *state.health.lock().unwrap();
    let status = if word == "ready" { 200 } else { 503 };
    let (name, generation) = (&state.name, state.generation.load(Ordering::SeqCst));
    let more = *state.more.lock().unwrap();
    let text = format!(r#"{{"status":"{word}","instance":"{name}","generation":"{generation:016x}"{more}}}"#);
    Response::builder().status(status).body(Content::text(text)).unwrap()
}

/// The request as it arrived: its line, its headers in order of name, its body.
async fn echo(request: Request<Incoming>) -> String {
    let (head, body) = request.into_parts();
    let mut lines = vec![format!("{} {} {:?}", head.method, head.uri, head.version)];
    let mut headers: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    headers.sort();
    lines.extend(headers);
    let body = body.collect().await;
    let trailers = body.as_ref().ok().and_then(|body| body.trailers().cloned());
    let body = body.map_or_else(|_| Bytes::from_static(b"(broken)"), http_body_util::Collected::to_bytes);
    lines.extend(trailers.iter().flatten().map(|(name, value)| format!("trailer {name}: {value:?}")));
    lines.push(format!("body: {}", String::from_utf8_lossy(&body)));
    lines.join("\n")
}

async fn count(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

/// Bodies of every kind that a test needs.
enum Content {
    Text(Option<Bytes>),
    /// So many zeros; with their length announced or not.
    Zeros(u64, bool),
    /// Announces more than it sends; waits some turns, so that what it sends is on its way before it breaks.
    Cut(u64, u8),
    /// Text, then a trailer.
    Checked(Option<Bytes>, bool),
}

impl Content {
    fn text(text: String) -> Self {
        Self::Text(Some(Bytes::from(text)).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        static BLOCK: [u8; 65_536] = [0; 65_536];
        Poll::Ready(match self.get_mut() {
            Self::Text(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Zeros(0, _) => None,
            Self::Zeros(left, _) => {
                let now = (*left).min(BLOCK.len() as u64);
                *left -= now;
                Some(Ok(Frame::data(Bytes::from_static(&BLOCK[..usize::try_from(now).unwrap()]))))
            }
            Self::Cut(0, 0) => Some(Err(io::Error::other("on purpose"))),
            Self::Cut(0, turns) => {
                *turns -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Self::Checked(text @ Some(_), _) => text.take().map(|text| Ok(Frame::data(text))),
            Self::Checked(None, false) => None,
            Self::Checked(None, left) => {
                *left = false;
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-check", "sum".parse().unwrap());
                Some(Ok(Frame::trailers(trailers)))
            }
            Self::Cut(left, _) => {
                let now = usize::try_from(std::mem::take(left)).unwrap();
                Some(Ok(Frame::data(Bytes::from_static(&BLOCK[..now]))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Text(None) | Self::Zeros(0, _))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Zeros(bytes, true) => SizeHint::with_exact(*bytes),
            Self::Zeros(_, false) => SizeHint::default(),
            Self::Cut(bytes, _) => SizeHint::with_exact(bytes + 1_000),
            Self::Checked(..) => SizeHint::default(),
        }
    }
}

/// A backend that answers everything but probes with the same bytes, then closes.
pub(crate) async fn canned(answer: &'static [u8]) -> SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = vec![0; 4_096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let probe = head[..read].starts_with(b"GET /readyz");
                let health = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(if probe { health } else { answer }).await;
                let _ = stream.shutdown().await;
                // Reading to the end keeps the kernel from resetting what was just written.
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

/// A backend of which every connection, other than those of probes, is given to `handle`, from its first byte.
pub(crate) async fn custom<H, F>(handle: H) -> SocketAddr
where
    H: Fn(TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let handle = Arc::clone(&handle);
            tokio::spawn(async move {
                let mut head = [0; 4_096];
                let read = stream.peek(&mut head).await.unwrap_or(0);
                if String::from_utf8_lossy(&head[..read]).contains("GET /readyz") {
                    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                    let _ = stream.read(&mut head).await;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                } else if read > 0 {
                    handle(stream).await;
                }
            });
        }
    });
    address
}
