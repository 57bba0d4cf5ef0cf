//! The training plan: kept in the session, also of visitors who never log in.

use std::collections::{BTreeSet, HashMap};

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::exercises::must_exist;
use crate::catalogue;
use crate::db::exercises;
use crate::extract::{Form, Json, Slug};
use crate::pages::{self, Frame};
use crate::plan::{self, Item};
use crate::problem::Problem;
use crate::session::Visitor;
use crate::state::{App, Shared};
use crate::validate;

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    slug: String,
    sets: i64,
    reps: i64,
    /// Forms only.
    #[serde(default)]
    form_token: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Unwanted {
    slug: String,
    form_token: String,
}

#[derive(Serialize)]
struct Items {
    items: Vec<Item>,
}

pub(crate) async fn api_get(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = Visitor::load(&app, &headers).await?;
    Ok(answer(visitor))
}

pub(crate) async fn api_add(
    State(app): State<Shared>,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    add(&app, &mut visitor, &wanted).await?;
    Ok(answer(visitor))
}

pub(crate) async fn api_remove(
    State(app): State<Shared>,
    Slug(slug): Slug,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    remove(&app, &mut visitor, &slug).await?;
    Ok(answer(visitor))
}

fn answer(visitor: Visitor) -> Response {
    let items = visitor.session().map(plan::items).unwrap_or_default();
    visitor.finish(axum::Json(Items { items }).into_response())
}

async fn add(app: &App, visitor: &mut Visitor, wanted: &Wanted) -> Result<(), Problem> {
    let sets = validate::sets(wanted.sets).map_err(Problem::invalid)?;
    let reps = validate::reps(wanted.reps).map_err(Problem::invalid)?;
    let item = Item { slug: must_exist(app, &wanted.slug).await?, sets, reps };
    let full = visitor
        .session()
        .is_some_and(|session| plan::len(session) >= plan::ITEMS_MAX && !plan::contains(session, &item.slug));
    if full {
        return Err(Problem::invalid(format!(
            "the plan has {} exercises already; remove one first",
            plan::ITEMS_MAX
        )));
    }
    visitor.store(app, &[item.set()]).await
}

/// What is not in the plan is gone already: no session is made to say so.
async fn remove(app: &App, visitor: &mut Visitor, slug: &str) -> Result<(), Problem> {
    match visitor.session().is_some_and(|session| plan::contains(session, slug)) {
        true => visitor.store(app, &[plan::remove(slug)]).await,
        false => Ok(()),
    }
}

/// The slugs in the visitor's plan, for pages that mark them.
pub(super) fn slugs(visitor: &Visitor) -> BTreeSet<String> {
    visitor.session().map(plan::items).unwrap_or_default().into_iter().map(|item| item.slug).collect()
}

pub(crate) async fn page(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    let items = visitor.session().map(plan::items).unwrap_or_default();
    let names = names(&app, items.iter().map(|item| item.slug.as_str())).await;
    let (frame, token) = (Frame::of(&app, &mut visitor, false), visitor.form_token(&app));
    let page = pages::plan(&frame, &items, &names, &token);
    Ok(visitor.finish(page.into_response()))
}

/// Names to show for slugs: from the catalogue in this program, else from the database, else the slug.
pub(super) async fn names(app: &App, slugs: impl Iterator<Item = &str>) -> HashMap<String, String> {
    let wanted: BTreeSet<&str> = slugs.collect();
    let mut names: HashMap<String, String> = catalogue::all()
        .iter()
        .filter(|exercise| wanted.contains(exercise.slug.as_str()))
        .map(|exercise| (exercise.slug.clone(), exercise.name.clone()))
        .collect();
    let missing: Vec<String> =
        wanted.iter().filter(|slug| !names.contains_key(**slug)).map(|slug| (*slug).to_owned()).collect();
    if !missing.is_empty()
        && let Ok(found) = exercises::by_slugs(&app.data, &missing).await
    {
        names.extend(found.into_iter().map(|exercise| (exercise.slug, exercise.name)));
    }
    names
}

pub(crate) async fn form_add(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(wanted): Form<Wanted>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    visitor.check_form(&app, &wanted.form_token)?;
    add(&app, &mut visitor, &wanted).await?;
    Ok(visitor.finish(Redirect::to("/plan").into_response()))
}

pub(crate) async fn form_remove(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(unwanted): Form<Unwanted>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    visitor.check_form(&app, &unwanted.form_token)?;
    let slug = validate::slug(&unwanted.slug).map_err(Problem::invalid)?;
    remove(&app, &mut visitor, &slug).await?;
    Ok(visitor.finish(Redirect::to("/plan").into_response()))
}
