//! The workout log.

use std::collections::HashMap;

use maud::{Markup, html};
use time::Date;
use time::macros::format_description;

use super::{Frame, complaint, token};
use crate::db::workouts::Workout;
use crate::problem::Problem;

/// What the form needs beside the fields that people fill in.
#[derive(Debug)]
pub(crate) struct WorkoutForm {
    /// Sent twice, the form is still one workout.
    pub(crate) key: String,
    pub(crate) today: String,
    pub(crate) token: String,
    /// Slugs of the plan, offered first.
    pub(crate) planned: Vec<String>,
}

pub(crate) fn workouts(
    frame: &Frame,
    workouts: &[Workout],
    names: &HashMap<String, String>,
    form: &WorkoutForm,
    problem: Option<&Problem>,
) -> Markup {
    let main = html! {
        h1 { "Workout log" }
        div.columns {
            (entry(names, form, problem))
            section {
                @if workouts.is_empty() {
                    div.empty { p.lead { "Nothing logged yet." } p.muted { "What you log stands here, the latest first." } }
                }
                @for day in workouts.chunk_by(|one, other| one.performed_at.date() == other.performed_at.date()) {
                    h2.day { (date(day[0].performed_at.date())) }
                    ul.rows { @for workout in day { (line(workout, names)) } }
                }
            }
        }
    };
    frame.page("Workout log", &main)
}

fn entry(names: &HashMap<String, String>, form: &WorkoutForm, problem: Option<&Problem>) -> Markup {
    html! {
        form.panel method="post" action="/workouts" {
            h2 { "Log a workout" }
            (complaint(problem))
            (token(&form.token))
            input type="hidden" name="key" value=(form.key);
            label { "Exercise"
                input type="text" name="slug" list="planned" required maxlength="100" autocomplete="off" placeholder="Front Squat";
            }
            datalist #planned {
                @for slug in &form.planned { option value=(names.get(slug).unwrap_or(slug)) {} }
            }
            div.pair {
                label { "Sets" input type="number" name="sets" value="3" min="1" max="100" required inputmode="numeric"; }
                label { "Reps" input type="number" name="reps" value="10" min="1" max="1000" required inputmode="numeric"; }
                label { "Kg" input type="number" name="weight_kg" min="0" max="1000" step="any" inputmode="decimal" placeholder="0"; }
            }
            label { "Day" input type="date" name="performed_at" value=(form.today) required; }
            button type="submit" { "Log it" }
        }
    }
}

fn line(workout: &Workout, names: &HashMap<String, String>) -> Markup {
    html! {
        li {
            a href={ "/exercises/" (workout.slug) } { (names.get(&workout.slug).unwrap_or(&workout.slug)) }
            span.amount {
                strong { (workout.sets) } " × " strong { (workout.reps) }
                @if workout.weight_grams > 0 { " at " strong { (f64::from(workout.weight_grams) / 1000.0) } " kg" }
            }
        }
    }
}

fn date(date: Date) -> String {
    date.format(format_description!("[weekday], [day padding:none] [month repr:long] [year]"))
        .unwrap_or_default()
}
