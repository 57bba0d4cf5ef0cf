//! The workout log: durable, one user's own.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::exercises::must_exist;
use super::plan;
use crate::db::workouts::{self, Added, Key, NewWorkout, Workout};
use crate::extract::{Form, Json};
use crate::pages::{self, Frame};
use crate::problem::Problem;
use crate::session::{LoggedIn, Visitor};
use crate::state::{App, Shared};
use crate::validate;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    slug: String,
    sets: i64,
    reps: i64,
    /// 0, or nothing, for exercises without a weight.
    #[serde(default)]
    weight_kg: f64,
    /// Now, if not given.
    performed_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WantedForm {
    slug: String,
    sets: i64,
    reps: i64,
    #[serde(default)]
    weight_kg: String,
    #[serde(default)]
    performed_at: String,
    /// Made with the page, so that a form sent twice is one workout.
    key: String,
    form_token: String,
}

#[derive(Serialize)]
struct Created {
    id: i64,
}

#[derive(Serialize)]
struct List {
    workouts: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    id: i64,
    slug: String,
    sets: i32,
    reps: i32,
    weight_kg: f64,
    performed_at: String,
}

impl From<Workout> for Line {
    fn from(workout: Workout) -> Self {
        Self {
            id: workout.id,
            slug: workout.slug,
            sets: workout.sets,
            reps: workout.reps,
            weight_kg: f64::from(workout.weight_grams) / 1000.0,
            performed_at: workout.performed_at.format(&Rfc3339).unwrap_or_default(),
        }
    }
}

pub(crate) async fn api_list(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = Visitor::load(&app, &headers).await?;
    let user = visitor.must_be_logged_in()?;
    let workouts = workouts::latest(&app.data, user.user_id).await?.into_iter().map(Line::from).collect();
    Ok(visitor.finish(axum::Json(List { workouts }).into_response()))
}

pub(crate) async fn api_add(
    State(app): State<Shared>,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Result<Response, Problem> {
    let visitor = Visitor::load(&app, &headers).await?;
    let user = visitor.must_be_logged_in()?;
    let key = headers.get(IDEMPOTENCY_KEY).map(|value| value.to_str().unwrap_or_default());
    let (id, known) = add(&app, &user, &wanted, key).await?;
    let mut response = (StatusCode::CREATED, axum::Json(Created { id })).into_response();
    if known {
        response.headers_mut().insert("idempotent-replayed", http::HeaderValue::from_static("true"));
    }
    Ok(visitor.finish(response))
}

/// The workout's id, and whether it is of an earlier request with the same key.
async fn add(app: &App, user: &LoggedIn, wanted: &Wanted, key: Option<&str>) -> Result<(i64, bool), Problem> {
    let workout = checked(app, user, wanted, key).await?;
    match workouts::add(&app.data, &workout).await? {
        Added::Created(id) => Ok((id, false)),
        Added::Known(id) => Ok((id, true)),
        Added::KeyReused => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "this Idempotency-Key was used for another workout; take a new one for each",
        )),
    }
}

async fn checked(
    app: &App,
    user: &LoggedIn,
    wanted: &Wanted,
    key: Option<&str>,
) -> Result<NewWorkout, Problem> {
    let key = key.map(validate::idempotency_key).transpose().map_err(Problem::malformed)?;
    let performed_at = match &wanted.performed_at {
        Some(text) => validate::moment(text).map_err(Problem::invalid)?,
        None => OffsetDateTime::now_utc(),
    };
    let sets = validate::sets(wanted.sets).map_err(Problem::invalid)?;
    let reps = validate::reps(wanted.reps).map_err(Problem::invalid)?;
    let weight_grams = validate::weight_grams(wanted.weight_kg).map_err(Problem::invalid)?;
    let slug = must_exist(app, &wanted.slug).await?;
    // Of what was asked, not of what we made of it: "now" is another moment each time.
    let asked = format!("{slug}\0{sets}\0{reps}\0{weight_grams}\0{:?}", wanted.performed_at);
    let key = key.map(|text| Key { text, request_digest: Sha256::digest(asked).into() });
    Ok(NewWorkout { user_id: user.user_id, slug, sets, reps, weight_grams, performed_at, key })
}

pub(crate) async fn page(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = Visitor::load(&app, &headers).await?;
    if visitor.logged_in().is_none() {
        return Ok(Redirect::to("/login").into_response());
    }
    show(&app, visitor, None).await
}

async fn show(app: &App, mut visitor: Visitor, problem: Option<&Problem>) -> Result<Response, Problem> {
    let user = visitor.must_be_logged_in()?;
    let workouts = workouts::latest(&app.data, user.user_id).await?;
    let planned = plan::slugs(&visitor);
    let slugs =
        workouts.iter().map(|workout| workout.slug.as_str()).chain(planned.iter().map(String::as_str));
    let names = plan::names(app, slugs).await;
    let (frame, token) = (Frame::of(app, &mut visitor, false), visitor.form_token(app));
    let form = pages::WorkoutForm {
        key: service_kit::trace::new_request_id(),
        today: OffsetDateTime::now_utc().date().to_string(),
        token,
        planned: planned.into_iter().collect(),
    };
    let page = pages::workouts(&frame, &workouts, &names, &form, problem);
    let status = problem.map_or(StatusCode::OK, |problem| problem.status);
    Ok(visitor.finish((status, page).into_response()))
}

pub(crate) async fn form_add(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<WantedForm>,
) -> Result<Response, Problem> {
    let visitor = Visitor::load(&app, &headers).await?;
    visitor.check_form(&app, &form.form_token)?;
    let user = visitor.must_be_logged_in()?;
    let wanted = wanted(&form);
    let added = match wanted {
        Ok(wanted) => add(&app, &user, &wanted, Some(&form.key)).await,
        Err(problem) => Err(problem),
    };
    match added {
        Ok(_) => Ok(visitor.finish(Redirect::to("/workouts").into_response())),
        Err(problem) if problem.status.is_client_error() => show(&app, visitor, Some(&problem)).await,
        Err(problem) => Err(problem),
    }
}

/// Browsers send empty fields as empty text.
fn wanted(form: &WantedForm) -> Result<Wanted, Problem> {
    let weight = form.weight_kg.trim();
    let weight_kg = match weight.is_empty() {
        true => 0.0,
        false => weight.parse().map_err(|_| Problem::invalid("weight_kg: is not a number"))?,
    };
    let performed_at = Some(form.performed_at.clone()).filter(|text| !text.is_empty());
    // People write names; "Front Squat" is front-squat.
    let slug = crate::catalogue::slug(&form.slug);
    Ok(Wanted { slug, sets: form.sets, reps: form.reps, weight_kg, performed_at })
}
