//! Reads request heads a second time, as raw bytes, for what the parsed request no longer says. No sockets.
//!
//! hyper hides three things from whoever serves a request: it drops a `Content-Length` beside `Transfer-Encoding`, it cuts
//! a fragment off the target, and it takes a bare line feed for the end of a line. Each is a place where two programs on
//! the way may read one message in two ways. So every byte that a client sends passes [`Heads`] first. It follows the
//! message framing (RFC 9112, 6 and 7.1) to know where the next head of a connection begins, looks at nothing but the ends
//! and the first letters of lines, and leaves one [`Facts`] for each head, in order.
//!
//! It does not judge: whatever hyper refuses by itself may look like anything here. Where it can no longer say for certain
//! how hyper reads the bytes, it is lost, and every later head of that connection is one that was not seen.

use std::collections::VecDeque;

use memchr::memchr;

use crate::fields::number;

/// Of a line that a read has cut in two, so much of its beginning is kept: a name, a colon and a long number.
const LINE_START_MAX: usize = 128;
/// Heads that may be read before the first of them is served. More fit into a read buffer only if they are empty.
const AHEAD_MAX: usize = 4_096;

/// What the bytes of one head say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// There is a number sign in the request line.
    pub(crate) fragment: bool,
    /// There are both a `Content-Length` and a `Transfer-Encoding` line.
    pub(crate) length_and_coding: bool,
    /// A line ends with a line feed alone.
    pub(crate) bare_line_feed: bool,
    /// Nothing is known: the head was not followed.
    pub(crate) unseen: bool,
}

impl Facts {
    pub(crate) const UNSEEN: Self =
        Self { fragment: false, length_and_coding: false, bare_line_feed: false, unseen: true };
}

/// What the next byte belongs to.
///
/// ```text
///            empty line            no body
///             ┌────┐      ┌──────────────────────────┐
///             ▼    │      ▼                          │
///   ──────► RequestLine ─────► Field ──┬─ length ──► Body ──► RequestLine
///                                      └─ chunked ─► ChunkSize ◄──► ChunkData
///                                                        └─ 0 ─► Trailer ──► RequestLine
///   any of them ──► Lost (for good)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    RequestLine,
    Field,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    Trailer,
    Lost,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(crate) struct Heads {
    state: State,
    /// The beginning of a line whose end has not come yet, at most [`LINE_START_MAX`] bytes of it.
    line: Vec<u8>,
    /// How long that line is so far.
    line_bytes: usize,
    /// Its last byte.
    line_last: u8,
    facts: Facts,
    coding: bool,
    length: Option<u64>,
    /// Heads that were read and not yet asked for. There is a second one only where a client does not wait for answers.
    first: Option<Facts>,
    rest: VecDeque<Facts>,
}

impl Heads {
    pub(crate) fn new() -> Self {
        Self {
            state: State::RequestLine,
            line: Vec::new(),
            line_bytes: 0,
            line_last: 0,
            facts: Facts::default(),
            coding: false,
            length: None,
            first: None,
            rest: VecDeque::new(),
        }
    }

    /// The facts of the next head; [`Facts::UNSEEN`] where none was followed.
    pub(crate) fn take(&mut self) -> Facts {
        let next = self.first.take();
        self.first = self.rest.pop_front();
        next.unwrap_or(Facts::UNSEEN)
    }

    /// Whether what was read ends with a whole message, and somebody has asked for all of them.
    pub(crate) fn is_between(&self) -> bool {
        self.state == State::RequestLine && self.line_bytes == 0 && self.first.is_none()
    }

    /// Whether a head has begun to come, or has come and nobody has asked for it.
    pub(crate) fn has_begun(&self) -> bool {
        let begun = self.state == State::Field || (self.state == State::RequestLine && self.line_bytes > 0);
        begun || self.first.is_some()
    }

