//! forged-cookie: who writes a sticky cookie for himself reaches nothing by it (C8).
//!
//! Given a balancer that pins visitors by a sealed cookie, when an attacker who wants one certain app sends cookies that he
//! made, changed, kept beyond their time, took from a balancer with other keys or from another pool, or sent twice, then
//! each request is answered well, and by that app no more often than chance would have it. The genuine cookie is followed
//! each time, so the measure can tell. The control is HAProxy with the plain cookie of its manual (`cookie SRV insert`):
//! the app's name, typed in by hand, is followed too.

mod forgeries;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::HeaderValue;
use http::header::COOKIE;

use super::answers::{Answer, Answers};
use super::judgement::{Evidence, Judgement, Named};
use super::peer::Peer;
use super::report::{Bar, Chart, Counts, Group, Reference, Run, Seconds, Story};
use super::{Settings, facts};
use crate::load::{self, ClientKind, Mix, Plan, Report, RequestSpec};
use crate::stack::Stack;
use crate::topology::{Override, SITE, Sticky};

use forgeries::{Forgery, GENUINE, KINDS, PLAIN, forgeries};

pub(super) const NAMED: Named = Named {
    name: "forged-cookie",
    claim: "a sticky cookie that is opaque and sealed leads nobody who forged it to the server that it names (C8)",
    protection: "the seal (HAProxy's plain cookie, the server's name)",
};

const APPS: u8 = 3;
const RATE_PER_S: f64 = 300.0;
/// Fewer tries than this do not tell chance from intent.
const TRIES_MIN: u64 = 40;
/// Between what is chance and what is not: five standard deviations, which chance alone exceeds once in some millions.
const DEVIATIONS: f64 = 5.0;
/// The cookies of the third balancer are worth something for so long only; it is the shortest that may be configured.
const SHORT_LIFE: Duration = Duration::from_secs(10);

/// The first balancer is the one under attack; the second has another key ring, the third forgets soon, the fourth has the
/// cookie of another pool.
const OVERRIDES: &[Override] = &[
    Override::new("lb-2", "STICKY__KEYS_FILE", "{secrets}/signing.keys.toml"),
    Override::new("lb-3", "STICKY__LIFETIME_S", "10"),
    Override::new("lb-4", "STICKY__COOKIE", forgeries::OTHER_COOKIE),
];

/// What one kind of cookie came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attack {
    kind: &'static str,
    tries: u64,
    /// Answered by the app that the attacker wanted.
    hits: u64,
    /// Without a complete 2xx.
    failed: u64,
}

impl Attack {
    fn is_beyond_chance(&self, apps: u8) -> bool {
        let (tries, chance) = (self.tries as f64, 1.0 / f64::from(apps));
        self.hits as f64 > tries * chance + DEVIATIONS * (tries * chance * (1.0 - chance)).sqrt()
    }

    fn percent(&self) -> f64 {
        100.0 * self.hits as f64 / self.tries.max(1) as f64
    }
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let builder = Stack::on(settings.place).apps(APPS).lbs(4).sticky(Sticky::On);
    let stack = builder.overrides(OVERRIDES).start().await?;
    let victim = format!("app-{}", 1 + settings.seed % u64::from(APPS));
    let forged = forgeries(&stack, &victim, settings.seed).await?;
    let made = Instant::now();

    let haproxy = Peer::haproxy(&stack, &haproxy_config(&stack).await?).await?;
    let plain = vec![Forgery { kind: PLAIN, cookie: format!("SRV={victim}") }];
    let (control, open) = attack(settings, &victim, plain, &[PLAIN], haproxy.address).await?;

    tokio::time::sleep((SHORT_LIFE + Duration::from_secs(1)).saturating_sub(made.elapsed())).await;
    let (attacks, sealed) = attack(settings, &victim, forged, &KINDS, stack.endpoints().lbs[0]).await?;
    Ok(story(settings, &stack, &attacks, control[0], sealed, open))
}

/// Sends the cookies in an order left to chance, so that none keeps step with the balancer's turns.
async fn attack(
    settings: Settings,
    victim: &str,
    forged: Vec<Forgery>,
    kinds: &[&'static str],
    at: SocketAddr,
) -> Result<(Vec<Attack>, Report)> {
    let duration = Duration::from_secs(if settings.short { 6 } else { 30 });
    let requests: Vec<RequestSpec> = forged
        .iter()
        .map(|it| {
            let tag = kinds.iter().position(|kind| *kind == it.kind).context("a kind of ours")?;
            let cookie = HeaderValue::from_str(&it.cookie).context("a cookie is plain text")?;
            Ok(RequestSpec::get("/").header(COOKIE, cookie).tag(tag as u64))
        })
        .collect::<Result<_>>()?;
    let seed = settings.seed;
    let mix = Mix::generated(move |n| {
        let mut dice = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(n));
        dice.u64(..);
        requests[dice.usize(..requests.len())].clone()
    });
    let answers = Answers::default();
    let seen = answers.clone();
    let plan = Plan::fixed(ClientKind::Plain, vec![at], SITE).rate(RATE_PER_S, duration).mix(mix);
    let load = load::run(plan.observe(move |observed| seen.note(observed))).await?;
    let answers = answers.take();
    let attacks = kinds.iter().enumerate();
    let attacks =
        attacks.map(|(tag, kind)| count(kind, victim, answers.iter().filter(|it| it.tag == tag as u64)));
    Ok((attacks.collect(), load))
}

fn count<'a>(kind: &'static str, victim: &str, answers: impl Iterator<Item = &'a Answer>) -> Attack {
    let mut attack = Attack { kind, tries: 0, hits: 0, failed: 0 };
    for answer in answers {
        attack.tries += 1;
        attack.hits += u64::from(answer.app == victim);
        attack.failed += u64::from(!answer.ok);
    }
    attack
}

