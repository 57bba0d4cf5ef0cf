//! Reads what Redis answers. What does not parse is [`StoreError::Damaged`], never a guess.

use std::collections::BTreeMap;

use redis::{FromRedisValue, Value};

use super::near::Copied;
use crate::error::StoreError;
use crate::rules::Record;
use crate::session::{Applied, Session};

/// The parts of a session beside its fields that [`confirmed`] reads, in this order.
pub(super) const HEAD: [&str; 5] = ["m:created", "m:seen", "m:expires", "m:rev", "m:dead"];

/// What is under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    /// Redis' clock when it looked.
    pub(super) now_ms: u64,
    pub(super) record: Option<Record>,
    /// That of the last write of fields; none in a tombstone.
    pub(super) revision: Option<String>,
}

/// The answer to `TIME` and `HGETALL`.
pub(super) fn loaded(answer: Value) -> Result<Loaded, StoreError> {
    type Hash = Vec<(Vec<u8>, Vec<u8>)>;
    let ((seconds, micros), hash): ((u64, u64), Hash) = parse(answer)?;
    let now_ms = in_ms(seconds, micros);
    if hash.is_empty() {
        return Ok(Loaded { now_ms, record: None, revision: None });
    }
    let mut times = BTreeMap::new();
    let mut fields = BTreeMap::new();
    for (name, value) in hash {
        let (name, value) = (text(name)?, text(value)?);
        if let Some(name) = name.strip_prefix("f:") {
            fields.insert(name.to_owned(), value);
        } else {
            times.insert(name, value);
        }
    }
    let time = |name: &str| {
        let value = times.get(name).ok_or_else(|| StoreError::damaged(format!("no {name}")))?;
        value.parse().map_err(|_| StoreError::damaged(format!("{name} is not a number")))
    };
    let record = if times.contains_key("m:dead") {
        Record::Tombstone { until_ms: time("m:expires")? }
    } else {
        Record::Live(Session {
            fields,
            created_at_ms: time("m:created")?,
            last_seen_ms: time("m:seen")?,
            absolute_expiry_ms: time("m:expires")?,
            observed_at_ms: now_ms,
        })
    };
    let revision = times.remove("m:rev");
    Ok(Loaded { now_ms, record: Some(record), revision })
}

/// The answer to `TIME` and `HMGET` of [`HEAD`]: the session, with the copy's fields, if the copy is of its latest revision.
pub(super) fn confirmed(answer: Value, copy: Copied) -> Result<Option<(u64, Session)>, StoreError> {
    type Head = (Option<u64>, Option<u64>, Option<u64>, Option<Vec<u8>>, Option<Vec<u8>>);
    let ((seconds, micros), head): ((u64, u64), Head) = parse(answer)?;
    let now_ms = in_ms(seconds, micros);
    let (Some(created_at_ms), Some(last_seen_ms), Some(absolute_expiry_ms), Some(revision), None) = head
    else {
        return Ok(None);
    };
    let session = Session {
        fields: copy.fields,
        created_at_ms,
        last_seen_ms,
        absolute_expiry_ms,
        observed_at_ms: now_ms,
    };
    Ok((revision == copy.revision.as_bytes()).then_some((now_ms, session)))
}

fn in_ms(seconds: u64, micros: u64) -> u64 {
    seconds.saturating_mul(1000).saturating_add(micros / 1000)
}

/// The answer of `apply.lua`.
pub(super) fn applied(answer: Value) -> Result<Applied, StoreError> {
    let words: Vec<Vec<u8>> = parse(answer)?;
    let mut words = words.into_iter().map(text);
    let mut next =
        || words.next().unwrap_or_else(|| Err(StoreError::damaged("the script's answer is short")));
    match next()?.as_str() {
        "no-session" => Ok(Applied::NoSession),
        "exists" => Ok(Applied::Exists),
        "limit" => {
            let limit = if next()? == "fields_max" { "fields_max" } else { "session_bytes_max" };
            Err(StoreError::Limit { limit, max: number(&next()?)?, got: number(&next()?)? })
        }
        "applied" => {
            let mut session = Session {
                observed_at_ms: number(&next()?)?,
                created_at_ms: number(&next()?)?,
                last_seen_ms: number(&next()?)?,
                absolute_expiry_ms: number(&next()?)?,
                fields: BTreeMap::new(),
            };
            while let Some(name) = words.next().transpose()? {
                let value = words.next().transpose()?;
                session
                    .fields
                    .insert(name, value.ok_or_else(|| StoreError::damaged("a field without value"))?);
            }
            Ok(Applied::Applied(session))
        }
        _ => Err(StoreError::damaged(next()?)),
    }
}

pub(super) fn parse<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    T::from_redis_value(answer).map_err(|error| StoreError::damaged(error.to_string()))
}

