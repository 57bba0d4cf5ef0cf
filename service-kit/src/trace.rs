//! Request ids and the W3C Trace Context header, as they travel from the balancer to the app.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Names one request in every log that it passes.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says which trace a request belongs to (W3C Trace Context, section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u64::from_ne_bytes(bytes)
}

/// A new request id: 32 hexadecimal digits.
pub fn new_request_id() -> String {
    String::from_utf8(new_request_id_bytes().into()).expect("hexadecimal digits")
}

/// The same as bytes.
pub fn new_request_id_bytes() -> [u8; 32] {
    hex(fastrand::u128(..))
}

/// The two digits of every byte.
const DIGITS_OF: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        all[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    all
};

/// Lower-case hexadecimal digits, the most significant first. By hand, because formatting them costs a balancer several per
/// cent of a request.
fn hex<const DIGITS: usize>(value: u128) -> [u8; DIGITS] {
    let bytes = value.to_be_bytes();
    let mut text = [0; DIGITS];
    for (pair, byte) in text.chunks_exact_mut(2).zip(&bytes[bytes.len() - DIGITS / 2..]) {
        pair.copy_from_slice(&DIGITS_OF[usize::from(*byte)]);
    }
    text
}

/// Whether a request id that a client sent may be kept: 8 to 64 letters, digits, `-` or `_`, so that it is safe in a log.
pub fn is_request_id(text: &str) -> bool {
    (8..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The id that a request came with, if it may be kept, or a new one.
pub fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(X_REQUEST_ID).and_then(text).filter(|text| is_request_id(text));
    given.map_or_else(new_request_id, str::to_owned)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// A `traceparent` header, version 00 (W3C Trace Context, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace.
    pub trace_id: u128,
    /// The span that sent the request.
    pub span_id: u64,
    /// Bit 0: sampled.
    pub flags: u8,
}

impl TraceParent {
    /// A new trace, not sampled. Ids are never 0, which the format forbids.
    pub fn new() -> Self {
        Self { trace_id: fastrand::u128(1..), span_id: fastrand::u64(1..), flags: 0 }
    }

    /// A span of our own in the trace that a request came with, or in a new one.
    pub fn continued(headers: &HeaderMap) -> Self {
        let parent = headers.get(TRACEPARENT).and_then(text).and_then(Self::parse);
        parent.map_or_else(Self::new, Self::child)
    }

    /// The same trace with a span of our own.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: fastrand::u64(1..), ..self }
    }

    /// The header's value.
    pub fn to_bytes(self) -> [u8; 55] {
        let mut text = *b"00-................................-................-..";
        text[3..35].copy_from_slice(&hex::<32>(self.trace_id));
        text[36..52].copy_from_slice(&hex::<16>(self.span_id.into()));
        text[53..].copy_from_slice(&hex::<2>(self.flags.into()));
        text
    }

    /// Reads a header; anything that the format does not allow gives `None`, and a new trace should begin.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let well_formed = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
        if !well_formed || ![version, trace, span, flags].into_iter().all(lower_hex) || version == "ff" {
            return None;
        }
        // Version 00 has exactly four parts; later versions may add some.
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let parsed = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            span_id: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (parsed.trace_id != 0 && parsed.span_id != 0).then_some(parsed)
    }
}

impl Default for TraceParent {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(std::str::from_utf8(&self.to_bytes()).expect("digits and hyphens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, accepted: bool) {
        assert_eq!(TraceParent::parse(text).is_some(), accepted, "{text}");
    }

    #[test]
    fn what_the_format_allows() {
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true);
        check("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false);
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false);
        check("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false);
        check("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("", false);
        check("00", false);
    }

    #[test]
    fn it_is_written_as_it_was_read() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000001-0000000000000002-00",
        ] {
            assert_eq!(TraceParent::parse(text).map(|span| span.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_child_stays_in_its_trace() {
        let parent = TraceParent::new();
        let child = TraceParent::parse(&parent.child().to_string()).expect("what we print, we read");
        assert_eq!(child.trace_id, parent.trace_id);
        assert_ne!(child.span_id, parent.span_id);
    }

    /// Whether an id and a trace that a client sent are kept.
    #[track_caller]
    fn check_headers(id: &str, trace: &str, id_kept: bool, trace_kept: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
        headers.insert(TRACEPARENT, HeaderValue::from_str(trace).unwrap());
        assert_eq!(request_id(&headers) == id, id_kept, "{id}");
        let continued = TraceParent::continued(&headers).to_string();
        assert_eq!(continued[..35] == trace[..35.min(trace.len())], trace_kept, "{trace}");
        assert_ne!(continued, trace, "the span is our own");
    }

    #[test]
    fn what_a_client_sent_is_continued_if_it_is_well_formed() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        check_headers("abcdefgh-1", trace, true, true);
        check_headers("a b c d e f", "00-0af7651916cd43dd8448eb211c80319c", false, false);
        check_headers("short", "", false, false);
        assert!(is_request_id(&request_id(&HeaderMap::new())));
    }

    #[test]
    fn request_ids_are_safe_in_logs() {
        assert!(is_request_id(&new_request_id()));
        assert!(!is_request_id("short"));
        assert!(!is_request_id("with a space and\nmore"));
        assert!(!is_request_id(&"a".repeat(65)));
    }
}
