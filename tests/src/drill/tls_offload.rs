//! tls-offload: where TLS ends is where its CPU is spent (C25).
//!
//! Given newcomers, each with a TLS handshake of its own and a few pages, when TLS ends at the balancer, then an app spends for
//! a page about what it spends without any TLS, and the balancer spends the rest. The control ends TLS at each app instead: the
//! visitors come straight to the apps, in turn, and the apps pay for the handshakes.
//!
//! CPU time is the scheduler's own, of the processes of both apps and of the balancer. It does not depend on how long visitors
//! wait, so what else uses the machine changes it little.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::Full;

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Group, Seconds, Story};
use super::{Settings, facts};
use crate::bench::meter::Meter;
use crate::http_client::{BODY_BYTES_MAX, Connection, Trust, collect, open};
use crate::stack::Stack;
use crate::topology::{Override, SITE};

pub(super) const NAMED: Named = Named {
    name: "tls-offload",
    claim: "TLS that ends at the balancer costs the apps next to nothing (C25)",
    protection: "the offload (TLS ends at each app)",
};

const APPS: u8 = 2;
const SECURE_PORT: u16 = 3443;
const OVERRIDES: &[Override] = &[
    Override::new("app-1", "TLS__LISTEN", "{net}.21:3443"),
    Override::new("app-2", "TLS__LISTEN", "{net}.22:3443"),
    Override::new("app", "TLS__CERTIFICATE_FILE", "{secrets}/site.pem"),
];
/// Newcomers at the same time.
const CLIENTS: u64 = 8;
/// What one looks at before it leaves.
const PAGES: [&str; 2] = ["/", "/api/exercises?q=squat&limit=5"];
const DEADLINE: Duration = Duration::from_secs(10);
/// Of what TLS would cost the apps, at least so much has to be spared. Not all of it shows: handshakes spread the pages over
/// more time, and an app that gets its work in smaller portions spends more on each, the busier the machine the more.
const SPARED: f64 = 0.5;
/// With handshakes, a page costs an app at least so many times what it costs without.
const MORE: f64 = 1.5;

/// CPU time a page, and what became of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Cost {
    app_us: f64,
    lb_us: f64,
    pages: u64,
    failed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    /// No TLS at all.
    plain: Cost,
    at_lb: Cost,
    at_apps: Cost,
}

/// Where newcomers go, and whether they speak TLS.
struct Way {
    addresses: Vec<SocketAddr>,
    trust: Option<Trust>,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let stack = Stack::on(settings.place).apps(APPS).lbs(1).overrides(OVERRIDES).start().await?;
    let trust = Trust::new(&stack.platform().authority().await?, SITE)?;
    let endpoints = stack.endpoints();
    let mut apps = Vec::new();
    for n in 1..=APPS {
        let ip = stack.app(n).status().await?.address.with_context(|| format!("app-{n} has an address"))?;
        apps.push(SocketAddr::new(ip, SECURE_PORT));
    }
    let meters = Meters::of(&stack).await?;
    let visits = if settings.short { 600 } else { 6_000 };
    let plain = Way { addresses: endpoints.lbs, trust: None };
    let at_lb = Way { addresses: endpoints.secure_lbs, trust: Some(trust.clone()) };
    let at_apps = Way { addresses: apps, trust: Some(trust) };
    // Caches and connections are as warm for the first as for the last.
    meters.cost(&plain, visits / 4).await?;
    let figures = Figures {
        plain: meters.cost(&plain, visits).await?,
        at_lb: meters.cost(&at_lb, visits).await?,
        at_apps: meters.cost(&at_apps, visits).await?,
    };
    Ok(story(settings, &stack, &figures))
}

/// Who spends CPU time for visitors.
struct Meters {
    apps: Vec<Meter>,
    lb: Meter,
}

impl Meters {
    async fn of(stack: &Stack) -> Result<Self> {
        let mut apps = Vec::new();
        for n in 1..=APPS {
            let pid = stack.app(n).status().await?.pid.with_context(|| format!("app-{n} has a process"))?;
            apps.push(Meter::of_pid(pid));
        }
        let lb = stack.lb(1).status().await?.pid.context("lb-1 has a process")?;
        Ok(Self { apps, lb: Meter::of_pid(lb) })
    }

    fn apps(&self) -> Result<Duration> {
        self.apps.iter().map(Meter::cpu).sum()
    }

    /// Lets so many newcomers in and says what each page cost.
    async fn cost(&self, way: &Way, visits: u64) -> Result<Cost> {
        let (apps, lb) = (self.apps()?, self.lb.cpu()?);
        let (pages, failed) = way.visited(visits).await;
        ensure!(pages > 0, "no page was answered at {:?}", way.addresses);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let each_us = |spent: Duration| spent.as_secs_f64() * 1e6 / pages as f64;
        Ok(Cost {
            app_us: each_us(self.apps()?.saturating_sub(apps)),
            lb_us: each_us(self.lb.cpu()?.saturating_sub(lb)),
            pages,
            failed,
        })
    }
}

