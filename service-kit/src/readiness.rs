//! Whether this process should get traffic, and what it lacks.
//!
//! ```text
//!            every dependency reached once          a dependency lost
//! starting ────────────────────────────────► ready ◄────────────────► degraded
//!     └──────────────────── signal ────────────┴──────► draining ◄──────┘
//! ```
//! A later loss is only `degraded` (still 200): one outage of a shared dependency must not take every instance out of
//! service at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};

use crate::Identity;

/// How often a process that takes over looks whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Shared view of what this process needs. Clones see the same state.
#[derive(Debug, Clone)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identity: Identity,
    // Held for a few instructions, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    weight: Option<u16>,
    /// What is served besides what the program is made of, and a hash of that.
    mounted: String,
    built_in: String,
    draining: bool,
    serving: bool,
    dependencies: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    reached_once: bool,
    /// Why it cannot be used now; `None` once reached.
    reason: Option<String>,
}

/// One thing this process needs, and the handle to say how it is.
#[derive(Debug, Clone)]
pub struct Dependency {
    readiness: Readiness,
    index: usize,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// 200 or 503.
    pub http_status: u16,
    /// JSON: `{"status","instance","generation","weight","content","dependencies":[{"name","state","reason"}]}`; `weight` and
    /// `content` only where they are known.
    pub body: String,
}

#[derive(Serialize)]
struct Body<'a> {
    status: &'static str,
    instance: &'a str,
    generation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    content: String,
    dependencies: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Readiness {
    /// One of its own; programs are given theirs in [`Context`](crate::Context).
    pub fn new(identity: Identity) -> Self {
        Self { inner: Arc::new(Inner { identity, state: Mutex::default() }) }
    }

    /// Declares something that must be reached once before this process is ready.
    pub fn dependency(&self, name: &str) -> Dependency {
        let mut state = self.state();
        state.dependencies.push(Entry {
            name: name.to_owned(),
            reached_once: false,
            reason: Some("not reached yet".to_owned()),
        });
        Dependency { readiness: self.clone(), index: state.dependencies.len() - 1 }
    }

    /// What `/readyz` says now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let status = state.status();
        let body = Body {
            status,
            instance: &self.inner.identity.instance,
            generation: format!("{:016x}", self.inner.identity.generation),
            weight: state.weight,
            content: state.content(),
            dependencies: state.dependencies.iter().map(Entry::line).collect(),
        };
        let body = serde_json::to_string(&body).expect("names and reasons are plain text");
        Report { http_status: if matches!(status, "ready" | "degraded") { 200 } else { 503 }, body }
    }

    /// Returns once every dependency was reached at least once.
    pub(crate) async fn all_reached(&self) {
        while self.state().dependencies.iter().any(|entry| !entry.reached_once) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Publishes a hash of what this program serves (catalogue, templates), by which a balancer tells instances that serve
    /// something else. Never of the build, which differs in the middle of every rolling deploy. Letters and digits, at
    /// most 31.
    pub fn content(&self, hash: &str) {
        hash.clone_into(&mut self.state().built_in);
    }

    pub(crate) fn configured(self, weight: u16, mounted: &str) -> Self {
        let mut state = self.state();
        state.weight = Some(weight);
        mounted.clone_into(&mut state.mounted);
        drop(state);
        self
    }

    pub(crate) fn serving(&self) {
        self.state().serving = true;
    }

    pub(crate) fn drain(&self) {
        self.state().draining = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn status(&self) -> &'static str {
        if self.draining {
            "draining"
        } else if !self.serving || self.dependencies.iter().any(|entry| !entry.reached_once) {
            "starting"
        } else if self.dependencies.iter().any(|entry| entry.reason.is_some()) {
            "degraded"
        } else {
            "ready"
        }
    }

    fn content(&self) -> String {
        let parts = [self.built_in.as_str(), self.mounted.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }
}

impl Entry {
    fn line(&self) -> Line<'_> {
        let state = match (&self.reason, self.reached_once) {
            (None, _) => "reached",
            (Some(_), true) => "lost",
            (Some(_), false) => "waiting",
        };
        Line { name: &self.name, state, reason: self.reason.as_deref() }
    }
}

impl Dependency {
    /// It answered. Cheap to repeat; only a change is logged.
    pub fn reached(&self) {
        let mut state = self.readiness.state();
        let entry = &mut state.dependencies[self.index];
        entry.reached_once = true;
        if entry.reason.take().is_some() {
            info!(dependency = %entry.name, "dependency reached");
        }
    }

    /// It does not answer; `reason` is for people. Only a change is logged.
    pub fn lost(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let mut state = self.readiness.state();
        let entry = &mut state.dependencies[self.index];
        if entry.reason.as_deref() != Some(&reason) {
            warn!(dependency = %entry.name, %reason, "dependency away");
            entry.reason = Some(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each letter is one event: `s` serving, `r`/`l` dependency reached/lost, `d` draining.
    #[track_caller]
    fn check(events: &str, status: &str, http_status: u16) {
        let readiness = Readiness::new(Identity { instance: "app-1".into(), generation: 7 });
        let dependency = readiness.dependency("redis");
        for event in events.chars() {
            match event {
                's' => readiness.serving(),
                'r' => dependency.reached(),
                'l' => dependency.lost("refused"),
                _ => readiness.drain(),
            }
        }
        let report = readiness.report();
        assert!(report.body.contains(&format!("\"status\":\"{status}\"")), "{events}: {}", report.body);
        assert_eq!(report.http_status, http_status, "{events}");
    }

    #[test]
    fn ready_needs_listeners_and_every_dependency() {
        check("", "starting", 503);
        check("s", "starting", 503);
        check("r", "starting", 503);
        check("sr", "ready", 200);
    }

    #[test]
    fn a_later_loss_degrades_but_keeps_serving() {
        check("srl", "degraded", 200);
        check("srlr", "ready", 200);
        check("sl", "starting", 503);
    }

    #[test]
    fn draining_wins() {
        check("srd", "draining", 503);
        check("d", "draining", 503);
        check("srld", "draining", 503);
    }

    #[test]
    fn the_body_says_who_and_why() {
        let readiness = Readiness::new(Identity { instance: "app-1".into(), generation: 7 });
        readiness.dependency("redis").lost("refused");
        assert_eq!(
            readiness.report().body,
            r#"{"status":"starting","instance":"app-1","generation":"0000000000000007","dependencies":[{"name":"redis","state":"waiting","reason":"refused"}]}"#
        );
    }

    #[track_caller]
    fn check_content(built_in: &str, mounted: &str, expected: &str) {
        let identity = Identity { instance: "app-1".into(), generation: 7 };
        let readiness = Readiness::new(identity).configured(50, mounted);
        readiness.content(built_in);
        let body = readiness.report().body;
        assert!(body.contains(&format!(r#""weight":50,{expected}"dependencies""#)), "{body}");
    }

    #[test]
    fn the_body_says_weight_and_content() {
        check_content("a1b2", "", r#""content":"a1b2","#);
        check_content("a1b2", "images-7", r#""content":"a1b2.images-7","#);
        check_content("", "images-7", r#""content":"images-7","#);
        check_content("", "", "");
    }
}
