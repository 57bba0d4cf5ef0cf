//! ttl-low-high: what the TTL of a record costs, and what it saves (C5).
//!
//! Given names that differ in their TTL alone, behind unbound, BIND and dnsmasq, when clients ask all the time and one of two
//! addresses dies, then the lower the TTL, the more questions reach the name server and the sooner clients stop getting the
//! dead address: no later than the TTL after the name server has withdrawn it. The control switches the resolvers' caches off:
//! then the TTL changes neither.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::judgement::{Evidence, Judgement, Named};
use super::looks::{Look, Seen, last, watch};
use super::report::{Bar, Chart, Counts, Group, Seconds, Story};
use super::{Settings, conditions};
use crate::resolvers::{Authority, Bench, Caching, Resolver, Served, TARGET_PORT, Target, Zone};

pub(super) const NAMED: Named = Named {
    name: "ttl-low-high",
    claim: "a low TTL means more questions at the name server and a faster escape from a dead address; a high TTL the reverse (C5)",
    protection: "the resolvers' caches",
};

/// One zone for each TTL, on a name server of its own, whose answers can be counted apart.
const ORIGINS: [&str; 3] = ["one.example.com", "two.example.com", "three.example.com"];
/// For health checks' jitter, whole seconds in caches, and a client that was late.
const AIR: Duration = Duration::from_secs(2);
/// So many times as many questions have to come with the next lower TTL, which is at most a fifth.
const MORE: u64 = 2;
/// So much later at least has the dead address to go with the next higher TTL.
const LATER: Duration = Duration::from_secs(1);

struct Course {
    ttls_s: &'static [u32],
    kill_after: Duration,
    duration: Duration,
}

const SHORT: Course =
    Course { ttls_s: &[2, 10], kill_after: Duration::from_secs(2), duration: Duration::from_secs(13) };
const LONG: Course =
    Course { ttls_s: &[5, 60, 600], kill_after: Duration::from_secs(10), duration: Duration::from_secs(640) };

/// What came of one TTL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figures {
    ttl_s: u32,
    /// Questions of clients, and those of them that were not answered.
    asked: u64,
    unanswered: u64,
    /// Answers with the dead address after the name server had withdrawn it.
    stale: u64,
    /// Questions that reached the name server.
    reached: u64,
    /// From the kill to the name server's last answer with the dead address.
    withdrawn: Option<Duration>,
    /// From the kill to each resolver's last answer with it; none: it had not gone when the run ended.
    gone: Vec<(Resolver, Option<Duration>)>,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let course = if settings.short { &SHORT } else { &LONG };
    let main = measure(settings, course, Caching::On).await?;
    let without = Course {
        kill_after: Duration::from_secs(1),
        duration: Duration::from_secs(if settings.short { 5 } else { 30 }),
        ..*course
    };
    let control = measure(settings, &without, Caching::Off).await?;
    Ok(story(settings, course, &main, &control))
}

async fn measure(settings: Settings, course: &Course, caching: Caching) -> Result<Vec<Figures>> {
    let bench = Bench::prepare()?;
    let addresses = [bench.host(21), bench.host(22)];
    let mut targets = Vec::new();
    for address in addresses {
        targets.push(Target::start((address, TARGET_PORT).into()).await?);
    }
    let members: Vec<_> = addresses.iter().map(|it| serde_json::json!({ "address": it })).collect();
    let mut authorities = Vec::new();
    for ((host, origin), ttl_s) in (2..).zip(ORIGINS).zip(course.ttls_s) {
        let records = Zone::set("www", *ttl_s, &addresses);
        let zone = Zone { origin, serial: 1, negative_ttl_s: 1, records };
        // The TTL while something is down is the same, so that one number tells all.
        let name = serde_json::json!([{ "name": format!("www.{origin}"), "use": "www", "ttl_s": ttl_s, "ttl_down_s": ttl_s }]);
        let variables = [
            ("STEERING__NAMES", name.to_string()),
            ("POOLS__WWW__MEMBERS", serde_json::json!(members).to_string()),
        ];
        authorities.push(bench.authority(host, &zone, &variables).await?);
    }
    let served: Vec<Served<'_>> =
        ORIGINS.into_iter().zip(&authorities).map(|(origin, it)| (origin, vec![it.address])).collect();
    let resolvers = bench.resolvers(&served, caching).await?;
    let victim = usize::from(settings.seed % 2 == 1);
    let mut before = Vec::new();
    for authority in &authorities {
        before.push(authority.answers().await?);
    }
    let axis = Instant::now();
    let until = axis + course.duration;
    let www: Vec<String> = ORIGINS.map(|origin| format!("www.{origin}")).into();
    let seen = futures_util::future::join_all(authorities.iter().zip(&www).map(|(authority, name)| {
        let behind = resolvers.iter().map(|(_, resolver)| watch(*resolver, name, None, axis, until));
        let all = futures_util::future::join_all(behind);
        let straight = watch(authority.address, name, None, axis, until);
        futures_util::future::join(all, straight)
    }));
    let kill = async {
        tokio::time::sleep(course.kill_after).await;
        targets[victim].kill().await;
        axis.elapsed()
    };
    let (seen, killed_at) = tokio::join!(seen, kill);
    let dead = IpAddr::from(addresses[victim]);
    let mut figures = Vec::new();
    for ((((behind, straight), authority), ttl_s), before) in
        seen.into_iter().zip(&authorities).zip(course.ttls_s).zip(before)
    {
        ensure!(straight.iter().any(|look| look.has(dead)), "{dead} was never in an answer");
        let behind: Vec<_> = resolvers.iter().map(|(resolver, _)| *resolver).zip(behind).collect();
        // Those of the drill's own look at the name server are not the resolvers'.
        let reached = reached(authority, before, &straight).await?;
        figures.push(figures_of(*ttl_s, reached, dead, killed_at, &straight, &behind));
    }
    Ok(figures)
}

