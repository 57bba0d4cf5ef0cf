//! Requests, and which of them is the n-th.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// One request.
#[derive(Debug, Clone)]
pub struct RequestSpec {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers beside Host, Cookie and Content-Length.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Whether sending it twice is the same as sending it once.
    pub idempotent: bool,
    /// The drill's own number for it, for instance an operation id; the load client only carries it.
    pub tag: u64,
}

impl RequestSpec {
    /// An idempotent GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            idempotent: true,
            tag: 0,
        }
    }

    /// A POST of JSON, not idempotent.
    #[must_use]
    pub fn post_json(path: &str, body: &serde_json::Value) -> Self {
        let json = HeaderValue::from_static("application/json");
        let mut spec = Self { method: Method::POST, idempotent: false, ..Self::get(path) };
        spec.body = body.to_string().into();
        spec.headers.insert(http::header::CONTENT_TYPE, json);
        spec
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Says that it may be sent again, for instance because it carries an Idempotency-Key.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Carries the drill's own number.
    #[must_use]
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }
}

type Generate = dyn Fn(u64) -> RequestSpec + Send + Sync;

/// Which request is the n-th.
#[derive(Clone)]
pub enum Mix {
    /// In turn, each as often as its weight says; the same in every run.
    Weighted(Vec<(u32, RequestSpec)>),
    /// Whatever the function makes of the sequence number.
    Generated(Arc<Generate>),
}

impl fmt::Debug for Mix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weighted(list) => formatter.debug_tuple("Weighted").field(list).finish(),
            Self::Generated(_) => formatter.write_str("Generated"),
        }
    }
}

impl Mix {
    /// One request, over and over.
    #[must_use]
    pub fn one(spec: RequestSpec) -> Self {
        Self::Weighted(vec![(1, spec)])
    }

    /// Requests from a function of the sequence number (0, 1, 2 ...).
    pub fn generated(generate: impl Fn(u64) -> RequestSpec + Send + Sync + 'static) -> Self {
        Self::Generated(Arc::new(generate))
    }

    /// The n-th request.
    #[must_use]
    pub fn request(&self, sequence: u64) -> RequestSpec {
        let list = match self {
            Self::Generated(generate) => return generate(sequence),
            Self::Weighted(list) => list,
        };
        let total: u64 = list.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut place = sequence % total.max(1);
        for (weight, spec) in list {
            if place < u64::from(*weight) {
                return spec.clone();
            }
            place -= u64::from(*weight);
        }
        RequestSpec::get("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(mix: &Mix, count: u64) -> String {
        (0..count).map(|sequence| mix.request(sequence).path).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_mix_repeats_by_weight() {
        let mix = Mix::Weighted(vec![
            (2, RequestSpec::get("/a")),
            (0, RequestSpec::get("/never")),
            (1, RequestSpec::get("/b")),
        ]);
        assert_eq!(paths(&mix, 7), "/a /a /b /a /a /b /a");
    }

    #[test]
    fn a_generated_mix_knows_its_number() {
        let mix = Mix::generated(|sequence| RequestSpec::get(&format!("/{sequence}")).tag(sequence));
        assert_eq!(paths(&mix, 3), "/0 /1 /2");
        assert_eq!(mix.request(9).tag, 9);
    }
}
