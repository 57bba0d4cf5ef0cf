//! One line: an object of JSON, whatever the client sent.

use super::Entry;
use crate::answer::Verdict;
use crate::steering::Family;
use crate::wire::query::HEADER_BYTES;
use crate::wire::{Name, RecordType};
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use std::net::IpAddr;
use time::OffsetDateTime;

/// In the order in which a reader looks for them.
#[derive(Serialize)]
struct Line<'e> {
    #[serde(serialize_with = "display")]
    time: Time,
    transport: &'static str,
    client: IpAddr,
    /// In the case it was asked in; nothing where the question cannot be read.
    #[serde(serialize_with = "display_some")]
    name: Option<Name>,
    #[serde(serialize_with = "display_some")]
    r#type: Option<RecordType>,
    /// Nothing where no answer was given, because its network had too many.
    rcode: Option<&'static str>,
    bytes: usize,
    truncated: bool,
    path: &'static str,
    /// What steers the name; nothing where only its zone does.
    choice: Option<&'e str>,
}

fn display<S: Serializer>(value: &impl Display, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(value)
}

fn display_some<S: Serializer>(value: &Option<impl Display>, out: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => out.collect_str(value),
        None => out.serialize_none(),
    }
}

pub(super) fn write(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let (name, record_type) = question(entry.query);
    let family = record_type.and_then(Family::of_type);
    let choice =
        name.as_ref().zip(family).and_then(|(name, family)| entry.zones.steering().choice_of(name, family));
    let (rcode, truncated) = match entry.verdict {
        Verdict::Answered { rcode, truncated } => (Some(rcode.as_str()), truncated),
        Verdict::Limited | Verdict::Ignored(_) => (None, false),
    };
    let line = Line {
        time: Time(entry.now_ms),
        transport: entry.transport.as_str(),
        client: entry.client,
        name,
        r#type: record_type,
        rcode,
        bytes: entry.bytes,
        truncated,
        path: entry.path.as_str(),
        choice,
    };
    let start = out.len();
    if serde_json::to_writer(&mut *out, &line).is_err() {
        // Nothing of it can fail; a line is whole or not there.
        out.truncate(start);
        return;
    }
    out.push(b'\n');
}

fn question(query: &[u8]) -> (Option<Name>, Option<RecordType>) {
    if query.get(4..6) != Some(&[0, 1]) {
        return (None, None);
    }
    let Ok((name, at)) = Name::read_plain(query, HEADER_BYTES) else { return (None, None) };
    let octets = query.get(at..at + 2).and_then(|octets| octets.try_into().ok());
    (Some(name), octets.map(|octets| RecordType(u16::from_be_bytes(octets))))
}

/// Milliseconds since 1970, as RFC 3339 writes them.
struct Time(u64);

impl Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (date, clock) = (at.date(), at.time());
        write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second(),
            clock.millisecond(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Transport;
    use crate::metrics::Path;
    use crate::wire::Rcode;
    use crate::zone::Zones;

    /// The line of a query for these octets of a question.
    #[track_caller]
    fn check(question: &[u8], verdict: Verdict, expected: &str) {
        let query = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], question].concat();
        let mut out = Vec::new();
        let entry = Entry {
            now_ms: 1_764_504_198_042,
            transport: Transport::Https,
            client: "2001:db8::".parse().unwrap(),
            query: &query,
            bytes: 97,
            verdict,
            path: Path::Fast,
            zones: &Zones::default(),
        };
        write(&mut out, &entry);
        let line = String::from_utf8(out).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
        assert_eq!(
            line,
            format!(
                "{{\"time\":\"2025-11-30T12:03:18.042Z\",\"transport\":\"https\",\"client\":\"2001:db8::\",{expected},\
                 \"path\":\"fast\",\"choice\":null}}\n"
            )
        );
    }

    #[test]
    fn what_was_asked_and_what_became_of_it() {
        check(
            b"\x01A\x01z\0\0\x01\0\x01",
            Verdict::Answered { rcode: Rcode::NxDomain, truncated: false },
            r#""name":"A.z.","type":"A","rcode":"NXDOMAIN","bytes":97,"truncated":false"#,
        );
        check(
            b"\0\xFF\x01\0\x01",
            Verdict::Answered { rcode: Rcode::NoError, truncated: true },
            r#""name":".","type":"TYPE65281","rcode":"NOERROR","bytes":97,"truncated":true"#,
        );
        check(
            b"\0\0\x01\0\x01",
            Verdict::Limited,
            r#""name":".","type":"A","rcode":null,"bytes":97,"truncated":false"#,
        );
    }
    #[test]
    fn any_octets_make_one_line() {
        let answered = Verdict::Answered { rcode: Rcode::FormErr, truncated: false };
        check(
            b"\x05\"\\\n\xFF\x7F\0\0\x01\0\x01",
            answered,
            r#""name":"\\\"\\\\\\010\\255\\127.","type":"A","rcode":"FORMERR","bytes":97,"truncated":false"#,
        );
        let unread = r#""name":null,"type":null,"rcode":"FORMERR","bytes":97,"truncated":false"#;
        check(b"\x05abc", answered, unread);
        check(b"", answered, unread);
    }
}
