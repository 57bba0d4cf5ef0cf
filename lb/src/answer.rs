//! The head and the framing of a backend's answer in HTTP/1 (RFC 9112, 4 and 6 to 7.1). No sockets.
//!
//! Lines are parsed by `httparse`. What decides where an answer ends is looked at before anything is handed on, and what
//! could be read in two ways is [`Malformed`]: the connection cannot be used again, and nobody gets that answer.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use memchr::{memchr, memmem};

use crate::fields::{number, tokens};

/// Lines of a head.
const LINES_MAX: usize = 100;
/// A head with its line ends.
const HEAD_BYTES_MAX: usize = 400 * 1_024;
/// Extensions of all chunks together, and the trailers.
const EXTRA_BYTES_MAX: usize = 16 * 1_024;

/// What is not an answer of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not valid HTTP")]
pub(crate) struct Malformed;

/// Where the values of a head are; its memory goes from answer to answer.
pub(crate) type Places = Vec<[usize; 4]>;

/// What a head says besides its fields.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// One that is not usual for the status.
    pub(crate) reason: Option<ReasonPhrase>,
    /// Another answer may follow.
    pub(crate) persistent: bool,
    pub(crate) framing: Framing,
}

/// Takes the head of a final answer, or of a 101, off the front of `bytes` once it is whole, and replaces `headers` by its
/// fields; leaves them alone before. Other answers of 1xx are skipped. `to_head`: the request was HEAD.
pub(crate) fn head(
    bytes: &mut BytesMut,
    to_head: bool,
    places: &mut Places,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, Malformed> {
    while !bytes.is_empty() {
        let Some((length, head)) = parse(bytes, to_head, places)? else {
            return if bytes.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(None) };
        };
        let text = bytes.split_to(length).freeze();
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        headers.clear();
        headers.reserve(places.len());
        for [name, name_end, value, value_end] in places.drain(..) {
            let name = HeaderName::from_bytes(&text[name..name_end]).map_err(|_| Malformed)?;
            let value =
                HeaderValue::from_maybe_shared(text.slice(value..value_end)).map_err(|_| Malformed)?;
            headers.append(name, value);
        }
        return Ok(Some(head));
    }
    Ok(None)
}

/// A whole head at the front of `bytes`, its length and where its fields are.
fn parse(bytes: &[u8], to_head: bool, places: &mut Places) -> Result<Option<(usize, Head)>, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(_) | Err(_) => return Err(Malformed),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
    let phrase = parsed.reason.unwrap_or_default();
    let unusual = status.canonical_reason() != Some(phrase);
    let reason = unusual.then(|| ReasonPhrase::try_from(phrase.as_bytes())).transpose();
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut said = Said::default();
    places.clear();
    for line in parsed.headers.iter() {
        said.note(line.name, line.value);
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            (start, start + part.len())
        };
        // An empty value may point anywhere.
        let value = if line.value.is_empty() { (0, 0) } else { place(line.value) };
        let name = place(line.name.as_bytes());
        places.push([name.0, name.1, value.0, value.1]);
    }
    let (persistent, framing) = (said.persistent(version), said.framing(version, status, to_head)?);
    Ok(Some((length, Head { status, reason: reason.map_err(|_| Malformed)?, persistent, framing })))
}

/// What the fields say of the connection and of the body's length.
#[derive(Debug, Default)]
struct Said {
    close: bool,
    keep_alive: bool,
    /// The last coding is `chunked`.
    coding: Option<bool>,
    length: Option<Result<u64, Malformed>>,
}

impl Said {
    fn note(&mut self, name: &str, value: &[u8]) {
        // By length first: most fields are none of these.
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => {
                let lists = |word| tokens(value).any(|token| token.eq_ignore_ascii_case(word));
                self.close |= lists(b"close");
                self.keep_alive |= lists(b"keep-alive");
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                let last = tokens(value).last().unwrap_or_default();
                self.coding = Some(last.eq_ignore_ascii_case(b"chunked"));
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                for token in tokens(value) {
                    let length = number(token, 10).ok_or(Malformed);
                    self.length = Some(match self.length {
                        Some(known) if known != length => Err(Malformed),
                        _ => length,
                    });
                }
            }
            _ => {}
        }
    }

    fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// RFC 9112, 6.3.
    fn framing(&self, version: Version, status: StatusCode, to_head: bool) -> Result<Framing, Malformed> {
        let bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || to_head;
        match (bodiless, self.coding, self.length) {
            (true, ..) => Ok(Framing::Length(0)),
            // HTTP/1.0 has no codings; its programs would take the chunks for the body.
            (false, Some(_), _) if version == Version::HTTP_10 => Err(Malformed),
            (false, Some(true), _) => Ok(Framing::Chunked { next: Chunk::Size, extensions: 0 }),
            (false, None, Some(length)) => length.map(Framing::Length),
            (false, Some(false), _) | (false, None, None) => Ok(Framing::UntilClose),
        }
    }
}

