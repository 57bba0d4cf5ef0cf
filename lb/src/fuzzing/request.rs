//! Requests: what is accepted has one reading, and it is the one that backends get.
//!
//! The bytes go through hyper as those of a client do, and through the same checks. Whatever passes them is compared with
//! what a second, independent reader finds at the same place, then written as for a backend and read once more.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::memory::{IDLE_TURNS_MAX, Memory, Then, drive};
use super::reading::{self, Message};
use crate::Config;
use crate::config::Limits;
use crate::head::Heads;
use crate::headers::{self, Forwarded, Networks, Scheme, Via};
use crate::upstream::write_head;
use crate::validate;

static LIMITS: LazyLock<Limits> = LazyLock::new(|| {
    service_kit::config::parse_text::<Config>("lb", "").expect("the defaults are a configuration").limits
});
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// The first byte says in which pieces the bytes come, the second how the balancer is set; the rest is what a client sends.
pub fn request(data: &[u8]) {
    let [piece, settings, data @ ..] = data else { return };
    let settings = Settings { bits: *settings };
    if settings.bits & 4 != 0 {
        return two(data, settings);
    }
    let accepted = serve(data, if *piece == 0 { data.len().max(1) } else { usize::from(*piece) }, settings);
    let mut at = 0;
    for outbound in accepted {
        let message = reading::read(&data[at..]).unwrap_or_else(|| {
            panic!("{outbound:?} was accepted, and is none for the second reader");
        });
        // hyper ends lines of the trailers at a bare line feed, too, and the readers part there. A backend does not see it: what
        // goes on is encoded anew.
        if message.body.is_none() && outbound.chunked && has_bare_line_feed(&data[at..]) {
            return outbound.write(settings);
        }
        outbound.agrees(&message);
        at += message.end;
        outbound.write(settings);
    }
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r'))
}

/// How the balancer is set up.
#[derive(Debug, Clone, Copy)]
struct Settings {
    bits: u8,
}

impl Settings {
    fn forwarded(self) -> Forwarded {
        [Forwarded::Traditional, Forwarded::Standard, Forwarded::Both, Forwarded::Traditional]
            [usize::from(self.bits & 3)]
    }

    fn trusts(self) -> bool {
        self.bits & 8 != 0
    }
}

/// A request that was accepted whole, ready for a backend.
#[derive(Debug)]
struct Outbound {
    /// As it came.
    head: Parts,
    target: String,
    /// As it goes.
    headers: HeaderMap,
    /// The same with what was added still in lines.
    with_lines: (HeaderMap, Vec<u8>),
    body: Vec<u8>,
    chunked: bool,
    upgrade: bool,
}

