//! no-load-view: the name server does not know who is busy (C5).
//!
//! Given three servers of which one takes at least ten times as long as the others, when clients find them by rotated answers
//! alone, then the slow one keeps its full third (its health checks are late, not bad) and makes their 99th percentile.
//! When a balancer that looks at latency (peak EWMA) stands before the same three, the slow one is relieved. The main run is the one
//! with the balancer, the control the one with DNS alone.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::alone::Alone;
use super::answers::{Answers, Shares, percentile, shares};
use super::judgement::{Evidence, Judgement, Named};
use super::peer::{Peer, Web};
use super::report::{Bar, Chart, Counts, Group, Reference, Run, Seconds, Story};
use super::{Settings, facts_of};
use crate::chaos_proxy::ChaosProxy;
use crate::lease::{self, Lease};
use crate::load::{self, Arrival, ClientKind, Plan, Report};
use crate::topology::{Network, SITE};

pub(super) const NAMED: Named = Named {
    name: "no-load-view",
    claim: "round-robin DNS has no view of load: a slow server keeps its share, until a balancer stands before it (C5)",
    protection: "the balancer (clients find the servers by DNS alone)",
};

const SERVERS: u8 = 3;
const SLOW: &str = "app-3";
const RATE_PER_S: f64 = 150.0;
/// By how much the slow server is late: a web server here answers within a millisecond, and within some on a busy machine.
const DELAY: Duration = Duration::from_millis(100);
/// A part of the requests within a fifth of the fair one is still fair; less than half of it is not.
const FAIR: RangeInclusive<f64> = 0.8 / SERVERS as f64..=1.2 / SERVERS as f64;
const RELIEVED: f64 = 0.5 / SERVERS as f64;
const CHECKED: &str = r#"
health.mode = "http"
health.port = 3000
health.timeout_ms = 5000
steering.names = [{ name = "fitness.example.com", use = "apps" }]
pools.apps.from = "fitness.example.com"
"#;
/// Neither of the two is to take the slow server for a dead one, however busy the machine is.
const BY_LATENCY: &str = "balance.algorithm = \"ewma\"\nhealth.timeout_ms = 5000\n";

/// What became of the same load.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    /// The slow server's part, from 0 to 1.
    slow_part: f64,
    p50: Duration,
    p90: Duration,
    p99: Duration,
    answered: u64,
    failed: u64,
}

struct Measured {
    title: &'static str,
    figures: Figures,
    shares: Shares,
    load: Report,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let lease = Lease::for_test(&lease::state_root())?;
    let network = Network(lease.network());
    let apps: Vec<SocketAddr> = (1..=SERVERS).map(|n| network.app(n)).collect();
    let slow_app = apps[usize::from(SERVERS) - 1];
    let behind = SocketAddr::new(slow_app.ip(), slow_app.port() + 1);
    let listen = |app: SocketAddr| if app == slow_app { behind } else { app };
    let servers: Vec<Web> = (1..=SERVERS)
        .zip(&apps)
        .map(|(n, app)| Web { name: format!("app-{n}"), listen: vec![listen(*app)] })
        .collect();
    let _servers = Peer::nginx(None, &servers).await?;
    let link = ChaosProxy::start_on(slow_app, behind).await.context("the slow server's link")?;
    let records: String = apps.iter().map(|app| format!("@ 1 IN A {}\n", app.ip())).collect();
    let _dns = Alone::dns(None, network.dns(), &records, CHECKED).await?;
    let _lb = Alone::lb(network.lb(1), &apps, BY_LATENCY).await?;

    let duration = Duration::from_secs(if settings.short { 6 } else { 30 });
    let arrival = Arrival::Poisson { seed: settings.seed };
    let by_lb = Plan::fixed(ClientKind::Plain, vec![network.lb(1)], SITE).arrival(arrival);
    let by_dns =
        Plan::by_name(ClientKind::Plain, SITE, slow_app.port(), vec![network.dns()]).arrival(arrival);
    link.delay(DELAY / 2, Duration::ZERO);
    let lb = measure(by_lb.rate(RATE_PER_S, duration), "through the balancer").await?;
    let dns = measure(by_dns.rate(RATE_PER_S, duration), "by DNS alone").await?;
    Ok(story(settings, &lb, &dns))
}

