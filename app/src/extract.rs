//! Reading requests, so that whatever is wrong with one becomes a [`Problem`] that says so.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::problem::Problem;
use crate::state::Shared;
use crate::validate;

/// A JSON body of at most `server.body_bytes_max` bytes.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// A form body, likewise.
#[derive(Debug)]
pub(crate) struct Form<T>(pub(crate) T);

/// The `{slug}` of a path.
#[derive(Debug)]
pub(crate) struct Slug(pub(crate) String);

/// The query string.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        must_be(request.headers(), "application/json")?;
        let body = body(request, app).await?;
        serde_json::from_slice(&body).map(Self).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                Problem::invalid(format!("the JSON body does not fit: {error}"))
            }
            _ => Problem::malformed(format!("the body is not JSON: {error}")),
        })
    }
}

impl<T: DeserializeOwned> FromRequest<Shared> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        must_be(request.headers(), "application/x-www-form-urlencoded")?;
        let body = body(request, app).await?;
        // The query extractor reads the same syntax, and its errors name the field.
        let text = std::str::from_utf8(&body).map_err(|_| Problem::malformed("the form is not UTF-8"))?;
        let uri =
            format!("/?{text}").parse().map_err(|_| Problem::malformed("the form is not URL-encoded"))?;
        Query::try_from_uri(&uri)
            .map(|Query(form)| Self(form))
            .map_err(|error| Problem::invalid(format!("the form does not fit: {}", error.body_text())))
    }
}

impl FromRequestParts<Shared> for Slug {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let unknown = || Problem::not_found("there is no such exercise");
        let Path(text) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| unknown())?;
        // What cannot be the name of an exercise is not looked up.
        validate::slug(&text).map(Self).map_err(|_| unknown())
    }
}

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        Query::from_request_parts(parts, app).await.map(|Query(asked)| Self(asked)).map_err(|error| {
            Problem::malformed(format!("the query string does not fit: {}", error.body_text()))
        })
    }
}

/// A request without a body has no type to be wrong.
pub(crate) fn must_be(headers: &HeaderMap, kind: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case(kind) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            format!("send the body with content-type: {kind}"),
        )),
    }
}

async fn body(request: Request, app: &Shared) -> Result<axum::body::Bytes, Problem> {
    let max = app.limits.body_bytes_max;
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body is longer than {max} bytes"),
        )
    };
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > max) {
        return Err(too_large());
    }
    axum::body::to_bytes(request.into_body(), max).await.map_err(|error| {
        use std::error::Error as _;
        match error.source().is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            true => too_large(),
            false => Problem::malformed("the body ended early"),
        }
    })
}
