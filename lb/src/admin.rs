//! What operators may ask for at the admin listener while the balancer runs. The kit has checked the host, and for changes
//! the token, before anything comes here.
//!
//! | Request | |
//! |---|---|
//! | `GET /admin/pools` | pools and backends as JSON, the `pools` of `/stats.json` |
//! | `GET /admin/explain?host=&path=&method=&cookie=&header=&client=` | which backend such a request would get, and why |
//! | `POST /admin/pools/{pool}/backends/{backend}/drain`, `undrain`, `maintenance`, `ready`, `reset` | |
//! | `.../weight` with `{"weight": 0..256}` | |
//! | `.../limit` with `{"limit": 1..}` | |
//! | `.../eject` with `{"seconds": 0.001..86400}` | |
//! | `POST /admin/pools/{pool}/backends` with `{"address": "192.0.2.1:3000"}` | adds one that discovery does not know |
//! | `DELETE /admin/pools/{pool}/backends/{backend}` | removes one that was added |
//!
//! `PUT` does the same as `POST`. `{backend}` is its instance's name or its address. The answer comes when the order is in
//! force: `{"pool","backend","address","state"}`; what is refused is a problem (RFC 9457) with a `reason`.

mod explain;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use service_kit::admin::{Ends, problem};
use tokio::sync::mpsc;

use crate::roster::{self, Command, Done, Event, Order, Refused};
use crate::stats::{self, Source};

/// More than any of the bodies above needs.
const BODY_BYTES_MAX: usize = 1_024;

/// What orders go to.
type Events = mpsc::Sender<Event>;

/// All of the balancer's own routes on the admin listener.
pub(crate) fn routes(source: Source, events: Events) -> Router {
    let orders = Router::new()
        .route("/admin/pools/{pool}/backends", post(add).put(add))
        .route("/admin/pools/{pool}/backends/{backend}", delete(remove))
        .route("/admin/pools/{pool}/backends/{backend}/{action}", post(order).put(order))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(events);
    let reads = Router::new()
        .route("/admin/pools", get(pools))
        .route("/admin/explain", get(explain::ask))
        .with_state(source.clone());
    stats::routes(source).merge(orders).merge(reads)
}

