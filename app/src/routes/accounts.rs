//! Registering, logging in and out, changing the password.
//!
//! Registering says that an e-mail address is taken (409). Hiding it would gain nothing: whoever asks could see by logging
//! in with the password they chose; only a confirmation by mail could hide it. Log-in never tells which of the two was
//! wrong, and takes as long for an unknown address as for a known one.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::db::users::{self, Registered};
use crate::extract::{Form, Json, must_be_json_if_typed};
use crate::pages::{self, Frame};
use crate::problem::Problem;
use crate::session::Visitor;
use crate::state::{App, Shared};
use crate::validate;

#[derive(Deserialize)]
pub(crate) struct Credentials {
    email: String,
    password: String,
    /// Forms only.
    #[serde(default)]
    form_token: String,
}

#[derive(Deserialize)]
pub(crate) struct NewPassword {
    #[serde(alias = "old_password", alias = "password")]
    current_password: String,
    new_password: String,
    /// Forms only.
    #[serde(default)]
    form_token: String,
}

#[derive(Deserialize)]
pub(crate) struct Bare {
    #[serde(default)]
    form_token: String,
}

#[derive(Serialize)]
struct Me {
    email: String,
}

pub(crate) async fn api_register(
    State(app): State<Shared>,
    Json(wanted): Json<Credentials>,
) -> Result<Response, Problem> {
    let email = register(&app, &wanted).await?;
    Ok((StatusCode::CREATED, axum::Json(Me { email })).into_response())
}

pub(crate) async fn api_login(
    State(app): State<Shared>,
    headers: HeaderMap,
    Json(given): Json<Credentials>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    let email = log_in(&app, &mut visitor, given).await?;
    Ok(visitor.finish(axum::Json(Me { email }).into_response()))
}

pub(crate) async fn api_logout(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    must_be_json_if_typed(&headers)?;
    let mut visitor = Visitor::load(&app, &headers).await?;
    visitor.destroy(&app).await?;
    Ok(visitor.finish(StatusCode::NO_CONTENT.into_response()))
}

pub(crate) async fn api_password(
    State(app): State<Shared>,
    headers: HeaderMap,
    Json(wanted): Json<NewPassword>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    change_password(&app, &mut visitor, wanted).await?;
    Ok(visitor.finish(StatusCode::NO_CONTENT.into_response()))
}

pub(crate) async fn api_me(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = Visitor::load(&app, &headers).await?;
    let email = visitor.must_be_logged_in()?.email;
    Ok(visitor.finish(axum::Json(Me { email }).into_response()))
}

async fn register(app: &App, wanted: &Credentials) -> Result<String, Problem> {
    let email = validate::email(&wanted.email).map_err(Problem::invalid)?;
    validate::new_password(&wanted.password).map_err(Problem::invalid)?;
    let hash = app.passwords.hash(wanted.password.clone()).await?;
    match users::register(&app.data, &email, &hash).await? {
        Registered::Created => Ok(email),
        Registered::Taken => Err(Problem::new(
            StatusCode::CONFLICT,
            "email-taken",
            "someone has registered this e-mail address already; log in instead",
        )),
    }
}

async fn log_in(app: &App, visitor: &mut Visitor, given: Credentials) -> Result<String, Problem> {
    let email = validate::email(&given.email).map_err(Problem::invalid)?;
    let user = users::by_email(&app.data, &email).await?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let long = given.password.len() > validate::PASSWORD_BYTES_MAX;
    let right = app.passwords.verify(if long { String::new() } else { given.password }, hash).await?;
    let label = if right { "right" } else { "wrong" };
    app.metrics.logins.get_or_create(&("outcome", label).into()).inc();
    let user = user.filter(|_| right).ok_or_else(|| {
        Problem::new(StatusCode::UNAUTHORIZED, "wrong-credentials", "e-mail address or password is wrong")
    })?;
    visitor.log_in(app, user.id, &user.email).await?;
    Ok(user.email)
}

