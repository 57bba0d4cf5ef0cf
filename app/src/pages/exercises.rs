//! The start page, results, and one exercise.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{Frame, search_box, token};
use crate::db::exercises::Exercise;
use crate::plan::Item;
use crate::searches::Hit;

const IDEAS: [&str; 6] = [
    "back with a resistance band",
    "shoulder press with dumbbells",
    "core without equipment",
    "explosive legs",
    "hamstring stretch",
    "grip and forearms",
];
const MUSCLES: [&str; 12] = [
    "Chest",
    "Back",
    "Shoulders",
    "Biceps",
    "Triceps",
    "Core",
    "Glutes",
    "Quadriceps",
    "Hamstrings",
    "Calves",
    "Forearms",
    "Full body",
];

pub(crate) fn home(frame: &Frame, exercises: usize) -> Markup {
    let main = html! {
        section.hero {
            h1 { "Find the exercise" br; "you have in mind." }
            p.lead { "Say what you want to train, what you have, or what it looks like. " (exercises) " exercises, searched by meaning." }
            (search_box("", false))
            ul.chips aria-label="Ideas" {
                @for idea in IDEAS { li { a href=(link(idea)) { (idea) } } }
            }
        }
        section {
            h2 { "Browse by muscle" }
            ul.tiles {
                @for muscle in MUSCLES { li { a href=(link(&muscle.to_lowercase())) { (muscle) } } }
            }
        }
        section.steps {
            div { h2 { "Plan" } p { "Put exercises into your plan with sets and reps. No account needed to start." } }
            div { h2 { "Train" } p { "Each page says how to do it in two or three sentences you can remember." } }
            div { h2 { "Log" } p { "Log in to write down what you did. Your plan comes along." } }
        }
    };
    frame.page("Exercise search", &main)
}

fn link(query: &str) -> String {
    format!("/?q={}", query.replace(' ', "+"))
}

pub(crate) fn results(
    frame: &Frame,
    query: &str,
    hits: &[Hit],
    planned: &BTreeSet<String>,
    form_token: Option<&str>,
) -> Markup {
    let main = html! {
        (search_box(query, false))
        h1.results {
            @match hits.len() {
                0 => "Nothing found for ",
                1 => "1 result for ",
                count => { (count) " results for " }
            }
            q { (query) }
        }
        @if hits.is_empty() {
            p.lead { "Try other words: a muscle, a piece of equipment, or a movement." }
        }
        ol.cards {
            @for hit in hits {
                li.card {
                    div {
                        h2 { a href={ "/exercises/" (hit.slug) } { (hit.name) } }
                        p.tags { (level(&hit.level)) span.tag { (equipment(&hit.equipment)) } }
                        p.muted { (hit.muscles.join(", ")) }
                    }
                    @if planned.contains(&hit.slug) {
                        a.inplan href="/plan" { "In plan" }
                    } @else if let Some(form_token) = form_token {
                        form method="post" action="/plan" {
                            (token(form_token))
                            input type="hidden" name="slug" value=(hit.slug);
                            input type="hidden" name="sets" value="3";
                            input type="hidden" name="reps" value="10";
                            button.quiet type="submit" aria-label={ "Add " (hit.name) " to the plan" } { "+ Plan" }
                        }
                    }
                }
            }
        }
    };
    frame.page(query, &main)
}

pub(crate) fn exercise(
    frame: &Frame,
    exercise: &Exercise,
    similar: &[Hit],
    planned: Option<&Item>,
    form_token: Option<&str>,
) -> Markup {
    let (sets, reps) = planned.map_or((3, 10), |item| (item.sets, item.reps));
    let planned = planned.is_some();
    let (main_muscle, others) =
        exercise.muscles.split_first().map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
    let main = html! {
        (search_box("", false))
        article.exercise {
            div {
                p.tags { (level(&exercise.level)) span.tag { (equipment(&exercise.equipment)) } }
                h1 { (exercise.name) }
                p.instruction { (exercise.instruction) }
                dl.facts {
                    div { dt { "Works most" } dd { (main_muscle) } }
                    @if !others.is_empty() { div { dt { "Also" } dd { (others.join(", ")) } } }
                    div { dt { "Needs" } dd { (equipment(&exercise.equipment)) } }
                }
            }
            @if let Some(form_token) = form_token {
                form.panel method="post" action="/plan" {
                    h2 { @if planned { "In your plan" } @else { "Add to your plan" } }
                    (token(form_token))
                    input type="hidden" name="slug" value=(exercise.slug);
                    div.pair {
                        label { "Sets" input type="number" name="sets" value=(sets) min="1" max="100" required inputmode="numeric"; }
                        label { "Reps" input type="number" name="reps" value=(reps) min="1" max="1000" required inputmode="numeric"; }
                    }
                    button type="submit" { @if planned { "Change sets and reps" } @else { "Add to plan" } }
                    @if planned { p.muted { a href="/plan" { "See the plan" } } }
                }
            }
        }
        @if !similar.is_empty() {
            section {
                h2 { "Similar exercises" }
                ul.grid {
                    @for hit in similar {
                        li { a.card href={ "/exercises/" (hit.slug) } {
                            strong { (hit.name) }
                            span.muted { (hit.level) " · " (equipment(&hit.equipment)) }
                        } }
                    }
                }
            }
        }
    };
    frame.page(&exercise.name, &main)
}

fn equipment(equipment: &str) -> &str {
    match equipment {
        "none" => "no equipment",
        needed => needed,
    }
}

fn level(level: &str) -> Markup {
    let class = match level {
        "beginner" => "tag easy",
        "intermediate" => "tag middle",
        _ => "tag hard",
    };
    html! { span class=(class) { (level) } }
}
