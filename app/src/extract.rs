//! Reading requests, so that whatever is wrong with one becomes a [`Problem`] that says so.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::problem::Problem;
use crate::state::Shared;
use crate::validate;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

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
        must_be(request.headers(), JSON)?;
        let body = body(request, app).await?;
        // serde takes a list for a struct: fields by their place, and nobody agreed on places.
        let is_object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        if !is_object && serde_json::from_slice::<IgnoredAny>(&body).is_ok() {
            return Err(Problem::invalid("the JSON body must be an object"));
        }
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
        must_be(request.headers(), FORM)?;
        let body = body(request, app).await?;
        if std::str::from_utf8(&body).is_err() {
            return Err(Problem::malformed("the form is not UTF-8"));
        }
        let form = Request::post("/")
            .header(header::CONTENT_TYPE, FORM)
            .body(body.into())
            .map_err(|error| Problem::internal(error.to_string()))?;
        axum::Form::from_request(form, &()).await.map(|axum::Form(form)| Self(form)).map_err(|error| {
            Problem::invalid(format!("the form does not fit: {}", reason(&error.body_text())))
        })
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
            Problem::malformed(format!("the query string does not fit: {}", reason(&error.body_text())))
        })
    }
}

/// The part of axum's sentence that tells a visitor something: "Failed to deserialize ...: missing field `slug`".
fn reason(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, reason)| reason)
}

/// For requests that may come without a body: one without a type has nothing to be wrong, and what a form of another
/// site can send is refused.
pub(crate) fn must_be_json_if_typed(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::CONTENT_TYPE) { must_be(headers, JSON) } else { Ok(()) }
}

fn must_be(headers: &HeaderMap, kind: &str) -> Result<(), Problem> {
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
