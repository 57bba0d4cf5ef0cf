//! What operators may ask for at the admin listener. The kit has checked the host, and for changes the token, before
//! anything comes here.
//!
//! | Request | |
//! |---|---|
//! | `GET /admin/pools` | every pool with the state of its members, every steered name, and the orders in force |
//! | `GET /admin/explain?name=&type=&from=` | what a client would be answered, and why |
//! | `POST /admin/steering/{subject}/force-down`, `force-up`, `auto` | `{subject}` is a pool, a choice or an address |
//!
//! `PUT` does the same as `POST`. `force-down` is refused when it takes the last that is healthy, unless `?force=true` is
//! said. What is refused is a problem (RFC 9457) with a `reason`.

mod pools;

use crate::roster::{Request, Wanted, now_unix_ms};
use crate::steering::orders::Refused;
use crate::steering::{Client, Family, Force, Steering};
use crate::wire::{Name, RecordType};
use crate::zone::{Found, Zones};
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use service_kit::admin::{Ends, problem};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What the routes need.
#[derive(Debug, Clone)]
struct Desk {
    zones: Arc<ArcSwap<Zones>>,
    requests: mpsc::Sender<Request>,
}

/// All of the server's own routes on the admin listener.
pub fn routes(zones: Arc<ArcSwap<Zones>>, requests: mpsc::Sender<Request>) -> Router {
    Router::new()
        .route("/admin/pools", get(pools))
        .route("/admin/explain", get(explain))
        .route("/admin/steering/{subject}/{action}", post(order).put(order))
        .with_state(Desk { zones, requests })
}

impl Desk {
    async fn steering(&self) -> Result<Arc<Steering>, Refused> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Look(reply)).await.map_err(|_| Refused::Ending)?;
        answer.await.map_err(|_| Refused::Ending)
    }

    async fn order(&self, wanted: Wanted) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Order(wanted, reply)).await.map_err(|_| Refused::Ending)?;
        answer.await.map_err(|_| Refused::Ending)?
    }
}

fn refused(refused: &Refused) -> Response {
    let status = match refused {
        Refused::NoSubject { .. } | Refused::NoOrder { .. } => StatusCode::NOT_FOUND,
        Refused::LastHealthy { .. } => StatusCode::CONFLICT,
        Refused::NotKept { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::Ending => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, refused.kind(), &refused.to_string())
}

async fn pools(State(desk): State<Desk>) -> Response {
    match desk.steering().await {
        Ok(steering) => Json(pools::report(&steering, now_unix_ms())).into_response(),
        Err(why) => refused(&why),
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Question {
    name: String,
    r#type: String,
    from: Option<IpAddr>,
}

impl Default for Question {
    fn default() -> Question {
        Question { name: String::new(), r#type: "A".into(), from: None }
    }
}

async fn explain(State(desk): State<Desk>, question: Result<Query<Question>, QueryRejection>) -> Response {
    let bad = |detail: &str| problem(StatusCode::BAD_REQUEST, "bad-query", detail);
    let Ok(Query(question)) = question else {
        return bad("ask with name, type (A or AAAA) and from (the client's address), once each");
    };
    let name = match Name::from_text(question.name.as_bytes(), Some(&Name::root())) {
        Ok(name) => name,
        Err(error) => return bad(&format!("name: {error}; write the full name")),
    };
    let Some(record_type) = RecordType::from_text(question.r#type.as_bytes()) else {
        return bad("type: no record type; write for example A");
    };
    let steering = match desk.steering().await {
        Ok(steering) => steering,
        Err(why) => return refused(&why),
    };
    let client = question.from.map(|address| Client { address: address.to_canonical() });
    let mut random = fastrand::Rng::new();
    let mut draw = |below: u64| random.u64(..below.max(1));
    let family = Family::of_type(record_type);
    let explained =
        family.and_then(|family| steering.explain(&name, (family, client), now_unix_ms(), &mut draw));
    match explained {
        Some(explanation) => Json(explanation).into_response(),
        None => Json(from_the_zone(&desk.zones.load(), &name, record_type)).into_response(),
    }
}

/// A name that nothing steers: what its zone says.
fn from_the_zone(zones: &Zones, name: &Name, record_type: RecordType) -> serde_json::Value {
    let Some(zone) = zones.zone_for(name, record_type) else {
        let summary = format!("{name} is in no zone of this server: REFUSED");
        return serde_json::json!({ "name": name.to_string(), "type": record_type.to_string(), "summary": summary });
    };
    let (origin, serial) = (zone.origin(), zone.soa().1.serial);
    let says = match zone.find(name, record_type) {
        Found::Set(rrset) => format!("{} records for {} s", rrset.records.len(), rrset.ttl),
        Found::Alias(_) => "an alias".into(),
        Found::Redirect(at, _) => format!("a DNAME at {}", at.name),
        Found::Referral(cut) => format!("a delegation at {}", cut.name),
        Found::NoData => "no such data".into(),
        Found::NoName => "no such name".into(),
    };
    let summary =
        format!("{name} {record_type} is not steered; the zone {origin}, serial {serial}, has {says}");
    serde_json::json!({
        "name": name.to_string(),
        "type": record_type.to_string(),
        "zone": origin.to_string(),
        "serial": serial,
        "summary": summary,
    })
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Insistence {
    force: bool,
}

async fn order(
    State(desk): State<Desk>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((subject, action)): Path<(String, String)>,
    insistence: Result<Query<Insistence>, QueryRejection>,
) -> Response {
    let force = match action.as_str() {
        "force-down" => Some(Force::Down),
        "force-up" => Some(Force::Up),
        "auto" => None,
        _ => {
            let detail = "write force-down, force-up or auto at the end of the path";
            return problem(StatusCode::NOT_FOUND, "no-action", detail);
        }
    };
    let Ok(Query(Insistence { force: insist })) = insistence else {
        return problem(StatusCode::BAD_REQUEST, "bad-query", "the only thing to ask with is ?force=true");
    };
    let by = format!("admin {}", ends.peer.ip());
    match desk.order(Wanted { subject: subject.clone(), force, by, insist }).await {
        Ok(()) => match desk.steering().await {
            Ok(steering) => {
                let kept = steering.orders_are_kept;
                let done = serde_json::json!({ "subject": subject, "state": action, "kept": kept });
                Json(done).into_response()
            }
            Err(why) => refused(&why),
        },
        Err(why) => refused(&why),
    }
}
