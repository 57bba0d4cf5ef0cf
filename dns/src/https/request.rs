//! What a request asks (RFC 8484 section 4.1), or why it is refused.

use data_encoding::BASE64URL_NOPAD;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode, Uri};

/// The media type of messages.
pub(super) const MESSAGE: &str = "application/dns-message";

/// Where a request has its message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Message(Vec<u8>),
    Body,
}

/// Why there is no answer of DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("nothing is here; queries go to the path of DNS over HTTPS, as /dns-query")]
    Path,
    #[error("only GET and POST bring queries")]
    Method,
    #[error("no message: GET needs ?dns= with the query in base64url")]
    NoMessage,
    #[error("dns= is not base64url without padding (RFC 4648 section 5)")]
    NotBase64,
    #[error("the body has to be application/dns-message")]
    MediaType,
    #[error("the message is longer than a query may be")]
    TooLong,
    #[error("the body did not come in time")]
    Late,
    #[error("the body ended early")]
    Broken,
    #[error("the message is no query of DNS")]
    NotAQuery,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Path => StatusCode::NOT_FOUND,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Late => StatusCode::REQUEST_TIMEOUT,
            Refusal::NoMessage | Refusal::NotBase64 | Refusal::Broken | Refusal::NotAQuery => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// Reads a request's head; a body that is announced as too long is refused before it comes.
pub(super) fn asked(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    (path, query_bytes_max): (&str, usize),
) -> Result<Asked, Refusal> {
    if uri.path() != path {
        return Err(Refusal::Path);
    }
    match *method {
        Method::GET => {
            let parameters = uri.query().unwrap_or_default().split('&');
            let mut messages = parameters.filter_map(|parameter| parameter.strip_prefix("dns="));
            let text = messages.next().ok_or(Refusal::NoMessage)?;
            let octets = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Refusal::NotBase64)?;
            if octets.len() > query_bytes_max { Err(Refusal::TooLong) } else { Ok(Asked::Message(octets)) }
        }
        Method::POST => {
            let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default();
            if !essence.trim().eq_ignore_ascii_case(MESSAGE) {
                return Err(Refusal::MediaType);
            }
            let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            let announced = length.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
            if announced > query_bytes_max as u64 { Err(Refusal::TooLong) } else { Ok(Asked::Body) }
        }
        _ => Err(Refusal::Method),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request as `METHOD TARGET`, and its headers as `name: value`.
    #[track_caller]
    fn check(request: &str, headers: &[&str], expected: &Result<Asked, Refusal>) {
        let (method, target) = request.split_once(' ').unwrap();
        let mut map = HeaderMap::new();
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            map.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let method = method.parse().unwrap();
        assert_eq!(&asked(&method, &target.parse().unwrap(), &map, ("/dns-query", 4)), expected);
    }

    #[test]
    fn a_message_in_the_path() {
        let message = || Ok(Asked::Message(vec![0xFB, 0xFF, 1]));
        check("GET /dns-query?dns=-_8B", &[], &message());
        check("GET /dns-query?a=1&dns=-_8B&b=2", &[], &message());
        check("GET https://dns.example/dns-query?dns=-_8B", &[], &message());
        check("GET /dns-query", &[], &Err(Refusal::NoMessage));
        check("GET /dns-query?name=a.example", &[], &Err(Refusal::NoMessage));
        check("GET /dns-query?dns=+/8B", &[], &Err(Refusal::NotBase64));
        check("GET /dns-query?dns=-_8BAA==", &[], &Err(Refusal::NotBase64));
        check("GET /dns-query?dns=AAAAAAA", &[], &Err(Refusal::TooLong));
    }
    #[test]
    fn a_message_in_the_body() {
        let message = "content-type: application/dns-message";
        check("POST /dns-query", &[message], &Ok(Asked::Body));
        check("POST /dns-query?dns=AAAA", &[message, "content-length: 4"], &Ok(Asked::Body));
        check("POST /dns-query", &["content-type: Application/DNS-Message; x=y"], &Ok(Asked::Body));
        check("POST /dns-query", &[message, "content-length: 5"], &Err(Refusal::TooLong));
        check("POST /dns-query", &["content-type: text/plain"], &Err(Refusal::MediaType));
        check("POST /dns-query", &[], &Err(Refusal::MediaType));
    }
    #[test]
    fn other_paths_and_methods() {
        check("GET /", &[], &Err(Refusal::Path));
        check("GET /dns-query/?dns=AAAA", &[], &Err(Refusal::Path));
        check("PUT /elsewhere", &[], &Err(Refusal::Path));
        check("PUT /dns-query", &[], &Err(Refusal::Method));
        check("HEAD /dns-query?dns=AAAA", &[], &Err(Refusal::Method));
    }
}