async fn reached(authority: &Authority<'_>, before: u64, straight: &[Look]) -> Result<u64> {
    Ok(authority.answers().await?.saturating_sub(before).saturating_sub(straight.len() as u64))
}

fn figures_of(
    ttl_s: u32,
    reached: u64,
    dead: IpAddr,
    killed_at: Duration,
    straight: &[Look],
    behind: &[(Resolver, Vec<Look>)],
) -> Figures {
    // Zero when the last answer with it came before the kill.
    let gone = |looks: &[Look]| {
        let is_over = looks.last().is_some_and(|look| !look.has(dead));
        is_over.then(|| last(looks, |look| look.has(dead)).unwrap_or_default().saturating_sub(killed_at))
    };
    let withdrawn = gone(straight);
    let all = || behind.iter().flat_map(|(_, looks)| looks);
    let answered = |look: &&Look| matches!(look.seen, Seen::Addresses(_));
    let asked = all().count() as u64;
    let is_stale = |look: &&Look| look.has(dead) && withdrawn.is_some_and(|it| look.at > killed_at + it);
    Figures {
        ttl_s,
        asked,
        unanswered: asked - all().filter(answered).count() as u64,
        stale: all().filter(is_stale).count() as u64,
        reached,
        withdrawn,
        gone: behind.iter().map(|(resolver, looks)| (*resolver, gone(looks))).collect(),
    }
}

impl Figures {
    /// Whether the dead address was gone everywhere when it had to be.
    fn in_time(&self) -> bool {
        let Some(withdrawn) = self.withdrawn else { return false };
        let latest = withdrawn + Duration::from_secs(u64::from(self.ttl_s)) + AIR;
        self.gone.iter().all(|(_, gone)| gone.is_some_and(|gone| gone <= latest))
    }

    fn asks_more_than(&self, higher: &Self) -> bool {
        self.reached >= MORE * higher.reached
    }

    /// At every resolver.
    fn is_sooner_than(&self, higher: &Self) -> bool {
        let mut pairs = self.gone.iter().zip(&higher.gone);
        pairs.all(|((_, low), (_, high))| low.zip(*high).is_some_and(|(low, high)| low + LATER <= high))
    }

