//! A second reader of HTTP/1.1 requests: slow, strict and written from RFC 9112 alone, so that it shares no mistake with
//! the one that serves.

/// One request as it stands at the beginning of some bytes.
#[derive(Debug)]
pub(super) struct Message<'bytes> {
    pub(super) method: &'bytes [u8],
    pub(super) target: &'bytes [u8],
    /// Names as they were sent, values without the blanks around them.
    pub(super) fields: Vec<(&'bytes [u8], &'bytes [u8])>,
    /// `None` where it is cut or broken.
    pub(super) body: Option<Vec<u8>>,
    /// Where the next message begins; meaningless without a body.
    pub(super) end: usize,
}

impl<'bytes> Message<'bytes> {
    /// The values of all fields of a name in small letters, in order.
    pub(super) fn values(&self, name: &str) -> Vec<&'bytes [u8]> {
        let is_it = |field: &&(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(is_it).map(|field| field.1).collect()
    }
}

/// Reads the first request; `None` if it is not one that has one reading only.
pub(super) fn read(bytes: &[u8]) -> Option<Message<'_>> {
    // Empty lines before a request are ignored (RFC 9112, 2.2).
    let mut start = 0;
    while bytes[start..].starts_with(b"\r\n") {
        start += 2;
    }
    let length = find(&bytes[start..], b"\r\n\r\n")?;
    let (head, rest) = (&bytes[start..start + length], start + length + 4);
    let mut lines = split(head);
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_known = matches!(version, b"HTTP/1.1" | b"HTTP/1.0") && words.next().is_none();
    if !is_known || !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let fields: Vec<_> = lines.map(field).collect::<Option<_>>()?;
    let mut message = Message { method, target, fields, body: None, end: rest };
    let (codings, lengths) = (message.values("transfer-encoding"), message.values("content-length"));
    let body = match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Some((Vec::new(), 0)),
        ([], [first, others @ ..]) => {
            let length = number(first, 10)?;
            if others.iter().any(|other| number(other, 10) != Some(length)) {
                return None;
            }
            bytes[rest..].get(..length).map(|body| (body.to_vec(), length))
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && version == b"HTTP/1.1" => {
            chunked(&bytes[rest..])
        }
        _ => return None,
    };
    if let Some((body, length)) = body {
        message.body = Some(body);
        message.end = rest + length;
    }
    Some(message)
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let plain = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    (is_token(name) && value.iter().all(plain)).then_some((name, value))
}

/// The content of a chunked body and how long it is as it was sent, with its last line; `None` if it is not whole.
fn chunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = &bytes[at..at + find(&bytes[at..], b"\r\n")?];
        if line.contains(&b'\n') || line.contains(&b'\r') {
            return None;
        }
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        let size = number(size, 16)?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        body.extend_from_slice(bytes.get(at..end)?);
        if bytes.get(end..end.checked_add(2)?)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    // Trailers, up to an empty line.
    loop {
        let line = &bytes[at..at + find(&bytes[at..], b"\r\n")?];
        at += line.len() + 2;
        if line.is_empty() {
            return Some((body, at));
        }
        field(line)?;
    }
}

fn split(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let now = rest?;
        let end = find(now, b"\r\n");
        rest = end.map(|end| &now[end + 2..]);
        Some(&now[..end.unwrap_or(now.len())])
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn is_token(word: &[u8]) -> bool {
    let mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || mark(*byte))
}

fn number(digits: &[u8], radix: u32) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    let plain = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    plain.then(|| usize::from_str_radix(text, radix).ok())?
}