async fn measure(plan: Plan, title: &'static str) -> Result<Measured> {
    let answers = Answers::default();
    let seen = answers.clone();
    let load = load::run(plan.observe(move |observed| seen.note(observed))).await?;
    let answers = answers.take();
    let figures = Figures {
        slow_part: shares(&answers).of(SLOW),
        p50: percentile(&answers, 0.5),
        p90: percentile(&answers, 0.9),
        p99: percentile(&answers, 0.99),
        answered: load.ok,
        failed: Counts::from(&load).failed,
    };
    Ok(Measured { title, figures, shares: shares(&answers), load })
}

/// By shares: how late the others are is the machine's affair.
fn judge(lb: Figures, dns: Figures) -> Judgement {
    let demands = [lb.slow_part <= RELIEVED, lb.answered > 0, lb.failed == 0, dns.failed == 0];
    Judgement::of(&demands, FAIR.contains(&dns.slow_part) && dns.p99 >= DELAY)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn story(settings: Settings, lb: &Measured, dns: &Measured) -> Story {
    let all = [lb, dns];
    let words = all.map(|it| {
        let Figures { slow_part, p50, p90, p99, .. } = it.figures;
        let [p50, p90, p99] = [p50, p90, p99].map(milliseconds);
        let part = 100.0 * slow_part;
        format!("{}: {part:.1} % to the slow server, p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1} ms", it.title)
    });
    let delay_ms = milliseconds(DELAY);
    let evidence = Evidence {
        reason: format!("one server of three answers {delay_ms:.0} ms later; {}", words.join("; ")),
        counts: Counts::from(&lb.load),
        seconds: Seconds::default(),
        control_counts: Counts::from(&dns.load),
    };
    let mut facts = facts_of("dns, lb and 3 web servers".into(), settings);
    facts.push(("the slow server is late by".into(), format!("{delay_ms:.0} ms")));
    Story {
        result: judge(lb.figures, dns.figures).result(&NAMED, settings, evidence),
        hypothesis: "The link to one of three web servers is made so slow that its answers are late by a hundred milliseconds. The same load comes \
                     through a balancer, then straight to the addresses that the name server gives, whose health checks go on."
            .into(),
        facts,
        charts: vec![shares_chart(&all), latency_chart(&all)],
        runs: all.map(|it| Run { title: it.title.into(), load: it.load.clone(), bands: vec![], events: vec![] }).into(),
    }
}

fn shares_chart(all: &[&Measured]) -> Chart {
    let group = |it: &&Measured| Group {
        title: it.title.into(),
        bars: (1..=SERVERS)
            .map(|n| format!("app-{n}"))
            .map(|app| Bar { marked: app == SLOW, ..Bar::new(&app, 100.0 * it.shares.of(&app)) })
            .collect(),
    };
    Chart {
        title: "share of the requests; app-3 is slow".into(),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(SERVERS), label: "fair".into() }),
        groups: all.iter().map(group).collect(),
    }
}

fn latency_chart(all: &[&Measured]) -> Chart {
    let group = |it: &&Measured| {
        let Figures { p50, p90, p99, .. } = it.figures;
        let bars = [("median", p50), ("90th percentile", p90), ("99th percentile", p99)];
        let bars = bars.map(|(label, time)| Bar::new(label, milliseconds(time)));
        Group { title: it.title.into(), bars: bars.into() }
    };
    let groups = all.iter().map(group).collect();
    Chart { title: "latency from due time".into(), unit: "ms", reference: None, groups }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    /// Figures in percent and milliseconds.
    fn figures(slow_percent: f64, p99: u64) -> Figures {
        let ms = Duration::from_millis;
        Figures {
            slow_part: slow_percent / 100.0,
            p50: ms(3),
            p90: ms(p99),
            p99: ms(p99),
            answered: 900,
            failed: 0,
        }
    }

    #[track_caller]
    fn check(lb: Figures, dns: Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(lb, dns), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_only_the_balancer_relieves_the_slow_server() {
        check(figures(0.5, 7), figures(33.0, 105), Verdict::Holds, true);
        check(figures(6.0, 900), figures(33.0, 105), Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_the_balancer_does_not_or_a_request_failed() {
        check(figures(20.0, 9), figures(33.0, 105), Verdict::Refuted, true);
        check(Figures { answered: 0, ..figures(0.0, 0) }, figures(33.0, 105), Verdict::Refuted, true);
        check(Figures { failed: 1, ..figures(0.5, 9) }, figures(33.0, 105), Verdict::Refuted, true);
        check(figures(0.5, 9), Figures { failed: 1, ..figures(33.0, 105) }, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_dns_alone_relieves_it_or_nobody_notices() {
        check(figures(0.5, 9), figures(10.0, 105), Verdict::Holds, false);
        check(figures(0.5, 9), figures(33.0, 9), Verdict::Holds, false);
    }
}
