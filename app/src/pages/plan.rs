//! The training plan.

use std::collections::HashMap;

use maud::{Markup, html};

use super::{Frame, token};
use crate::plan::Item;

pub(crate) fn plan(
    frame: &Frame,
    items: &[Item],
    names: &HashMap<String, String>,
    form_token: &str,
) -> Markup {
    let main = html! {
        section.narrow {
            h1 { "Your plan" }
            @if items.is_empty() {
                div.empty {
                    p.lead { "Nothing in it yet." }
                    p { a.button href="/" { "Find an exercise" } }
                }
            } @else {
                ul.rows {
                    @for item in items {
                        li {
                            a href={ "/exercises/" (item.slug) } { (names.get(&item.slug).unwrap_or(&item.slug)) }
                            span.amount { strong { (item.sets) } " × " strong { (item.reps) } }
                            form method="post" action="/plan/remove" {
                                (token(form_token))
                                input type="hidden" name="slug" value=(item.slug);
                                button.plain type="submit" aria-label={ "Remove " (item.slug) } { "Remove" }
                            }
                        }
                    }
                }
                p.muted { (items.len()) @if items.len() == 1 { " exercise, " } @else { " exercises, " }
                    (items.iter().map(|item| item.sets).sum::<i32>()) " sets" }
                @if frame.is_logged_in() {
                    p { a.button href="/workouts" { "Log a workout" } }
                } @else {
                    p.hint { a href="/login" { "Log in" } " or " a href="/register" { "join" } " to log workouts. This plan comes along." }
                }
            }
        }
    };
    frame.page("Your plan", &main)
}
