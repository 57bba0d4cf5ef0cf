//! skew: backends have to be identical in content, and one that is not is found (C6).
//!
//! Given three apps of which one shows something else than the others, when the balancers compare the hashes of content in the
//! health answers, then after the grace time they exclude that one, and no visitor sees the other content. The control
//! switches the comparison off: everything looks healthy, and every third page is a different one.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::answers::{Answers, Shares, shares};
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Group, Reference, Run, Seconds, Story};
use super::{Settings, facts, on_the_name};
use crate::eventually::attempt;
use crate::load::{self, Check, ClientKind, Mix, Outcome, Report, RequestSpec};
use crate::stack::Stack;
use crate::topology::{Override, Topology};

pub(super) const NAMED: Named = Named {
    name: "skew",
    claim: "an app with other content than its siblings is found by its health answer and gets no visitors (C6)",
    protection: "comparing the content (health.content_check off)",
};

const APPS: u8 = 3;
const ODD: &str = "app-3";
const NOTICE: &str = "Closed on Mondays";
const RATE_PER_S: f64 = 200.0;
/// For the grace time, some health checks, and whatever else the machine does.
const FOUND_DEADLINE: Duration = Duration::from_secs(20);

const OTHER_CONTENT: Override = Override::new(ODD, "SITE__NOTICE", NOTICE);
const COMPARED: &[Override] = &[
    OTHER_CONTENT,
    Override::new("lb", "HEALTH__CONTENT_CHECK", "exclude"),
    Override::new("lb", "HEALTH__CONTENT_GRACE_MS", "1000"),
];
const NOT_COMPARED: &[Override] = &[OTHER_CONTENT, Override::new("lb", "HEALTH__CONTENT_CHECK", "off")];

/// What visitors were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    /// Pages, complete and 2xx.
    pages: u64,
    /// With the other content.
    odd: u64,
    /// Anything but a page.
    failed: u64,
}

struct Measured {
    title: &'static str,
    figures: Figures,
    shares: Shares,
    load: Report,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(APPS).overrides(COMPARED).start().await?;
    excluded(&stack).await?;
    let compared = measure(&stack, settings, "content compared").await?;
    stack.with(Topology { overrides: NOT_COMPARED, ..stack.platform().topology() }).await?;
    let not_compared = measure(&stack, settings, "not compared").await?;
    Ok(story(settings, &stack, &compared, &not_compared))
}

/// Waits until both balancers have excluded one.
async fn excluded(stack: &Stack) -> Result<()> {
    attempt("the odd one is excluded", FOUND_DEADLINE, async || {
        for lb in ["lb-1", "lb-2"] {
            let excluded = stack.scrape(lb, "lb_backend_state", "state=\"excluded\"").await?;
            ensure!(excluded >= 1.0, "{lb} excludes nobody");
        }
        Ok(())
    })
    .await
}

async fn measure(stack: &Stack, settings: Settings, title: &'static str) -> Result<Measured> {
    let duration = Duration::from_secs(if settings.short { 5 } else { 30 });
    let answers = Answers::default();
    let seen = answers.clone();
    let plan =
        on_the_name(stack, ClientKind::Retrying, RATE_PER_S, duration).mix(Mix::one(RequestSpec::get("/")));
    let plan = plan.observe(move |observed| {
        seen.note(observed);
        match observed.outcome {
            Outcome::Complete(page) if page.text().contains(NOTICE) => Check::Reject,
            _ => Check::Accept,
        }
    });
    let load = load::run(plan).await?;
    let odd = load.of_class(load::ErrorClass::Content);
    let failed = Counts::from(&load).failed - odd;
    let figures = Figures { pages: load.ok + odd, odd, failed };
    Ok(Measured { title, figures, shares: shares(&answers.take()), load })
}

fn judge(compared: Figures, not_compared: Figures) -> Judgement {
    if compared.pages == 0 || not_compared.pages == 0 {
        return Judgement::not_measurable();
    }
    Judgement::of(&[compared.odd == 0, compared.failed == 0], not_compared.odd > 0)
}

fn story(settings: Settings, stack: &Stack, compared: &Measured, not_compared: &Measured) -> Story {
    let words = [compared, not_compared].map(|it| {
        format!("{}: {} of {} pages had other content", it.title, it.figures.odd, it.figures.pages)
    });
    let evidence = Evidence {
        reason: words.join("; "),
        counts: Counts::from(&compared.load),
        seconds: Seconds::default(),
        control_counts: Counts::from(&not_compared.load),
    };
    let group = |it: &Measured| Group {
        title: it.title.into(),
        bars: (1..=APPS)
            .map(|n| {
                let app = format!("app-{n}");
                Bar { marked: app == ODD, ..Bar::new(&app, 100.0 * it.shares.of(&app)) }
            })
            .collect(),
    };
    let chart = Chart {
        title: "share of the pages; app-3 shows something else".into(),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(APPS), label: "fair".into() }),
        groups: vec![group(compared), group(not_compared)],
    };
    let run = |it: &Measured| Run {
        title: format!("{} (pages with other content count as errors)", it.title),
        load: it.load.clone(),
        bands: Vec::new(),
        events: Vec::new(),
    };
    Story {
        result: judge(compared.figures, not_compared.figures).result(&NAMED, settings, evidence),
        hypothesis: "One app of three was started with another notice at the foot of its pages; visitors read the front page, and each \
                     page is searched for that notice."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart],
        runs: vec![run(compared), run(not_compared)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    #[track_caller]
    fn check(compared: (u64, u64, u64), not_compared: (u64, u64, u64), verdict: Verdict, caught: bool) {
        let figures = |(pages, odd, failed)| Figures { pages, odd, failed };
        assert_eq!(judge(figures(compared), figures(not_compared)), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_nobody_sees_the_other_content() {
        check((1000, 0, 0), (1000, 333, 0), Verdict::Holds, true);
    }

    #[test]
    fn refuted_by_one_odd_page_or_one_failure() {
        check((1000, 1, 0), (1000, 333, 0), Verdict::Refuted, true);
        check((999, 0, 1), (1000, 333, 0), Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_it_shows_nothing_odd() {
        check((1000, 0, 0), (1000, 0, 0), Verdict::Holds, false);
    }

    #[test]
    fn no_page_tells_nothing() {
        check((0, 0, 1000), (1000, 333, 0), Verdict::NotMeasurable, false);
    }
}
