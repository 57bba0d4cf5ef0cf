//! Searching, reading and changing exercises.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tracing::error;

use super::plan;
use crate::catalogue;
use crate::db::exercises::{self, Changed, Exercise};
use crate::db::{users, vectors};
use crate::extract::{Asked, Json, Slug};
use crate::indexing::Document;
use crate::pages;
use crate::problem::Problem;
use crate::searches::{Answer, Hit};
use crate::session::Visitor;
use crate::state::{App, Shared};
use crate::validate;

const X_CACHE: &str = "x-cache";
const MUSCLES_MAX: usize = 20;
const SIMILAR: usize = 6;

#[derive(Debug, Deserialize)]
pub(crate) struct Query {
    q: Option<String>,
    limit: Option<i64>,
}

#[derive(Serialize)]
struct Results<'a> {
    query: &'a str,
    results: &'a [Hit],
}

pub(crate) async fn api_search(
    State(app): State<Shared>,
    Asked(asked): Asked<Query>,
) -> Result<Response, Problem> {
    let text = asked.q.ok_or_else(|| Problem::malformed("q: is missing; write /api/exercises?q=TEXT"))?;
    let limit = validate::limit(asked.limit).map_err(Problem::malformed)?;
    let answer = search(&app, &text, limit).await?;
    let body = Results { query: &text, results: &answer.hits };
    Ok(marked(&answer, axum::Json(body).into_response()))
}

async fn search(app: &Shared, text: &str, limit: usize) -> Result<Answer, Problem> {
    let query = validate::query(text).map_err(Problem::malformed)?;
    if query.is_empty() {
        return Err(Problem::malformed("q: is empty"));
    }
    app.searches.search(&query, limit).await.map_err(|error| Problem::from(&*error))
}

fn marked(answer: &Answer, mut response: Response) -> Response {
    response.headers_mut().insert(X_CACHE, HeaderValue::from_static(answer.origin.as_str()));
    response
}

pub(crate) async fn page_search(
    State(app): State<Shared>,
    headers: HeaderMap,
    Asked(asked): Asked<Query>,
) -> Result<Response, Problem> {
    let (mut visitor, sessions_away) = load_or_anonymous(&app, &headers).await;
    let text = asked.q.unwrap_or_default();
    if text.trim().is_empty() {
        let frame = pages::Frame::of(&app, &mut visitor, sessions_away);
        return Ok(visitor.finish(pages::home(&frame, catalogue::all().len()).into_response()));
    }
    let limit = validate::limit(asked.limit).map_err(Problem::malformed)?;
    let answer = search(&app, &text, limit).await?;
    let frame = pages::Frame::of(&app, &mut visitor, sessions_away);
    let token = (!sessions_away).then(|| visitor.form_token(&app));
    let page = pages::results(&frame, &text, &answer.hits, &plan::slugs(&visitor), token.as_deref());
    Ok(visitor.finish(marked(&answer, page.into_response())))
}

/// Pages that show nothing of the session are shown without one.
async fn load_or_anonymous(app: &App, headers: &HeaderMap) -> (Visitor, bool) {
    match Visitor::load(app, headers).await {
        Ok(visitor) => (visitor, false),
        Err(_) => (Visitor::anonymous(headers), true),
    }
}

pub(crate) async fn page_one(
    State(app): State<Shared>,
    Slug(slug): Slug,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let exercise = find(&app, &slug).await?;
    let (mut visitor, sessions_away) = load_or_anonymous(&app, &headers).await;
    let similar = similar(&app, &exercise).await;
    let frame = pages::Frame::of(&app, &mut visitor, sessions_away);
    let token = (!sessions_away).then(|| visitor.form_token(&app));
    let items = visitor.session().map(crate::plan::items).unwrap_or_default();
    let planned = items.iter().find(|item| item.slug == slug);
    let page = pages::exercise(&frame, &exercise, &similar, planned, token.as_deref());
    Ok(visitor.finish(page.into_response()))
}

/// A nicety: the page is complete without it.
async fn similar(app: &Shared, exercise: &Exercise) -> Vec<Hit> {
    let question = format!("{} {}", exercise.name, exercise.muscles.join(" "));
    match search(app, &question, SIMILAR + 1).await {
        Ok(answer) => {
            answer.hits.iter().filter(|hit| hit.slug != exercise.slug).take(SIMILAR).cloned().collect()
        }
        Err(_) => Vec::new(),
    }
}

