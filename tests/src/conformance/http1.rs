//! Reads HTTP/1.1 messages as plainly as possible: what a naive peer takes for one.

/// One message, perhaps the beginning of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Request or status line.
    pub(super) line: String,
    /// Names in small letters.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// Nothing is missing.
    pub(super) whole: bool,
}

/// Whose message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    /// `ended`: no more bytes will come, so a body without a length is whole.
    Answer {
        to_head: bool,
        ended: bool,
    },
}

impl Message {
    /// All values of a field, joined; `None` without one. `trailer:x` is one behind the body.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let (name, fields) = match name.strip_prefix("trailer:") {
            Some(name) => (name, &self.trailers),
            None => (name, &self.fields),
        };
        let values: Vec<&str> =
            fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect();
        (!values.is_empty()).then(|| values.join(" | "))
    }

    /// Of a status line; 0 if it has none.
    pub(super) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
    }
}

/// The first message and its length, as far as it has come; `None` before the end of its head.
pub(super) fn read(bytes: &[u8], kind: Kind) -> Option<(Message, usize)> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let end = start + find(&bytes[start..], b"\r\n\r\n")?;
    let head = text(&bytes[start..end]);
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let mut message = Message { line, fields: lines.filter_map(field).collect(), ..Message::default() };
    let rest = end + 4;
    let status = message.status();
    let bodiless = match kind {
        Kind::Request => false,
        Kind::Answer { to_head, .. } => to_head || status < 200 || status == 204 || status == 304,
    };
    let coded =
        message.value("transfer-encoding").is_some_and(|it| it.to_ascii_lowercase().contains("chunked"));
    let length = message.value("content-length").and_then(|it| it.parse::<usize>().ok());
    let body = &bytes[rest..];
    let used = match (bodiless, coded, length, kind) {
        (true, ..) => {
            message.whole = true;
            0
        }
        (_, true, ..) => chunks(body, &mut message),
        (_, _, Some(length), _) => {
            message.whole = body.len() >= length;
            message.body = body[..length.min(body.len())].to_vec();
            message.body.len()
        }
        (_, _, None, Kind::Answer { ended, .. }) => {
            message.whole = ended;
            message.body = body.to_vec();
            body.len()
        }
        (_, _, None, Kind::Request) => {
            message.whole = true;
            0
        }
    };
    Some((message, rest + used))
}

fn chunks(bytes: &[u8], message: &mut Message) -> usize {
    let mut at = 0;
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return bytes.len() };
        let line = text(&bytes[at..at + end]);
        let Ok(size) = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16) else {
            return bytes.len();
        };
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes[at..].get(..size.saturating_add(2)) else {
            message.body.extend_from_slice(&bytes[at..]);
            return bytes.len();
        };
        message.body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    while let Some(end) = find(&bytes[at..], b"\r\n") {
        let line = text(&bytes[at..at + end]);
        at += end + 2;
        if line.is_empty() {
            message.whole = true;
            break;
        }
        message.trailers.extend(field(&line));
    }
    at
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// ISO 8859-1.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `body length, trailers, used length, whole`.
    #[track_caller]
    fn check(bytes: &str, kind: Kind, expected: Option<(usize, usize, usize, bool)>) {
        let got = read(bytes.as_bytes(), kind)
            .map(|(message, used)| (message.body.len(), message.trailers.len(), used, message.whole));
        assert_eq!(got, expected, "{bytes:?}");
    }

    #[test]
    fn requests() {
        check("GET / HT", Kind::Request, None);
        check("GET / HTTP/1.1\r\n\r\nGET", Kind::Request, Some((0, 0, 18, true)));
        check("\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Kind::Request, Some((2, 0, 42, false)));
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{chunked}2;x\r\nab\r\n0\r\nt: 1\r\n\r\nGET"), Kind::Request, Some((2, 1, 67, true)));
        check(&format!("{chunked}5\r\nab"), Kind::Request, Some((2, 0, 52, false)));
    }

    #[test]
    fn answers() {
        let (open, ended) =
            (Kind::Answer { to_head: false, ended: false }, Kind::Answer { to_head: false, ended: true });
        check("HTTP/1.1 200 OK\r\n\r\nab", open, Some((2, 0, 21, false)));
        check("HTTP/1.1 200 OK\r\n\r\nab", ended, Some((2, 0, 21, true)));
        check("HTTP/1.1 103 X\r\n\r\nHTTP", open, Some((0, 0, 18, true)));
        let to_head = Kind::Answer { to_head: true, ended: false };
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", to_head, Some((0, 0, 38, true)));
    }
}