    /// The next bytes from the client, however they were cut.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Body(left) => {
                    let (left, bytes) = skip(left, bytes);
                    self.state = if left == 0 { State::RequestLine } else { State::Body(left) };
                    bytes
                }
                State::ChunkData(left) => {
                    let (left, bytes) = skip(left, bytes);
                    self.state = if left == 0 { State::ChunkSize } else { State::ChunkData(left) };
                    bytes
                }
                State::Lost => return,
                State::RequestLine | State::Field | State::ChunkSize | State::Trailer => {
                    let end = memchr(b'\n', bytes);
                    let (part, bytes) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    if self.state == State::RequestLine && memchr(b'#', part).is_some() {
                        self.facts.fragment = true;
                    }
                    if end.is_none() {
                        self.keep(part);
                    } else if self.line_bytes == 0 {
                        self.line(part, part.len());
                    } else {
                        self.rejoin(part);
                    }
                    bytes
                }
            };
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE_START_MAX - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.line_bytes += part.len();
        self.line_last = part.last().copied().unwrap_or(self.line_last);
    }

    /// The rest of a line that began in an earlier read.
    fn rejoin(&mut self, part: &[u8]) {
        let ended = if part.len() == 1 { [self.line_last, b'\n'] } else { [part[part.len() - 2], b'\n'] };
        self.keep(part);
        let (mut line, bytes) = (std::mem::take(&mut self.line), self.line_bytes);
        self.line_bytes = 0;
        if bytes > line.len() {
            // What was left out is not looked at, but how the line ends is.
            line.truncate(LINE_START_MAX - 2);
            line.extend_from_slice(&ended);
        }
        self.line(&line, bytes);
        line.clear();
        self.line = line;
    }

    /// One whole line, its line feed included; `bytes` is more than its length if its middle is missing.
    fn line(&mut self, line: &[u8], bytes: usize) {
        let whole = bytes == line.len();
        let (content, bare) = match line {
            [content @ .., b'\r', b'\n'] => (content, false),
            [content @ .., _] => (content, true),
            [] => return,
        };
        match self.state {
            State::RequestLine => {
                self.facts.bare_line_feed |= bare;
                if !content.is_empty() {
                    self.state = State::Field;
                }
            }
            State::Field if content.is_empty() => {
                self.facts.bare_line_feed |= bare;
                self.end_of_head();
            }
            State::Field => {
                self.facts.bare_line_feed |= bare;
                self.field(content, whole);
            }
            // hyper takes a line feed there for a part of the line.
            State::ChunkSize | State::Trailer if bare => self.state = State::Lost,
            State::ChunkSize => self.state = after_chunk_size(content),
            State::Trailer if content.is_empty() => self.state = State::RequestLine,
            _ => {}
        }
    }

    /// hyper refuses blanks before the colon and folded lines, so a name is where its line begins.
    fn field(&mut self, line: &[u8], whole: bool) {
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length") {
                    self.facts.length_and_coding |= self.coding;
                    match (number(value, 10), self.length) {
                        (Some(length), None) if whole => self.length = Some(length),
                        (Some(length), Some(known)) if whole && length == known => {}
                        _ => self.state = State::Lost,
                    }
                }
            }
            Some(b't' | b'T') if value_of(line, b"transfer-encoding").is_some() => {
                self.facts.length_and_coding |= self.length.is_some();
                self.coding = true;
            }
            _ => {}
        }
    }

    fn end_of_head(&mut self) {
        let facts = std::mem::take(&mut self.facts);
        match self.first {
            None => self.first = Some(facts),
            Some(_) if self.rest.len() < AHEAD_MAX => self.rest.push_back(facts),
            Some(_) => return self.state = State::Lost,
        }
        self.state = match (std::mem::take(&mut self.coding), self.length.take()) {
            (true, _) => State::ChunkSize,
            (false, None | Some(0)) => State::RequestLine,
            (false, Some(length)) => State::Body(length),
        };
    }
}

/// Takes at most `left` bytes off the front; returns what is still to come, and the rest.
fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let now = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (left - now as u64, &bytes[now..])
}