pub(crate) async fn api_get(
    State(app): State<Shared>,
    Slug(slug): Slug,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let exercise = find(&app, &slug).await?;
    let tag = etag(exercise.version);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let headers = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    Ok(
        match known
            .is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
        {
            true => (StatusCode::NOT_MODIFIED, headers).into_response(),
            false => (headers, axum::Json(exercise)).into_response(),
        },
    )
}

async fn find(app: &App, slug: &str) -> Result<Exercise, Problem> {
    exercises::by_slug(&app.data, slug)
        .await?
        .ok_or_else(|| Problem::not_found(format!("there is no exercise {slug}")))
}

/// Whether an exercise exists: most of the time without a question to anybody.
pub(super) async fn must_exist(app: &App, slug: &str) -> Result<String, Problem> {
    let slug = validate::slug(slug).map_err(Problem::invalid)?;
    if catalogue::all().iter().any(|exercise| exercise.slug == slug) {
        return Ok(slug);
    }
    match exercises::by_slug(&app.data, &slug).await? {
        Some(_) => Ok(slug),
        None => Err(Problem::not_found(format!("there is no exercise {slug}"))),
    }
}

fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// What an editor sends: what a GET gave, changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    slug: Option<String>,
    name: String,
    level: String,
    equipment: String,
    muscles: Vec<String>,
    instruction: String,
    /// In the GET's answer; If-Match is what counts.
    #[serde(default, rename = "version")]
    _version: Option<i64>,
}

pub(crate) async fn api_put(
    State(app): State<Shared>,
    Slug(slug): Slug,
    headers: HeaderMap,
    Json(change): Json<Change>,
) -> Result<Response, Problem> {
    let visitor = Visitor::load(&app, &headers).await?;
    let user = visitor.must_be_logged_in()?;
    if !users::is_editor(&app.data, user.user_id).await? {
        return Err(Problem::new(StatusCode::FORBIDDEN, "not-an-editor", "only editors change exercises"));
    }
    let versions = if_match(&headers)?;
    let exercise = checked(&slug, change).map_err(Problem::invalid)?;
    match exercises::change(&app.data, &exercise, versions.as_deref()).await? {
        Changed::Done(exercise) => {
            index_again(&app, &exercise).await;
            Ok(([(header::ETAG, etag(exercise.version))], axum::Json(exercise)).into_response())
        }
        Changed::NotFound => Err(Problem::not_found(format!("there is no exercise {slug}"))),
        Changed::OtherVersion => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "other-version",
            "someone changed it since; read it again and repeat the change on that",
        )),
    }
}

/// The versions that the editor has seen; `None` for `*`.
fn if_match(headers: &HeaderMap) -> Result<Option<Vec<i64>>, Problem> {
    let given = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()).ok_or_else(|| {
        Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "if-match-required",
            "send If-Match with the ETag that a GET gave",
        )
    })?;
    if given.trim() == "*" {
        return Ok(None);
    }
    // What is not one of our tags matches nothing, as an old one does.
    let version = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    Ok(Some(given.split(',').filter_map(version).collect()))
}

fn checked(slug: &str, change: Change) -> validate::Checked<Exercise> {
    if change.slug.as_deref().is_some_and(|other| other != slug) {
        return Err("slug: is not the one in the address, and cannot be changed".into());
    }
    if !catalogue::LEVELS.contains(&change.level.as_str()) {
        return Err(format!("level: must be one of {}", catalogue::LEVELS.join(", ")));
    }
    if change.muscles.is_empty() || change.muscles.len() > MUSCLES_MAX {
        return Err(format!("muscles: must be 1 to {MUSCLES_MAX}"));
    }
    let muscle = |text: &String| validate::line("muscles", text, 40);
    Ok(Exercise {
        slug: slug.to_owned(),
        name: validate::line("name", &change.name, 80)?,
        level: change.level,
        equipment: validate::line("equipment", &change.equipment, 60)?,
        muscles: change.muscles.iter().map(muscle).collect::<Result<_, _>>()?,
        instruction: validate::line("instruction", &change.instruction, 2000)?,
        version: 0,
    })
}

/// The change is made, whatever happens here: without the new vector the exercise is found by its old text until
/// `app migrate` runs again.
async fn index_again(app: &App, exercise: &Exercise) {
    let document = Document::of(&*app.searches.embedder, exercise);
    let name = app.searches.embedder.name();
    if let Err(error) = vectors::put(&app.searches.search, &exercise.slug, name, &document).await {
        error!(slug = exercise.slug, %error, "the exercise changed, but not its vector; run app migrate");
    }
    app.searches.cache.invalidate().await;
}