/// Where a body ends, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes are to come.
    Length(u64),
    Chunked {
        next: Chunk,
        /// Bytes of extensions so far.
        extensions: usize,
    },
    UntilClose,
}

/// What comes next of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size,
    Data(u64),
    /// The line end after the data.
    End,
    Trailers,
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Framing {
    pub(crate) const OVER: Self = Self::Length(0);

    /// Nothing more belongs to this body.
    pub(crate) fn is_over(self) -> bool {
        self == Self::OVER
    }

    /// How long the rest is, where the head said so.
    pub(crate) fn left(self) -> Option<u64> {
        if let Self::Length(left) = self { Some(left) } else { None }
    }

    /// Takes the next part off the front of `bytes`; nothing while more bytes are needed, or when it is over.
    pub(crate) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Part>, Malformed> {
        while !bytes.is_empty() && !self.is_over() {
            match self {
                Self::Length(left) => {
                    let data = take(bytes, *left);
                    *left -= data.len() as u64;
                    return Ok(Some(Part::Data(data)));
                }
                Self::UntilClose => return Ok(Some(Part::Data(bytes.split().freeze()))),
                Self::Chunked { next, extensions } => match next {
                    Chunk::Size => {
                        let Some((size, length, extension)) = size_line(bytes)? else { return Ok(None) };
                        bytes.advance(length);
                        *extensions += extension;
                        if *extensions > EXTRA_BYTES_MAX {
                            return Err(Malformed);
                        }
                        *next = if size == 0 { Chunk::Trailers } else { Chunk::Data(size) };
                    }
                    Chunk::Data(left) => {
                        let data = take(bytes, *left);
                        let left = *left - data.len() as u64;
                        *next = if left == 0 { Chunk::End } else { Chunk::Data(left) };
                        return Ok(Some(Part::Data(data)));
                    }
                    Chunk::End => match &bytes[..] {
                        [b'\r', b'\n', ..] => {
                            bytes.advance(2);
                            *next = Chunk::Size;
                        }
                        [b'\r'] => return Ok(None),
                        _ => return Err(Malformed),
                    },
                    Chunk::Trailers => {
                        let Some(length) = trailers_end(bytes)? else { return Ok(None) };
                        let text = bytes.split_to(length);
                        *self = Self::OVER;
                        // Only the empty line: there are none.
                        return if length == 2 { Ok(None) } else { trailers(&text).map(Some) };
                    }
                },
            }
        }
        Ok(None)
    }

    /// The backend has closed: that is the end, or too early.
    pub(crate) fn closed(&mut self) -> Result<(), Malformed> {
        match self {
            Self::UntilClose => *self = Self::OVER,
            Self::Length(0) => {}
            Self::Length(_) | Self::Chunked { .. } => return Err(Malformed),
        }
        Ok(())
    }
}

fn take(bytes: &mut BytesMut, most: u64) -> Bytes {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_to(length).freeze()
}

/// The size that a whole line at the front says, the line's length and that of its extensions.
fn size_line(bytes: &[u8]) -> Result<Option<(u64, usize, usize)>, Malformed> {
    let Some(end) = memchr(b'\n', bytes) else {
        return if bytes.len() > EXTRA_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(digits);
    let extension = rest.trim_ascii_start();
    let is_plain = rest.iter().all(|byte| !matches!(byte, b'\r' | 0x0c));
    if !is_plain || !(extension.is_empty() || extension.starts_with(b";")) {
        return Err(Malformed);
    }
    let size = number(digits, 16).ok_or(Malformed)?;
    Ok(Some((size, end + 1, rest.len())))
}

/// How long the trailers are with the empty line that ends them, once they are whole.
fn trailers_end(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let end =
        if bytes.starts_with(b"\r\n") { Some(2) } else { memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) };
    if end.unwrap_or(bytes.len()) > EXTRA_BYTES_MAX { Err(Malformed) } else { Ok(end) }
}

fn trailers(text: &[u8]) -> Result<Part, Malformed> {
    let bare = |(at, byte): (usize, &u8)| *byte == b'\n' && (at == 0 || text[at - 1] != b'\r');
    if text.iter().enumerate().any(bare) {
        return Err(Malformed);
    }
    let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
    let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(text, &mut lines) else {
        return Err(Malformed);
    };
    let mut trailers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
        trailers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| Malformed)?);
    }
    Ok(Part::Trailers(trailers))
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
