//! Reads what Redis answers. What does not parse is [`StoreError::Damaged`], never a guess.

use std::collections::BTreeMap;

use redis::{FromRedisValue, Value};

use crate::error::StoreError;
use crate::rules::Record;
use crate::session::{Applied, Session};

/// The answer to `TIME` and `HGETALL`: the clock, and what is under the key.
pub(super) fn loaded(answer: Value) -> Result<(u64, Option<Record>), StoreError> {
    type Hash = Vec<(Vec<u8>, Vec<u8>)>;
    let ((seconds, micros), hash): ((u64, u64), Hash) = parse(answer)?;
    let now_ms = seconds.saturating_mul(1000).saturating_add(micros / 1000);
    if hash.is_empty() {
        return Ok((now_ms, None));
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
    Ok((now_ms, Some(record)))
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
            Ok((5007, None)) => "none".to_owned(),
            Ok((5007, Some(Record::Tombstone { until_ms }))) => format!("dead until {until_ms}"),
            Ok((5007, Some(Record::Live(session)))) => format!(
                "{} {} {} {:?}",
                session.created_at_ms, session.last_seen_ms, session.absolute_expiry_ms, session.fields
            ),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.kind().to_owned(),
        };
        assert_eq!(drawn, expected, "{hash}");
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
        assert_eq!(loaded(answer), Ok((u64::MAX, None)));
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
