//! All routes, one list. A module per noun holds its JSON handlers and its pages' handlers side by side, because they
//! are two ways to ask for the same thing.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};

use crate::middleware;
use crate::problem::Problem;
use crate::state::Shared;

mod accounts;
mod exercises;
mod health;
mod plan;
mod workouts;

/// The whole site.
pub(crate) fn site(app: Shared) -> Router {
    Router::new()
        .route("/api/exercises", get(exercises::api_search))
        .route("/api/exercises/{slug}", get(exercises::api_get).put(exercises::api_put))
        .route("/api/register", post(accounts::api_register))
        .route("/api/login", post(accounts::api_login))
        .route("/api/logout", post(accounts::api_logout))
        .route("/api/password", post(accounts::api_password))
        .route("/api/me", get(accounts::api_me))
        .route("/api/plan", get(plan::api_get).post(plan::api_add))
        .route("/api/plan/{slug}", delete(plan::api_remove))
        .route("/api/workouts", get(workouts::api_list).post(workouts::api_add))
        .route("/", get(exercises::page_search))
        .route("/exercises/{slug}", get(exercises::page_one))
        .route("/register", get(accounts::page_register).post(accounts::form_register))
        .route("/login", get(accounts::page_login).post(accounts::form_login))
        .route("/password", get(accounts::page_password).post(accounts::form_password))
        .route("/logout", post(accounts::form_logout))
        .route("/plan", get(plan::page).post(plan::form_add))
        .route("/plan/remove", post(plan::form_remove))
        .route("/workouts", get(workouts::page).post(workouts::form_add))
        .route("/readyz", get(health::readyz))
        .route("/livez", get(health::livez))
        .fallback(async || Problem::not_found("there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                http::StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this address does not take that method",
            )
        })
        .layer(from_fn(middleware::same_site))
        .layer(from_fn_with_state(app.clone(), middleware::hurry))
        .layer(from_fn_with_state(app.clone(), middleware::shed))
        .layer(from_fn_with_state(app.clone(), middleware::record))
        .with_state(app)
}

#[cfg(test)]
mod tests;