async fn pools(State(source): State<Source>) -> Response {
    Json(serde_json::json!({ "pools": source.read().pools })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weight {
    weight: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Eject {
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    address: SocketAddr,
}

/// Why a request is no order.
enum Bad {
    Action,
    Body(String),
    Query(String),
}

impl IntoResponse for Bad {
    fn into_response(self) -> Response {
        match self {
            Self::Action => {
                let known = "drain, undrain, maintenance, ready, reset, weight, limit or eject";
                problem(StatusCode::NOT_FOUND, "no-action", &format!("write {known} at the end of the path"))
            }
            Self::Body(detail) => problem(StatusCode::BAD_REQUEST, "bad-body", &detail),
            Self::Query(detail) => problem(StatusCode::BAD_REQUEST, "bad-query", &detail),
        }
    }
}

fn body<T: DeserializeOwned>(bytes: &[u8], example: &str) -> Result<T, Bad> {
    serde_json::from_slice(bytes).map_err(|error| Bad::Body(format!("{error}; send for example {example}")))
}

/// The order that an action and its body mean.
fn command(action: &str, bytes: &[u8]) -> Result<Command, Bad> {
    Ok(match action {
        "drain" => Command::Drain,
        "undrain" => Command::Undrain,
        "maintenance" => Command::Maintenance,
        "ready" => Command::Ready,
        "reset" => Command::Reset,
        "weight" => Command::Weight(body::<Weight>(bytes, r#"{"weight": 50}"#)?.weight),
        "limit" => Command::Limit(body::<Limit>(bytes, r#"{"limit": 100}"#)?.limit),
        "eject" => {
            let seconds = body::<Eject>(bytes, r#"{"seconds": 30}"#)?.seconds;
            let time = Duration::try_from_secs_f64(seconds).map_err(|error| {
                Bad::Body(format!("seconds: {error}; send for example {{\"seconds\": 30}}"))
            })?;
            Command::Eject(time)
        }
        _ => return Err(Bad::Action),
    })
}

async fn order(
    State(events): State<Events>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((pool, backend, action)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Response {
    match command(&action, &bytes) {
        Ok(command) => carry_out(&events, pool, backend, command, ends).await,
        Err(bad) => bad.into_response(),
    }
}

async fn add(
    State(events): State<Events>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path(pool): Path<String>,
    bytes: Bytes,
) -> Response {
    match body::<Address>(&bytes, r#"{"address": "192.0.2.1:3000"}"#) {
        Ok(Address { address }) => {
            carry_out(&events, pool, address.to_string(), Command::Add(address), ends).await
        }
        Err(bad) => bad.into_response(),
    }
}

async fn remove(
    State(events): State<Events>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((pool, backend)): Path<(String, String)>,
) -> Response {
    carry_out(&events, pool, backend, Command::Remove, ends).await
}

async fn carry_out(events: &Events, pool: String, backend: String, command: Command, ends: Ends) -> Response {
    let by = format!("admin {}", ends.peer.ip());
    let order = Order { pool: pool.clone(), backend: backend.clone(), command, by };
    match roster::ask(events, order).await {
        Ok(Done { address, state }) => {
            let status =
                if matches!(command, Command::Add(_)) { StatusCode::CREATED } else { StatusCode::OK };
            let state = state.map_or("removed", |state| state.as_str());
            let done =
                serde_json::json!({ "pool": pool, "backend": backend, "address": address, "state": state });
            (status, Json(done)).into_response()
        }
        Err(refused) => problem(status_of(&refused), refused.kind(), &refused.to_string()),
    }
}

fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NoPool { .. } | Refused::NoBackend { .. } => StatusCode::NOT_FOUND,
        Refused::Ambiguous { .. } | Refused::Present { .. } | Refused::Discovered { .. } => {
            StatusCode::CONFLICT
        }
        Refused::Weight { .. } | Refused::Limit | Refused::Time => StatusCode::BAD_REQUEST,
        Refused::Ending => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(action: &str, body: &str, expected: Result<Command, &str>) {
        let got = command(action, body.as_bytes()).map_err(|bad| match bad {
            Bad::Action => "no such action".to_owned(),
            Bad::Body(detail) | Bad::Query(detail) => detail,
        });
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(detail), Err(part)) => assert!(detail.contains(part), "{detail} should contain {part}"),
            (got, expected) => panic!("{action} {body}: {got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn actions_and_their_bodies() {
        check("drain", "", Ok(Command::Drain));
        check("undrain", "", Ok(Command::Undrain));
        check("maintenance", "", Ok(Command::Maintenance));
        check("ready", "", Ok(Command::Ready));
        check("reset", "", Ok(Command::Reset));
        check("weight", r#"{"weight": 50}"#, Ok(Command::Weight(50)));
        check("limit", r#"{"limit": 7}"#, Ok(Command::Limit(7)));
        check("eject", r#"{"seconds": 1.5}"#, Ok(Command::Eject(Duration::from_millis(1_500))));
    }

    #[test]
    fn what_is_no_order_says_what_to_send() {
        check("explode", "", Err("no such action"));
        check("weight", "", Err(r#"send for example {"weight": 50}"#));
        check("weight", r#"{"weight": -1}"#, Err("invalid value"));
        check("weight", r#"{"weight": 50, "more": 1}"#, Err("unknown field"));
        check("limit", "100", Err("invalid type"));
        check("eject", r#"{"seconds": -1}"#, Err("seconds: "));
        check("eject", r#"{"seconds": 1e300}"#, Err("seconds: "));
    }
}