/// The value of a field line if that is its name, without the blanks around it.
fn value_of<'line>(line: &'line [u8], name: &[u8]) -> Option<&'line [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn after_chunk_size(line: &[u8]) -> State {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    match number(&line[..digits], 16) {
        Some(0) => State::Trailer,
        // With the line end that follows the data.
        Some(size) if size < u64::MAX - 2 => State::ChunkData(size + 2),
        _ => State::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What all heads in `text` say: `.` nothing, `#` fragment, `+` length and coding, `n` line feed, `?` not followed.
    /// The same must come out wherever the bytes are cut.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let bytes = text.as_bytes();
        for cut in 0..bytes.len() {
            let mut heads = Heads::new();
            heads.feed(&bytes[..cut]);
            heads.feed(&bytes[cut..]);
            assert_eq!(found(heads), expected, "{text:?} cut at {cut}");
        }
        let mut heads = Heads::new();
        bytes.iter().for_each(|byte| heads.feed(&[*byte]));
        assert_eq!(found(heads), expected, "{text:?} byte by byte");
    }

    fn found(mut heads: Heads) -> String {
        let mut found = String::new();
        while heads.first.is_some() {
            let facts = heads.take();
            let before = found.len();
            for (is, mark) in [
                (facts.fragment, '#'),
                (facts.length_and_coding, '+'),
                (facts.bare_line_feed, 'n'),
                (facts.unseen, '?'),
            ] {
                found.extend(is.then_some(mark));
            }
            if found.len() == before {
                found.push('.');
            }
        }
        if heads.state == State::Lost {
            found.push('?');
        }
        found
    }

    #[test]
    fn heads_without_bodies() {
        check("GET / HTTP/1.1\r\nhost: a\r\n\r\n", ".");
        check("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", "..");
        check("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", ".");
        check("GET / HTTP/1.1\r\nhost: a\r\n", "");
    }

    #[test]
    fn what_hyper_would_hide() {
        check("GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", "#");
        check("GET /a HTTP/1.1\r\nx: #\r\n\r\n", ".");
        check("GET / HTTP/1.1\nhost: a\r\n\r\n", "n");
        check("GET / HTTP/1.1\r\nhost: a\n\r\n", "n");
        check("GET / HTTP/1.1\r\nhost: a\r\n\n", "n");
        check("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "n");
        check("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "+");
        check("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\ncontent-length:5\r\n\r\n", "+");
        check("POST / HTTP/1.1\r\ncontent-lengths: 5\r\ntransfer-encoding: chunked\r\n\r\n", ".");
    }

    #[test]
    fn bodies_are_no_heads() {
        let next = "GET /a#b HTTP/1.1\r\n\r\n";
        check(&format!("POST / HTTP/1.1\r\ncontent-length: 21\r\n\r\n{next}"), ".");
        check(&format!("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc{next}"), ".#");
        check(&format!("POST / HTTP/1.1\r\ncontent-length: 003\r\ncontent-length: 3\r\n\r\nabc{next}"), ".#");
        check(
            &format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n15\r\n{next}\r\n0\r\n\r\n"),
            ".",
        );
        let chunked = "POST / HTTP/1.1\r\nTransfer-encoding: Chunked\r\n\r\n3;a=\"b\r\nabc\r\nA \r\n0123456789\r\n0\r\nx: y\r\n\r\n";
        check(&format!("{chunked}{next}"), ".#");
    }

    #[test]
    fn where_readings_could_differ_it_is_lost() {
        check("POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\nabc", "?");
        check("POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", "?");
        check("POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\nabc", "?");
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{chunked}3\nabc\r\n0\r\n\r\n"), ".?");
        check(&format!("{chunked}ffffffffffffffff\r\nabc\r\n0\r\n\r\n"), ".?");
        check(&format!("{chunked}zz\r\n"), ".?");
        check(&format!("{chunked}0\r\nx: y\n\r\nGET / HTTP/1.1\r\n\r\n"), ".?");
        // A length after more blanks than are kept of a line that comes in two reads; whole it can be read.
        let mut heads = Heads::new();
        heads.feed(b"POST / HTTP/1.1\r\ncontent-length: ");
        heads.feed(&[b' '; 200]);
        heads.feed(b"3\r\n\r\nabc");
        assert_eq!(found(heads), "?");
    }

    #[test]
    fn long_lines_are_followed_without_being_kept() {
        let long = "x".repeat(1_000);
        check(&format!("GET /{long}#b HTTP/1.1\r\ncookie: {long}\r\n\r\n"), "#");
        check(&format!("GET /{long} HTTP/1.1\r\ntransfer-encoding: {long}\r\nx: {long}\n\r\n0\r\n\r\n"), "n");
    }

    #[test]
    fn more_heads_than_anybody_sends_ahead() {
        let mut heads = Heads::new();
        (0..AHEAD_MAX + 2).for_each(|_| heads.feed(b"GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(heads.state, State::Lost);
        (0..=AHEAD_MAX).for_each(|_| assert_eq!(heads.take(), Facts::default()));
        assert_eq!(heads.take(), Facts::UNSEEN);
    }
}