impl Way {
    /// Pages that were answered in full, and others.
    async fn visited(&self, visits: u64) -> (u64, u64) {
        let (next, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        let client = || async {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= visits {
                    return;
                }
                let at = usize::try_from(n).unwrap_or_default() % self.addresses.len();
                // What was answered before a failure counts; the rest of the visit is what failed.
                let _ = tokio::time::timeout(DEADLINE, self.visit(self.addresses[at], &answered)).await;
            }
        };
        futures_util::future::join_all((0..CLIENTS).map(|_| client())).await;
        let answered = answered.into_inner();
        (answered, visits * PAGES.len() as u64 - answered)
    }

    async fn visit(&self, address: SocketAddr, answered: &AtomicU64) -> Result<()> {
        let mut connection = match &self.trust {
            None => open(address).await?,
            Some(trust) => trust.open(address).await?,
        };
        for page in PAGES {
            look_at(&mut connection, page).await?;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

async fn look_at(connection: &mut Connection, page: &str) -> Result<()> {
    connection.sender.ready().await?;
    let request = Request::get(page).header(HOST, SITE).body(Full::new(Bytes::new()))?;
    let (head, body) = connection.sender.send_request(request).await?.into_parts();
    ensure!(head.status.is_success(), "{page}: {}", head.status);
    collect(body, BODY_BYTES_MAX).await.map_err(|(_, fault)| anyhow::anyhow!("{page} was cut: {fault}"))?;
    Ok(())
}

fn judge(it: &Figures) -> Judgement {
    let demands =
        [spared(it) >= SPARED, it.at_lb.lb_us > it.plain.lb_us, it.plain.failed + it.at_lb.failed == 0];
    Judgement::of(&demands, it.at_apps.app_us >= MORE * it.plain.app_us)
}

/// Part of what TLS costs the apps that they do not pay when the balancer does.
fn spared(it: &Figures) -> f64 {
    (it.at_apps.app_us - it.at_lb.app_us) / (it.at_apps.app_us - it.plain.app_us).max(f64::MIN_POSITIVE)
}

fn counts(all: &[Cost]) -> Counts {
    let pages = all.iter().map(|it| it.pages).sum();
    let failed = all.iter().map(|it| it.failed).sum();
    Counts { attempted: pages + failed, acknowledged: pages, failed, ..Counts::default() }
}

fn story(settings: Settings, stack: &Stack, figures: &Figures) -> Story {
    let Figures { plain, at_lb, at_apps } = figures;
    let words = |it: &Cost| format!("apps {:.0} us, balancer {:.0} us a page", it.app_us, it.lb_us);
    let evidence = Evidence {
        reason: format!(
            "no TLS: {}; TLS ends at the balancer: {}; at each app: {}; spared {:.0} % of what it costs the apps",
            words(plain),
            words(at_lb),
            words(at_apps),
            100.0 * spared(figures),
        ),
        counts: counts(&[*plain, *at_lb]),
        seconds: Seconds::default(),
        control_counts: counts(&[*at_apps]),
    };
    let mut facts = facts(stack, settings);
    facts.push(("each newcomer".into(), format!("a full handshake of TLS 1.3, {} pages", PAGES.len())));
    Story {
        result: judge(figures).result(&NAMED, settings, evidence),
        hypothesis: "The same newcomers come without TLS, with TLS to the balancer, and with TLS straight to the apps; the CPU time \
                     of the apps and of the balancer is read before and after."
            .into(),
        facts,
        charts: vec![chart(figures)],
        runs: Vec::new(),
    }
}

fn chart(figures: &Figures) -> Chart {
    let group = |title: &str, cost: &Cost, marked: bool| {
        let apps = Bar::new("apps", cost.app_us);
        let bars = vec![if marked { apps.marked() } else { apps }, Bar::new("balancer", cost.lb_us)];
        Group { title: title.into(), bars }
    };
    Chart {
        title: "CPU time a page".into(),
        unit: "us",
        reference: None,
        groups: vec![
            group("no TLS", &figures.plain, false),
            group("TLS ends at the balancer", &figures.at_lb, false),
            group("control: TLS ends at each app", &figures.at_apps, true),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    fn good() -> Figures {
        let cost = |app_us, lb_us| Cost { app_us, lb_us, pages: 1_200, failed: 0 };
        Figures { plain: cost(200.0, 60.0), at_lb: cost(205.0, 250.0), at_apps: cost(420.0, 0.0) }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Figures), verdict: Verdict, caught: bool) {
        let mut figures = good();
        change(&mut figures);
        assert_eq!(judge(&figures), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_the_balancer_pays() {
        check(|_| {}, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_the_apps_pay_too_nobody_pays_or_pages_fail() {
        check(|it| it.at_lb.app_us = 320.0, Verdict::Refuted, true);
        check(|it| it.at_lb.lb_us = 60.0, Verdict::Refuted, true);
        check(|it| it.at_lb.failed = 1, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_tls_costs_the_apps_nothing() {
        check(|it| it.at_apps.app_us = 280.0, Verdict::Holds, false);
    }
}
