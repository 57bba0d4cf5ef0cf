//! The site as people see it: HTML that works without JavaScript, on a phone and on a desk, by day and by night.
//!
//! A page is one answer: the style stands in it, so that nothing else has to be fetched and no instance has to have the
//! same assets as its sibling. Everything that came from outside is escaped by the template.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::problem::Problem;
use crate::session::Visitor;
use crate::state::App;

mod accounts;
mod exercises;
mod plan;
mod workouts;

pub(crate) use accounts::{login, password, register};
pub(crate) use exercises::{exercise, home, results};
pub(crate) use plan::plan;
pub(crate) use workouts::{WorkoutForm, workouts};

pub(crate) const STYLE: &str = include_str!("pages/style.css");

/// What pages are made from: the templates are their source.
pub(crate) const TEMPLATES: [&str; 6] = [
    STYLE,
    include_str!("pages.rs"),
    include_str!("pages/accounts.rs"),
    include_str!("pages/exercises.rs"),
    include_str!("pages/plan.rs"),
    include_str!("pages/workouts.rs"),
];

/// The pages' policy: our own style, forms to ourselves, and nothing else at all.
pub(crate) static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("the policy is plain text")
});

/// What every page shows around its own part.
#[derive(Debug)]
pub(crate) struct Frame {
    account: Account,
    plan_len: usize,
    /// Stands at the foot of the page; empty: nothing does.
    notice: String,
}

#[derive(Debug)]
enum Account {
    Anonymous,
    User {
        email: String,
        form_token: String,
    },
    /// The session store cannot be reached, so nobody knows who this is.
    Away,
    /// Nobody has looked.
    Unknown,
}

impl Frame {
    pub(crate) fn of(app: &App, visitor: &mut Visitor, sessions_away: bool) -> Self {
        let plan_len = visitor.session().map_or(0, crate::plan::len);
        let account = match visitor.logged_in() {
            _ if sessions_away => Account::Away,
            Some(user) => Account::User { email: user.email, form_token: visitor.form_token(app) },
            None => Account::Anonymous,
        };
        Self { account, plan_len, notice: app.notice.clone() }
    }

    fn is_logged_in(&self) -> bool {
        matches!(self.account, Account::User { .. })
    }

    fn page(&self, title: &str, main: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Fitness" }
                    link rel="icon" href=(ICON);
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    (self.header())
                    main #main { (main) }
                    footer {
                        p { "Move well. Lift what you can lift well. Ask someone qualified when it hurts." }
                        @if !self.notice.is_empty() { p { (self.notice) } }
                    }
                }
            }
        }
    }

    fn header(&self) -> Markup {
        html! {
            header.bar {
                a.brand href="/" { (LOGO) span { "Fitness" } }
                nav aria-label="Site" {
                    a href="/plan" { "Plan" @if self.plan_len > 0 { span.count { (self.plan_len) } } }
                    @match &self.account {
                        Account::User { email, form_token } => {
                            a href="/workouts" { "Log" }
                            details.menu {
                                summary { span.avatar aria-hidden="true" { (initial(email)) } span.sr { "Account" } }
                                div {
                                    p { (email) }
                                    a href="/password" { "Change password" }
                                    form method="post" action="/logout" {
                                        (token(form_token))
                                        button.plain type="submit" { "Log out" }
                                    }
                                }
                            }
                        }
                        Account::Anonymous => {
                            a href="/login" { "Log in" }
                            a.button.small href="/register" { "Join" }
                        }
                        Account::Unknown => {}
                        Account::Away => span.muted { "Accounts are away for a moment" }
                    }
                }
            }
        }
    }
}

fn initial(email: &str) -> String {
    email.chars().next().unwrap_or('?').to_uppercase().collect()
}

/// The hidden field that [`crate::csrf`] checks.
fn token(token: &str) -> Markup {
    html! { input type="hidden" name="form_token" value=(token); }
}

fn search_box(query: &str, autofocus: bool) -> Markup {
    html! {
        form.search role="search" method="get" action="/" {
            label.sr for="q" { "Search exercises" }
            (LENS)
            input #q type="search" name="q" value=(query) maxlength="256" autocomplete="off" required autofocus[autofocus]
                placeholder="Muscle or movement";
            button type="submit" { "Search" }
        }
    }
}

/// Why a form was not accepted, above the form.
fn complaint(problem: Option<&Problem>) -> Markup {
    html! { @if let Some(problem) = problem { p.complaint role="alert" { (problem.detail) } } }
}

/// A problem as a page, for browsers. It knows nobody, because whoever renders it may have lost the session store.
pub(crate) fn problem(problem: &Problem, request_id: &str) -> Markup {
    let main = html! {
        section.narrow.problem {
            p.code { (problem.status.as_u16()) }
            h1 { (problem.title()) }
            p.lead { (problem.detail) }
            p { a.button href="/" { "Back to the start" } }
            @if problem.status.as_u16() == 401 { p { a href="/login" { "Log in" } } }
            p.muted { "Request " code { (request_id) } }
        }
    };
    Frame { account: Account::Unknown, plan_len: 0, notice: String::new() }.page(problem.title(), &main)
}

const LOGO: PreEscaped<&str> = PreEscaped(
    r#"<svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true"><rect width="32" height="32" rx="9" fill="currentColor"/><path d="M9 11v10M12.5 8.5v15M19.5 8.5v15M23 11v10M12.5 16h7M6.5 14v4M25.5 14v4" stroke="var(--paper)" stroke-width="2.4" stroke-linecap="round" fill="none"/></svg>"#,
);
const LENS: PreEscaped<&str> = PreEscaped(
    r#"<svg class="lens" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><circle cx="10.5" cy="10.5" r="6.5" fill="none" stroke="currentColor" stroke-width="2"/><path d="m15.5 15.5 5 5" stroke="currentColor" stroke-width="2" stroke-linecap="round"/></svg>"#,
);
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='9' fill='%230b6b4f'/%3E%3Cpath d='M9 11v10M12.5 8.5v15M19.5 8.5v15M23 11v10M12.5 16h7M6.5 14v4M25.5 14v4' stroke='white' stroke-width='2.4' stroke-linecap='round' fill='none'/%3E%3C/svg%3E";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_text_not_markup() {
        let refused = Problem::invalid("<script>alert(1)</script>");
        let page = problem(&refused, "abc").into_string();
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
        assert!(search_box("\"><img>", false).into_string().contains("&quot;&gt;&lt;img&gt;"));
    }

    #[test]
    fn the_policy_names_the_style() {
        let policy = CONTENT_SECURITY_POLICY.to_str().unwrap();
        assert!(policy.contains(&STANDARD.encode(Sha256::digest(STYLE))), "{policy}");
        assert!(!STYLE.contains("</style"));
    }
}