fn text(bytes: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(bytes).map_err(|_| StoreError::damaged("not UTF-8"))
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, StoreError> {
    word.parse().map_err(|_| StoreError::damaged(format!("expected a number, found {word:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Value {
        Value::Array(text.split_whitespace().map(|word| Value::BulkString(word.into())).collect())
    }

    /// The answer to TIME at second 5 and to HGETALL, drawn as names and values; what was understood, drawn too.
    #[track_caller]
    fn check_loaded(hash: &str, expected: &str) {
        let drawn = match loaded(Value::Array(vec![words("5 7000"), words(hash)])) {
            Ok(Loaded { now_ms: 5007, record, revision }) => {
                let record = match record {
                    None => "none".to_owned(),
                    Some(Record::Tombstone { until_ms }) => format!("dead until {until_ms}"),
                    Some(Record::Live(session)) => drawn(&session),
                };
                record + &revision.map_or_else(String::new, |revision| format!(" at {revision}"))
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => error.kind().to_owned(),
        };
        assert_eq!(drawn, expected, "{hash}");
    }

    fn drawn(session: &Session) -> String {
        let Session { created_at_ms, last_seen_ms, absolute_expiry_ms, fields, .. } = session;
        format!("{created_at_ms} {last_seen_ms} {absolute_expiry_ms} {fields:?}")
    }

    /// The answer to HMGET of the head, `-` for what is not there, about a copy of revision `abc`.
    #[track_caller]
    fn check_confirmed(head: &str, expected: Option<&str>) {
        let word = |word: &str| if word == "-" { Value::Nil } else { Value::BulkString(word.into()) };
        let head = Value::Array(head.split(' ').map(word).collect());
        let copy = Copied { revision: "abc".into(), fields: [("a".to_owned(), "b".to_owned())].into() };
        let confirmed = confirmed(Value::Array(vec![words("5 7000"), head]), copy).unwrap();
        assert_eq!(confirmed.map(|(_, session)| drawn(&session)).as_deref(), expected);
    }

    #[test]
    fn a_copy_of_the_latest_revision_is_the_session() {
        check_confirmed("1 2 3 abc -", Some(r#"1 2 3 {"a": "b"}"#));
    }

    #[test]
    fn any_other_copy_is_nothing() {
        check_confirmed("1 2 3 abd -", None);
        check_confirmed("1 2 3 - -", None);
        check_confirmed("- - 3 abc rotated", None);
        check_confirmed("- - - - -", None);
    }

    #[track_caller]
    fn check_applied(answer: &str, expected: &str) {
        let drawn = match applied(words(answer)) {
            Ok(Applied::Applied(session)) => format!("{} {:?}", session.last_seen_ms, session.fields),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(drawn, expected, "{answer}");
    }

    #[test]
    fn sessions_and_tombstones_are_read() {
        check_loaded("", "none");
        check_loaded("m:created 1 m:seen 2 m:expires 3 f:a b", r#"1 2 3 {"a": "b"}"#);
        check_loaded("m:created 1 m:seen 2 m:expires 3 m:rev abc f:a b", r#"1 2 3 {"a": "b"} at abc"#);
        check_loaded("m:dead rotated m:expires 9000", "dead until 9000");
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        check_loaded("m:created 1 m:seen 2 m:expires 3 v:a 77 f:a b", r#"1 2 3 {"a": "b"}"#);
    }

    #[test]
    fn what_is_not_ours_is_damaged() {
        check_loaded("f:a b", "damaged");
        check_loaded("m:dead rotated", "damaged");
        check_loaded("m:created x m:seen 2 m:expires 3", "damaged");
        check_loaded("m:created -1 m:seen 2 m:expires 3", "damaged");
        check_loaded("m:created 1 m:seen 2 m:expires", "damaged");
    }

    #[test]
    fn other_shapes_are_damaged() {
        for answer in [Value::Nil, Value::Int(1), Value::Array(vec![]), words("5 7000")] {
            assert_eq!(loaded(answer.clone()).unwrap_err().kind(), "damaged", "{answer:?}");
        }
        let latin = Value::Array(vec![Value::BulkString(vec![0xff]), Value::BulkString(vec![0xff])]);
        assert_eq!(loaded(Value::Array(vec![words("5 7000"), latin])).unwrap_err().kind(), "damaged");
    }

    #[test]
    fn a_clock_that_cannot_be_does_not_overflow() {
        let answer = Value::Array(vec![words(&format!("{} 0", u64::MAX)), words("")]);
        assert_eq!(loaded(answer), Ok(Loaded { now_ms: u64::MAX, record: None, revision: None }));
    }

    #[test]
    fn answers_of_the_script_are_read() {
        check_applied("applied 5 1 2 9 a b", r#"2 {"a": "b"}"#);
        check_applied("no-session", "NoSession");
        check_applied("exists", "Exists");
        check_applied("limit fields_max 3 4", "session limit fields_max exceeded: 4, at most 3");
        check_applied(
            "limit session_bytes_max 3 4",
            "session limit session_bytes_max exceeded: 4, at most 3",
        );
    }

    #[test]
    fn answers_of_another_script_are_damaged() {
        let damaged = "stored session is damaged: ";
        check_applied("", &format!("{damaged}the script's answer is short"));
        check_applied("applied 5 1", &format!("{damaged}the script's answer is short"));
        check_applied("applied 5 1 2 9 a", &format!("{damaged}a field without value"));
        check_applied("applied 5 1 2 soon", &format!("{damaged}expected a number, found \"soon\""));
        check_applied("damaged why", &format!("{damaged}why"));
    }
}
