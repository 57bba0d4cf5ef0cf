//! `GET /admin/explain`: where a request would go and why, without sending it.
//!
//! The cookie is part of the question and may be somebody's: it is neither logged nor given back.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::header::{COOKIE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};

use super::Bad;
use crate::affinity::Now;
use crate::explain::{self, Explanation};
use crate::retry;
use crate::stats::Source;

/// The question.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Question {
    host: String,
    /// With or without a query, which no route looks at.
    path: String,
    method: String,
    /// A whole `Cookie` header: `route=...; other=...`.
    cookie: String,
    /// One more header, `name: value`, for pools that hash one.
    header: String,
    /// The client's address.
    client: IpAddr,
}

impl Default for Question {
    fn default() -> Self {
        let text = String::new;
        let (path, method) = ("/".to_owned(), "GET".to_owned());
        Self {
            host: text(),
            path,
            method,
            cookie: text(),
            header: text(),
            client: Ipv4Addr::LOCALHOST.into(),
        }
    }
}

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    explanation: Explanation,
    method: String,
    /// Whether another backend may be asked when one fails.
    retried: &'static str,
}

pub(super) async fn ask(
    State(source): State<Source>,
    question: Result<Query<Question>, axum::extract::rejection::QueryRejection>,
) -> Response {
    // The rejection's own text would repeat the query, and with it the cookie.
    let Ok(Query(question)) = question else {
        let known = "host, path, method, cookie, header and client (an address), once each";
        return Bad::Query(format!("ask with {known}")).into_response();
    };
    match answer(&source, &question) {
        Ok(answer) => Json(answer).into_response(),
        Err(bad) => bad.into_response(),
    }
}

fn answer(source: &Source, question: &Question) -> Result<Answer, Bad> {
    let (headers, method) = parse(question)?;
    let path = question.path.split(['?', '#']).next().unwrap_or("/");
    let query = explain::Query { host: &question.host, path, headers: &headers, client: question.client };
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = Now { unix_s, steady: Instant::now() };
    let explanation = explain::explain(&source.snapshot(), &query, now);
    let retried = match (retry::is_idempotent(&method), explanation.retries_max) {
        (_, 0) => "never: retry.retries_max is 0",
        (true, _) => "on other backends until one answers, if its body is empty or buffered",
        (false, _) => "only while not a byte of it was written: the method is not idempotent",
    };
    Ok(Answer { explanation, method: method.to_string(), retried })
}

fn parse(question: &Question) -> Result<(HeaderMap, Method), Bad> {
    let bad = |what: &str| Bad::Query(format!("{what} cannot stand in a request"));
    let method = question.method.parse().map_err(|_| bad("method"))?;
    if !question.path.starts_with('/') {
        return Err(Bad::Query("path: write one that begins with /".into()));
    }
    let mut headers = HeaderMap::new();
    for (name, text) in [(HOST, &question.host), (COOKIE, &question.cookie)] {
        if !text.is_empty() {
            let value = HeaderValue::from_str(text).map_err(|_| bad(name.as_str()))?;
            headers.insert(name, value);
        }
    }
    if !question.header.is_empty() {
        let (name, value) =
            question.header.split_once(':').ok_or_else(|| Bad::Query("header: write name: value".into()))?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad("header"))?;
        headers.insert(name, HeaderValue::from_str(value.trim()).map_err(|_| bad("header"))?);
    }
    Ok((headers, method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Result<&str, &str>) {
        let uri = format!("http://localhost/?{query}").parse().unwrap();
        let parsed = Query::<Question>::try_from_uri(&uri).map_err(|_| "query".to_owned());
        let got = parsed.and_then(|Query(question)| {
            parse(&question).map_err(|bad| match bad {
                Bad::Query(detail) | Bad::Body(detail) => detail,
                Bad::Action => unreachable!("there is no action here"),
            })
        });
        match (got, expected) {
            (Ok((headers, method)), Ok(expected)) => {
                let lines: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
                    .collect();
                assert_eq!(format!("{method} {}", lines.join(" ")).trim(), expected);
            }
            (Err(detail), Err(part)) => assert!(detail.contains(part), "{detail}"),
            (got, _) => panic!("{query}: {got:?}"),
        }
    }

    #[test]
    fn questions() {
        check("", Ok("GET"));
        check("host=a.example&path=/x%3Fy=z", Ok("GET host=a.example"));
        check("method=POST&cookie=route%3Dx&client=192.0.2.1", Ok("POST cookie=route=x"));
        check("header=x-user:%20ann", Ok("GET x-user=ann"));
    }

    #[test]
    fn what_is_no_question() {
        check("path=x", Err("begins with /"));
        check("method=A%20B", Err("method"));
        check("cookie=a%0Ab", Err("cookie"));
        check("header=x", Err("name: value"));
        check("client=nobody", Err("query"));
        check("nonsense=1", Err("query"));
    }
}
