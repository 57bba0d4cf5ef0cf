//! The one-shot commands: look at one session, and end one.
//!
//! A session is named by its id (64 hexadecimal digits, as in logs) or by its cookie value (43 characters). The cookie
//! value is better given on stdin: the words of a command line can be read by everybody on the machine.

use std::io::{BufRead as _, Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use service_kit::{Context, Error};
use tokio::time::timeout;

use crate::config::Config;
use crate::health::Health;
use crate::policy::Policy;
use crate::redis_store::{Found, RedisStore};
use crate::session::{Applied, Change, Expect, Session};
use crate::token::{SessionId, SessionToken};

/// How long a command waits for the store.
const REACH_DEADLINE: Duration = Duration::from_secs(5);

/// Longest line read from stdin; names of sessions are far shorter.
const LINE_BYTES_MAX: u64 = 1024;

/// Prints one JSON object about the session: `state` is `live`, `ended` (destroyed or rotated away) or `unknown`
/// (never was, or expired). Values are hidden unless the word `values` follows, because they belong to a person.
pub async fn inspect(cx: Context<Config>) -> Result<(), Error> {
    let mut words = cx.arguments.clone();
    let with_values = words.last().is_some_and(|word| word == "values");
    if with_values {
        words.pop();
    }
    let id = named(&words).await?;
    let store = reach(&cx.settings).await?;
    let report = match store.look(&id).await? {
        Found::Live { session, expires_at_ms } => live(&id, &session, expires_at_ms, with_values),
        Found::Ended { until_ms } => {
            json!({"id": id.to_string(), "state": "ended", "remembered_until_ms": until_ms})
        }
        Found::Unknown => json!({"id": id.to_string(), "state": "unknown"}),
    };
    print(&report)
}

fn live(id: &SessionId, session: &Session, expires_at_ms: u64, with_values: bool) -> Value {
    let field = |(name, value): (&String, &String)| {
        let shown = if with_values { json!(value) } else { json!({"bytes": value.len()}) };
        (name.clone(), shown)
    };
    json!({
        "id": id.to_string(),
        "state": "live",
        "created_at_ms": session.created_at_ms,
        "last_seen_ms": session.last_seen_ms,
        "expires_at_ms": expires_at_ms,
        "absolute_expiry_ms": session.absolute_expiry_ms,
        "fields": session.fields.iter().map(field).collect::<serde_json::Map<_, _>>(),
    })
}

/// Ends the session and prints whether there was one. Ending a session twice is no error.
pub async fn revoke(cx: Context<Config>) -> Result<(), Error> {
    let id = named(&cx.arguments).await?;
    let store = reach(&cx.settings).await?;
    let applied = store.apply(&id, Expect::Present, &[Change::Destroy]).await?;
    print(&json!({"id": id.to_string(), "revoked": matches!(applied, Applied::Applied(_))}))
}

/// The session that the command is about: its one word, or a line of stdin when there is none or it is `-`.
async fn named(words: &[String]) -> Result<SessionId, Error> {
    match words {
        [word] if word != "-" => parse(word),
        [] | [_] => {
            let line = tokio::task::spawn_blocking(|| -> std::io::Result<String> {
                let mut line = String::new();
                std::io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line)?;
                Ok(line)
            });
            parse(line.await??.trim())
        }
        _ => Err("one session at a time: give one id or cookie value".into()),
    }
}

/// The error does not repeat what was given: it may be somebody's cookie with a typing error.
fn parse(text: &str) -> Result<SessionId, Error> {
    let id = SessionId::parse(text).or_else(|| SessionToken::parse(text).map(|token| token.id()));
    id.ok_or_else(|| "neither a session id (64 hexadecimal digits) nor a cookie value (43 characters)".into())
}

async fn reach(config: &Config) -> Result<RedisStore, Error> {
    let store = RedisStore::start(&config.redis, Policy::unlimited())?;
    let mut health = store.health();
    let reached = timeout(REACH_DEADLINE, health.wait_for(Health::is_reached)).await.is_ok();
    if reached {
        return Ok(store);
    }
    let last = health.borrow().clone();
    Err(format!("the session store was not reached within {} s: {last:?}", REACH_DEADLINE.as_secs()).into())
}

fn print(report: &Value) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_cookie_values_name_the_same_session() {
        let token = SessionToken::generate();
        assert_eq!(parse(&token.expose()).unwrap(), token.id());
        assert_eq!(parse(&token.id().to_string()).unwrap(), token.id());
    }

    #[test]
    fn errors_do_not_repeat_what_was_given() {
        let error = parse("almost-a-cookie").unwrap_err().to_string();
        assert!(!error.contains("almost"), "{error}");
    }

    #[test]
    fn values_are_hidden_unless_asked_for() {
        let session = Session {
            fields: [("user".to_owned(), "jane".to_owned())].into(),
            created_at_ms: 1,
            last_seen_ms: 2,
            absolute_expiry_ms: 4,
            observed_at_ms: 2,
        };
        let id = SessionToken::generate().id();
        assert_eq!(live(&id, &session, 3, false)["fields"], json!({"user": {"bytes": 4}}));
        assert_eq!(live(&id, &session, 3, true)["fields"], json!({"user": "jane"}));
    }
}