/// As its manual has it.
async fn haproxy_config(stack: &Stack) -> Result<String> {
    let mut config = String::from("    balance roundrobin\n    cookie SRV insert indirect nocache\n");
    for n in 1..=APPS {
        let address = stack.address(&format!("app-{n}"), 3000).await?;
        config.push_str(&format!("    server app-{n} {address} cookie app-{n}\n"));
    }
    Ok(config)
}

fn judge(attacks: &[Attack], control: Attack, unanswered: u64) -> Judgement {
    if attacks.iter().chain([&control]).any(|it| it.tries < TRIES_MIN) {
        return Judgement::not_measurable();
    }
    let (genuine, forged): (Vec<&Attack>, Vec<&Attack>) = attacks.iter().partition(|it| it.kind == GENUINE);
    let demands = [
        genuine.iter().all(|it| it.hits == it.tries),
        forged.iter().all(|it| !it.is_beyond_chance(APPS)),
        attacks.iter().all(|it| it.failed == 0),
        unanswered == 0,
    ];
    Judgement::of(&demands, control.is_beyond_chance(APPS))
}

fn story(
    settings: Settings,
    stack: &Stack,
    attacks: &[Attack],
    control: Attack,
    sealed: Report,
    open: Report,
) -> Story {
    let worst =
        attacks.iter().filter(|it| it.kind != GENUINE).max_by(|a, b| a.percent().total_cmp(&b.percent()));
    let worst = worst.copied().unwrap_or(control);
    let counts = Counts::from(&sealed);
    let evidence = Evidence {
        reason: format!(
            "{} kinds of forged cookies, {} requests, {} failed; chance is {:.1} %, the most successful kind ({}) reached its app in \
             {:.1} % of {} tries, the genuine cookie in {:.1} %; HAProxy's plain cookie in {:.1} %",
            attacks.iter().filter(|it| it.kind != GENUINE).count(),
            counts.attempted,
            counts.failed,
            100.0 / f64::from(APPS),
            worst.kind,
            worst.percent(),
            worst.tries,
            attacks.iter().find(|it| it.kind == GENUINE).map_or(0.0, Attack::percent),
            control.percent(),
        ),
        counts,
        seconds: Seconds::default(),
        control_counts: Counts::from(&open),
    };
    let run = |title: &str, load| Run { title: title.into(), load, bands: Vec::new(), events: Vec::new() };
    Story {
        result: judge(attacks, control, counts.failed).result(&NAMED, settings, evidence),
        hypothesis: "An attacker who wants one certain app of three sends cookies that are forged in every way that he has; which app \
                     answers is read from each answer."
            .into(),
        facts: facts(stack, settings),
        charts: vec![chart(attacks, control)],
        runs: vec![run("sealed cookie", sealed), run("control: HAProxy, plain cookie", open)],
    }
}

fn chart(attacks: &[Attack], control: Attack) -> Chart {
    let bar = |it: &Attack| Bar { marked: it.is_beyond_chance(APPS), ..Bar::new(it.kind, it.percent()) };
    Chart {
        title: "answers by the app that the cookie is to lead to".into(),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(APPS), label: "chance".into() }),
        groups: vec![
            Group { title: "sealed cookie".into(), bars: attacks.iter().map(bar).collect() },
            Group { title: "control: HAProxy".into(), bars: vec![bar(&control)] },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    fn attack(kind: &'static str, tries: u64, hits: u64, failed: u64) -> Attack {
        Attack { kind, tries, hits, failed }
    }

    #[track_caller]
    fn check(attacks: &[Attack], control: Attack, verdict: Verdict, caught: bool) {
        assert_eq!(judge(attacks, control, 0), Judgement { verdict, caught });
    }

    const GOOD: Attack = Attack { kind: GENUINE, tries: 90, hits: 90, failed: 0 };
    const FOLLOWED: Attack = Attack { kind: PLAIN, tries: 90, hits: 90, failed: 0 };

    #[test]
    fn holds_when_forged_cookies_hit_by_chance_only() {
        check(&[GOOD, attack("random", 90, 31, 0)], FOLLOWED, Verdict::Holds, true);
        check(&[GOOD, attack("random", 90, 0, 0)], FOLLOWED, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_one_is_followed_or_fails_or_the_genuine_one_is_not() {
        check(&[GOOD, attack("random", 90, 60, 0)], FOLLOWED, Verdict::Refuted, true);
        check(&[GOOD, attack("random", 90, 31, 1)], FOLLOWED, Verdict::Refuted, true);
        check(&[attack(GENUINE, 90, 89, 0), attack("random", 90, 31, 0)], FOLLOWED, Verdict::Refuted, true);
        assert_eq!(judge(&[GOOD], FOLLOWED, 1).verdict, Verdict::Refuted);
    }

    #[test]
    fn the_control_is_missed_when_the_plain_cookie_is_not_followed() {
        check(&[GOOD], attack(PLAIN, 90, 30, 0), Verdict::Holds, false);
    }

    #[test]
    fn few_tries_tell_nothing() {
        check(&[GOOD, attack("random", 39, 13, 0)], FOLLOWED, Verdict::NotMeasurable, false);
    }

    #[test]
    fn chance_is_within_five_deviations() {
        let check = |tries, hits, beyond| assert_eq!(attack("x", tries, hits, 0).is_beyond_chance(3), beyond);
        check(90, 30, false);
        check(90, 52, false);
        check(90, 53, true);
        check(9000, 3223, false);
        check(9000, 3224, true);
    }
}