/// The requests of a connection that are accepted and whole, in order.
fn serve(data: &[u8], piece: usize, settings: Settings) -> Vec<Outbound> {
    let heads = Rc::new(RefCell::new(Heads::new()));
    let output = Rc::new(RefCell::new(Vec::new()));
    let stream = Memory {
        input: data.to_vec(),
        at: 0,
        piece,
        then: Then::End,
        output: Rc::clone(&output),
        answers: false,
        heads: Some(Rc::clone(&heads)),
    };
    let (accepted, served) = (RefCell::new(Vec::new()), Cell::new(0));
    let service = service_fn(|request: Request<Incoming>| {
        let facts = heads.borrow_mut().take();
        let (accepted, served) = (&accepted, &served);
        async move {
            served.set(served.get() + 1);
            let (mut head, body) = request.into_parts();
            let mut response = Response::new(Empty::<Bytes>::new());
            let Ok(target) = validate::target(&mut head, facts, &LIMITS) else {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                return Ok::<_, Infallible>(response);
            };
            let length = body.size_hint().exact();
            match body.collect().await {
                Ok(body) => accepted.borrow_mut().push(Outbound::new(
                    head,
                    target.as_str(),
                    body.to_bytes().to_vec(),
                    length,
                    settings,
                )),
                Err(_) => {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
            Ok(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(65_536)
        .serve_connection(TokioIo::new(stream), service);
    let moved = || served.get() + output.borrow().len();
    let turns = IDLE_TURNS_MAX + 2 * data.len();
    assert!(drive(connection, moved, turns).is_some(), "the connection hangs");
    accepted.into_inner()
}

/// Lines of a head as HTTP/2 has them, an empty one, and the body: `METHOD target`, then `name: value`.
fn two(data: &[u8], settings: Settings) {
    let blank = data.windows(2).position(|window| window == b"\n\n");
    let (head, body) = blank.map_or((data, &[][..]), |blank| (&data[..blank], &data[blank + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request::builder().version(Version::HTTP_2).method(method).uri(uri);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        // What h2 never lets through (RFC 9113, 8.2.2), and a length that is not the body's.
        let name = line[..colon].to_ascii_lowercase();
        let other = [
            "connection",
            "transfer-encoding",
            "upgrade",
            "content-length",
            "keep-alive",
            "proxy-connection",
        ];
        if other.iter().any(|other| other.as_bytes() == name) {
            return;
        }
        request = request.header(name, line[colon + 1..].trim_ascii());
    }
    let Ok(request) = request.body(()) else { return };
    let mut head = request.into_parts().0;
    headers::join_cookies(&mut head.headers);
    if let Ok(target) = validate::target(&mut head, crate::head::Facts::default(), &LIMITS) {
        Outbound::new(head, target.as_str(), body.to_vec(), None, settings).write(settings);
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Outbound {
    fn new(mut head: Parts, target: &str, body: Vec<u8>, length: Option<u64>, settings: Settings) -> Self {
        let mut headers = head.headers.clone();
        let identity = headers::identify(&headers);
        let chunked = match head.version {
            Version::HTTP_2 => !body.is_empty(),
            _ => headers.contains_key(TRANSFER_ENCODING),
        };
        let wanted = if length == Some(0) && head.version == Version::HTTP_11 {
            headers::wanted_upgrade(&headers)
        } else {
            None
        };
        let trusted = if settings.trusts() { vec![CLIENT.to_string()] } else { Vec::new() };
        let trusted = Networks::parse(&trusted).expect("an address");
        let forwarded = settings.forwarded();
        let client_value = &headers::address_value(CLIENT);
        let via = Via { client: CLIENT, client_value, scheme: Scheme::Http, trusted: &trusted, forwarded };
        let (_, mut lines) = headers::to_backend(&mut headers, &identity, &via);
        if let Some(wanted) = &wanted {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, wanted.clone());
        }
        headers::canonical_length(&mut headers, length);
        head.extensions.clear();
        let with_lines = (headers.clone(), lines.as_bytes().to_owned());
        lines.move_to(&mut headers);
        let (target, upgrade) = (target.to_owned(), wanted.is_some());
        Self { head, target, headers, with_lines, body, chunked, upgrade }
    }

    /// What hyper read is what the second reader reads.
    fn agrees(&self, message: &Message<'_>) {
        assert_eq!(message.method, self.head.method.as_str().as_bytes());
        let (sent, target) = (message.target, self.target.as_bytes());
        assert!(
            sent == target || target == b"/" || sent.ends_with(target) || sent.ends_with(&target[1..]),
            "{} was sent, {} understood",
            sent.escape_ascii(),
            self.target
        );
        assert_eq!(message.body.as_deref(), Some(self.body.as_slice()), "another body");
        // Several lengths that are the same number count once.
        let lengths = message.values("content-length");
        let repeated = lengths.len().saturating_sub(1);
        assert!(
            lengths.iter().all(|length| number(length).is_some() && number(length) == number(lengths[0]))
        );
        assert_eq!(message.fields.len() - repeated, self.head.headers.len());
        for (name, _) in &message.fields {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name == "content-length" {
                continue;
            }
            let understood: Vec<_> =
                self.head.headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(message.values(&name), understood, "{name}");
        }
    }

    /// What a backend gets is one request, framed in one way, with the same meaning.
    fn write(&self, settings: Settings) {
        self.check(&self.encode(), settings);
        if !self.chunked && !self.upgrade {
            let mut bytes = Vec::new();
            let (headers, lines) = &self.with_lines;
            write_head(&mut bytes, &self.head.method, &self.target, (headers, lines));
            bytes.extend_from_slice(&self.body);
            self.check(&bytes, settings);
        }
    }

    fn check(&self, bytes: &[u8], settings: Settings) {
        let shown = bytes.escape_ascii();
        let message = reading::read(bytes).unwrap_or_else(|| panic!("a backend gets {shown}"));
        assert_eq!(message.end, bytes.len(), "more than one request: {shown}");
        assert_eq!(message.method, self.head.method.as_str().as_bytes(), "{shown}");
        assert_eq!(message.target, self.target.as_bytes(), "{shown}");
        assert_eq!(message.body.as_deref(), Some(self.body.as_slice()), "{shown}");
        let host: Vec<_> = self.head.headers.get_all("host").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(message.values("host"), host, "{shown}");
        assert_eq!(host.len(), 1, "{shown}");
        for name in ["keep-alive", "proxy-connection", "proxy-authorization", "http2-settings", "expect"] {
            assert!(message.values(name).is_empty(), "{name}: {shown}");
        }
        for name in ["connection", "upgrade"] {
            assert_eq!(message.values(name).len(), usize::from(self.upgrade), "{name}: {shown}");
        }
        let (by, forwarded) = (message.values("x-forwarded-for"), settings.forwarded());
        assert_eq!(by.len(), usize::from(forwarded != Forwarded::Standard), "{shown}");
        if let (Some(by), false) = (by.first(), settings.trusts()) {
            assert_eq!(*by, CLIENT.to_string().as_bytes(), "a stranger says who it is: {shown}");
        }
    }

    /// The bytes that hyper writes to a backend, as it does with streamed bodies and upgrades.
    fn encode(&self) -> Vec<u8> {
        let body = Bytes::from(self.body.clone());
        let frame = Ok::<_, Infallible>(http_body::Frame::data(body.clone()));
        let body = if self.chunked {
            Either::Left(StreamBody::new(futures_util::stream::iter([frame])))
        } else {
            Either::Right(Full::new(body))
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::clone(&self.head.method);
        *request.uri_mut() = self.target.parse::<Uri>().expect("it was one");
        *request.headers_mut() = self.headers.clone();
        if self.chunked {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let output = Rc::new(RefCell::new(Vec::new()));
        let stream = Memory {
            input: Vec::new(),
            at: 0,
            piece: 1,
            then: Then::Wait,
            output: Rc::clone(&output),
            answers: false,
            heads: None,
        };
        let sent = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .expect("a connection in memory");
            futures_util::future::join(sender.send_request(request), connection).await
        };
        assert!(drive(sent, || output.borrow().len(), IDLE_TURNS_MAX).is_none(), "there is nobody to answer");
        output.take()
    }
}