    fn latest(&self) -> Option<Duration> {
        self.gone.iter().map(|(_, gone)| *gone).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// By TTL, the lowest first.
fn judge(main: &[Figures], control: &[Figures]) -> Judgement {
    let mut demands: Vec<bool> = main.iter().map(Figures::in_time).collect();
    demands.extend(main.iter().map(|it| it.unanswered == 0));
    for pair in main.windows(2) {
        demands.extend([pair[0].asks_more_than(&pair[1]), pair[0].is_sooner_than(&pair[1])]);
    }
    let same = |pair: &[Figures]| !pair[0].asks_more_than(&pair[1]) && !pair[0].is_sooner_than(&pair[1]);
    Judgement::of(&demands, control.len() > 1 && control.windows(2).all(same))
}

fn counts(all: &[Figures]) -> Counts {
    let mut counts = Counts::default();
    for it in all {
        counts.attempted += it.asked;
        counts.acknowledged += it.asked - it.unanswered;
        counts.failed += it.unanswered;
        counts.stale += it.stale;
    }
    counts
}

fn seconds(duration: Option<Duration>) -> String {
    duration.map_or("never".into(), |it| format!("{:.1} s", it.as_secs_f64()))
}

fn in_words(all: &[Figures]) -> String {
    let words = all.iter().map(|it| {
        let gone: Vec<String> =
            it.gone.iter().map(|(resolver, gone)| format!("{} {}", resolver.name(), seconds(*gone))).collect();
        format!(
            "TTL {} s: {} of {} questions reached the name server, the dead address withdrawn after {}, gone after {}",
            it.ttl_s,
            it.reached,
            it.asked,
            seconds(it.withdrawn),
            gone.join(", ")
        )
    });
    words.collect::<Vec<_>>().join("; ")
}

fn story(settings: Settings, course: &Course, main: &[Figures], control: &[Figures]) -> Story {
    let as_s = |duration: Option<Duration>| duration.map(|it| it.as_secs_f64());
    let (low, high) = (&main[0], &main[main.len() - 1]);
    let evidence = Evidence {
        reason: format!("{}; without caches: {}", in_words(main), in_words(control)),
        counts: counts(main),
        seconds: Seconds {
            detect: as_s(low.withdrawn),
            failover: as_s(low.latest()),
            recover: as_s(high.latest()),
        },
        control_counts: counts(control),
    };
    let mut facts = conditions(settings);
    facts.push(("TTLs".into(), format!("{:?} s", course.ttls_s)));
    Story {
        result: judge(main, control).result(&NAMED, settings, evidence),
        hypothesis: "Names that differ in their TTL alone have the same two addresses. Clients behind unbound, BIND and dnsmasq ask ten times \
                     a second; one address dies and is withdrawn by the name server's health checks."
            .into(),
        facts,
        charts: vec![questions(main, control), escape(main, control)],
        runs: Vec::new(),
    }
}

fn chart(
    title: &str,
    unit: &'static str,
    [main, control]: [&[Figures]; 2],
    bars: impl Fn(&Figures) -> Vec<Bar>,
) -> Chart {
    let group =
        |words: &str, it: &Figures| Group { title: format!("TTL {} s{words}", it.ttl_s), bars: bars(it) };
    let groups = main.iter().map(|it| group("", it));
    let groups = groups.chain(control.iter().map(|it| group(", no caches", it))).collect();
    Chart { title: title.into(), unit, reference: None, groups }
}

fn questions(main: &[Figures], control: &[Figures]) -> Chart {
    chart("of the clients' questions reached the name server", "%", [main, control], |it| {
        vec![Bar::new("reached it", 100.0 * it.reached as f64 / it.asked.max(1) as f64)]
    })
}

fn escape(main: &[Figures], control: &[Figures]) -> Chart {
    chart("from the kill to the last answer with the dead address", "s", [main, control], |it| {
        let bar = |name: &str, at: Option<Duration>| Bar::new(name, at.unwrap_or_default().as_secs_f64());
        let behind = it.gone.iter().map(|(resolver, gone)| bar(resolver.name(), *gone));
        [bar("the name server itself", it.withdrawn).marked()].into_iter().chain(behind).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::looks::tests::looks;
    use super::*;
    use crate::drill::report::Verdict;

    /// Questions at the name server, and tenths of seconds until the dead address was gone at each resolver.
    fn figures(ttl_s: u32, reached: u64, gone: [u64; 3]) -> Figures {
        let gone = gone.map(|tenths| Some(Duration::from_millis(100 * tenths)));
        Figures {
            ttl_s,
            asked: 300,
            unanswered: 0,
            stale: 0,
            reached,
            withdrawn: Some(Duration::from_millis(300)),
            gone: Resolver::ALL.into_iter().zip(gone).collect(),
        }
    }

    fn low() -> Figures {
        figures(2, 20, [18, 20, 19])
    }

    fn high() -> Figures {
        figures(10, 6, [80, 60, 81])
    }

    fn control() -> [Figures; 2] {
        [figures(2, 300, [3, 3, 4]), figures(10, 290, [3, 4, 3])]
    }

    #[track_caller]
    fn check(low: Figures, high: Figures, control: &[Figures], verdict: Verdict, caught: bool) {
        assert_eq!(judge(&[low, high], control), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_the_low_one_asks_more_and_escapes_sooner() {
        check(low(), high(), &control(), Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_one_of_the_two_is_not_so() {
        check(low(), figures(10, 11, [80, 60, 81]), &control(), Verdict::Refuted, true);
        check(low(), figures(10, 6, [80, 29, 81]), &control(), Verdict::Refuted, true);
        check(figures(2, 20, [18, 20, 44]), high(), &control(), Verdict::Refuted, true);
        check(Figures { withdrawn: None, ..low() }, high(), &control(), Verdict::Refuted, true);
        check(Figures { unanswered: 1, ..low() }, high(), &control(), Verdict::Refuted, true);
        let mut stuck = high();
        stuck.gone[1].1 = None;
        check(low(), stuck, &control(), Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_the_ttl_still_tells() {
        check(low(), high(), &[low(), high()], Verdict::Holds, false);
        check(low(), high(), &[figures(2, 300, [3; 3]), figures(10, 6, [3; 3])], Verdict::Holds, false);
        check(low(), high(), &[figures(2, 300, [3; 3]), figures(10, 300, [80; 3])], Verdict::Holds, false);
        check(low(), high(), &[], Verdict::Holds, false);
    }

    #[test]
    fn figures_come_from_looks() {
        let dead = IpAddr::from([127, 64, 0, 1]);
        let behind = [(Resolver::Unbound, looks("1111!--"))];
        let it = figures_of(2, 9, dead, Duration::from_secs(1), &looks("11-----"), &behind);
        assert_eq!((it.asked, it.unanswered, it.stale, it.reached), (7, 3, 2, 9));
        assert_eq!(it.withdrawn, Some(Duration::ZERO));
        assert_eq!(it.gone, [(Resolver::Unbound, Some(Duration::from_secs(2)))]);
        let stuck =
            figures_of(2, 9, dead, Duration::from_secs(1), &looks("11-"), &[(Resolver::Bind, looks("--1"))]);
        assert_eq!(stuck.gone[0].1, None);
    }
}