async fn change_password(app: &App, visitor: &mut Visitor, wanted: NewPassword) -> Result<(), Problem> {
    let user = visitor.must_be_logged_in()?;
    validate::new_password(&wanted.new_password).map_err(Problem::invalid)?;
    let wrong = || Problem::new(StatusCode::FORBIDDEN, "wrong-password", "the current password is wrong");
    let known = users::by_email(&app.data, &user.email).await?.filter(|known| known.id == user.user_id);
    let hash = known.map(|known| known.password_hash);
    if !app.passwords.verify(wanted.current_password, hash.clone()).await? {
        return Err(wrong());
    }
    let new_hash = app.passwords.hash(wanted.new_password).await?;
    let old_hash = hash.ok_or_else(wrong)?;
    if !users::change_password(&app.data, user.user_id, &old_hash, &new_hash).await? {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "password-changed",
            "the password was changed meanwhile",
        ));
    }
    visitor.rotate(app, Vec::new()).await
}

pub(crate) async fn page_register(
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    Ok(register_page(&app, &mut visitor, "", None).into_response()).map(|page| visitor.finish(page))
}

fn register_page(app: &App, visitor: &mut Visitor, email: &str, problem: Option<&Problem>) -> maud::Markup {
    let (frame, token) = (Frame::of(app, visitor, false), visitor.form_token(app));
    pages::register(&frame, email, problem, &token)
}

pub(crate) async fn form_register(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(wanted): Form<Credentials>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    visitor.check_form(&app, &wanted.form_token)?;
    // People who have just chosen a password need not type it again.
    let done = match register(&app, &wanted).await {
        Ok(_) => {
            log_in(&app, &mut visitor, Credentials { form_token: String::new(), ..clone(&wanted) }).await
        }
        Err(problem) => Err(problem),
    };
    Ok(match done {
        Ok(_) => visitor.finish(Redirect::to("/plan").into_response()),
        Err(problem) => {
            let page = register_page(&app, &mut visitor, &wanted.email, Some(&problem));
            visitor.finish((problem.status, page).into_response())
        }
    })
}

fn clone(given: &Credentials) -> Credentials {
    Credentials {
        email: given.email.clone(),
        password: given.password.clone(),
        form_token: given.form_token.clone(),
    }
}

pub(crate) async fn page_login(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    let page = login_page(&app, &mut visitor, "", None);
    Ok(visitor.finish(page.into_response()))
}

fn login_page(app: &App, visitor: &mut Visitor, email: &str, problem: Option<&Problem>) -> maud::Markup {
    let (frame, token) = (Frame::of(app, visitor, false), visitor.form_token(app));
    pages::login(&frame, email, problem, &token)
}

pub(crate) async fn form_login(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(given): Form<Credentials>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    visitor.check_form(&app, &given.form_token)?;
    let email = given.email.clone();
    Ok(match log_in(&app, &mut visitor, given).await {
        Ok(_) => visitor.finish(Redirect::to("/plan").into_response()),
        Err(problem) => {
            let page = login_page(&app, &mut visitor, &email, Some(&problem));
            visitor.finish((problem.status, page).into_response())
        }
    })
}

pub(crate) async fn page_password(
    State(app): State<Shared>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    if visitor.logged_in().is_none() {
        return Ok(Redirect::to("/login").into_response());
    }
    let page = password_page(&app, &mut visitor, None);
    Ok(visitor.finish(page.into_response()))
}

fn password_page(app: &App, visitor: &mut Visitor, problem: Option<&Problem>) -> maud::Markup {
    let (frame, token) = (Frame::of(app, visitor, false), visitor.form_token(app));
    pages::password(&frame, problem, &token)
}

pub(crate) async fn form_password(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(wanted): Form<NewPassword>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    visitor.check_form(&app, &wanted.form_token)?;
    Ok(match change_password(&app, &mut visitor, wanted).await {
        Ok(()) => visitor.finish(Redirect::to("/workouts").into_response()),
        Err(problem) => {
            let page = password_page(&app, &mut visitor, Some(&problem));
            visitor.finish((problem.status, page).into_response())
        }
    })
}

pub(crate) async fn form_logout(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<Bare>,
) -> Result<Response, Problem> {
    let mut visitor = Visitor::load(&app, &headers).await?;
    if visitor.session().is_some() {
        visitor.check_form(&app, &form.form_token)?;
        visitor.destroy(&app).await?;
    }
    Ok(visitor.finish(Redirect::to("/").into_response()))
}
