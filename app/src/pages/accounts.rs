//! Log-in, registration, password.

use maud::{Markup, html};

use super::{Frame, complaint, token};
use crate::problem::Problem;
use crate::validate::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};

pub(crate) fn login(frame: &Frame, email: &str, problem: Option<&Problem>, form_token: &str) -> Markup {
    let main = html! {
        form.panel.narrow method="post" action="/login" {
            h1 { "Log in" }
            (complaint(problem))
            (token(form_token))
            label { "E-mail" input type="email" name="email" value=(email) autocomplete="username" required autofocus; }
            label { "Password" input type="password" name="password" autocomplete="current-password" required; }
            button type="submit" { "Log in" }
            p.muted { "New here? " a href="/register" { "Join" } }
        }
    };
    frame.page("Log in", &main)
}

pub(crate) fn register(frame: &Frame, email: &str, problem: Option<&Problem>, form_token: &str) -> Markup {
    let main = html! {
        form.panel.narrow method="post" action="/register" {
            h1 { "Join" }
            p.muted { "An account keeps your workout log. The plan you have made comes along." }
            (complaint(problem))
            (token(form_token))
            label { "E-mail" input type="email" name="email" value=(email) autocomplete="username" maxlength="254" required autofocus; }
            (new_password("password", "Password"))
            button type="submit" { "Join" }
            p.muted { "Been here before? " a href="/login" { "Log in" } }
        }
    };
    frame.page("Join", &main)
}

pub(crate) fn password(frame: &Frame, problem: Option<&Problem>, form_token: &str) -> Markup {
    let main = html! {
        form.panel.narrow method="post" action="/password" {
            h1 { "Change password" }
            (complaint(problem))
            (token(form_token))
            label { "Current password" input type="password" name="current_password" autocomplete="current-password" required autofocus; }
            (new_password("new_password", "New password"))
            button type="submit" { "Change password" }
        }
    };
    frame.page("Change password", &main)
}

fn new_password(name: &str, label: &str) -> Markup {
    html! {
        label {
            (label)
            input type="password" name=(name) autocomplete="new-password" minlength=(PASSWORD_BYTES_MIN) maxlength=(PASSWORD_BYTES_MAX) required;
            small.muted { "At least " (PASSWORD_BYTES_MIN) " characters. A few unrelated words are better than one clever one." }
        }
    }
}
