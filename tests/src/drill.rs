//! Drills: each breaks something real in a stack of its own and ends in a measured verdict about a claim, next to a second
//! run with one named protection switched off, which must be caught.

pub mod history;
pub mod report;

mod all_down;
mod alone;
mod answers;
mod capacity;
mod cheap_machines;
mod client_order;
mod dead_address;
mod drain;
mod forged_cookie;
mod hybrid;
mod judgement;
mod kill_app;
mod kill_primary;
mod lb_dies;
mod least_busy;
mod looks;
mod no_load_view;
mod peer;
mod prefer_ipv6;
mod primary_authority_dies;
mod resolver_pins;
mod scale_out;
mod skew;
mod sticky_death;
mod sticky_table;
mod sticky_uneven;
mod tally;
mod tls_offload;
mod ttl_low_high;
mod vertical;
mod visitors;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::LocalBoxFuture;

use crate::load::{ClientKind, Mix, Plan, RequestSpec};
use crate::stack::{Place, Stack};
use crate::topology::SITE;

use judgement::Named;
use report::Story;

/// How a drill is to run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Where.
    pub place: Place,
    /// At most 20 s of measurement, for test runs; the figures of documents come from the long form.
    pub short: bool,
    /// Repeats the choices that the drill leaves to chance.
    pub seed: u64,
}

type Run = fn(Settings) -> LocalBoxFuture<'static, Result<Story>>;

/// One drill of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Drill {
    /// Its name on the command line.
    pub name: &'static str,
    /// The claim, in one line.
    pub about: &'static str,
    /// Where it can run.
    pub runs: Runs,
    run: Run,
}

/// Where a drill can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// As processes and in containers.
    Everywhere,
    /// As processes only: it changes more than the containers can be told.
    Natively,
}

impl Drill {
    const fn new(named: &Named, runs: Runs, run: Run) -> Self {
        Self { name: named.name, about: named.claim, runs, run }
    }

    /// Runs it from start to clean-up.
    pub async fn run(&self, settings: Settings) -> Result<Story> {
        ensure!(
            self.runs == Runs::Everywhere || settings.place == Place::Native,
            "drill {} runs natively only; add: --on native",
            self.name
        );
        (self.run)(settings).await.with_context(|| format!("drill {}", self.name))
    }
}

/// Every drill, in the order of the list.
pub const ALL: [Drill; 23] = [
    Drill::new(&kill_app::NAMED, Runs::Everywhere, |settings| Box::pin(kill_app::run(settings))),
    Drill::new(&scale_out::NAMED, Runs::Everywhere, |settings| Box::pin(scale_out::run(settings))),
    Drill::new(&kill_primary::NAMED, Runs::Everywhere, |settings| Box::pin(kill_primary::run(settings))),
    Drill::new(&sticky_death::NAMED, Runs::Natively, |settings| Box::pin(sticky_death::run(settings))),
    Drill::new(&sticky_table::NAMED, Runs::Natively, |settings| Box::pin(sticky_table::run(settings))),
    Drill::new(&sticky_uneven::NAMED, Runs::Natively, |settings| Box::pin(sticky_uneven::run(settings))),
    Drill::new(&hybrid::NAMED, Runs::Natively, |settings| Box::pin(hybrid::run(settings))),
    Drill::new(&forged_cookie::NAMED, Runs::Natively, |settings| Box::pin(forged_cookie::run(settings))),
    Drill::new(&least_busy::NAMED, Runs::Natively, |settings| Box::pin(least_busy::run(settings))),
    Drill::new(&skew::NAMED, Runs::Natively, |settings| Box::pin(skew::run(settings))),
    Drill::new(&drain::NAMED, Runs::Natively, |settings| Box::pin(drain::run(settings))),
    Drill::new(&tls_offload::NAMED, Runs::Natively, |settings| Box::pin(tls_offload::run(settings))),
    Drill::new(&vertical::NAMED, Runs::Natively, |settings| Box::pin(vertical::run(settings))),
    Drill::new(&cheap_machines::NAMED, Runs::Natively, |settings| Box::pin(cheap_machines::run(settings))),
    Drill::new(&lb_dies::NAMED, Runs::Natively, |settings| Box::pin(lb_dies::run(settings))),
    Drill::new(&no_load_view::NAMED, Runs::Natively, |settings| Box::pin(no_load_view::run(settings))),
    Drill::new(&client_order::NAMED, Runs::Natively, |settings| Box::pin(client_order::run(settings))),
    Drill::new(&prefer_ipv6::NAMED, Runs::Natively, |settings| Box::pin(prefer_ipv6::run(settings))),
    Drill::new(&dead_address::NAMED, Runs::Natively, |settings| Box::pin(dead_address::run(settings))),
    Drill::new(&ttl_low_high::NAMED, Runs::Natively, |settings| Box::pin(ttl_low_high::run(settings))),
    Drill::new(&resolver_pins::NAMED, Runs::Natively, |settings| Box::pin(resolver_pins::run(settings))),
    Drill::new(&all_down::NAMED, Runs::Natively, |settings| Box::pin(all_down::run(settings))),
    Drill::new(&primary_authority_dies::NAMED, Runs::Natively, |settings| {
        Box::pin(primary_authority_dies::run(settings))
    }),
];

/// The drill of this name.
pub fn find(name: &str) -> Option<Drill> {
    ALL.into_iter().find(|drill| drill.name == name)
}

/// Reads that any visitor makes: pages, searches that are cached, searches that are not.
fn reads() -> Mix {
    Mix::generated(|n| match n % 4 {
        0 => RequestSpec::get("/"),
        1 => RequestSpec::get("/api/exercises?q=squat&limit=5"),
        2 => RequestSpec::get(&format!("/api/exercises?q=press%20{}&limit=5", n % 97)),
        _ => RequestSpec::get("/api/exercises?q=row&limit=10"),
    })
}

/// A load on the site's name, as clients find it: resolved at our name server.
fn on_the_name(stack: &Stack, kind: ClientKind, rate_per_s: f64, duration: Duration) -> Plan {
    let endpoints = stack.endpoints();
    Plan::by_name(kind, SITE, endpoints.site_port, vec![endpoints.dns])
        .rate(rate_per_s, duration)
        .mix(reads())
}

/// Where and how, for the report.
fn facts(stack: &Stack, settings: Settings) -> Vec<(String, String)> {
    facts_of(format!("{:?}", stack.platform().topology()), settings)
}

/// The same of a drill that needs no stack.
fn facts_of(topology: String, settings: Settings) -> Vec<(String, String)> {
    let mut facts = conditions(settings);
    facts.push(("topology".into(), topology));
    facts
}

/// What every measurement depends on.
fn conditions(settings: Settings) -> Vec<(String, String)> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let form = if settings.short { "short" } else { "long" };
    let platform = if settings.place == Place::Native { "native" } else { "docker" };
    [
        ("platform", platform.to_owned()),
        ("form", form.to_owned()),
        ("machine", format!("{cpus} CPUs, Linux {}", kernel.trim())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_unique() {
        for drill in ALL {
            assert_eq!(find(drill.name).map(|it| it.about), Some(drill.about));
        }
        assert!(find("no-such-drill").is_none());
        assert!(ALL.iter().all(|drill| !drill.about.contains('\n')));
    }
}
