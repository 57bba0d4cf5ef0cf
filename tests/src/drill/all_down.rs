//! all-down: what a name answers when nothing behind it is left, and how long resolvers remember it (C5).
//!
//! Given four names with the same targets and one policy each for the time when all are down, when every target dies, clients
//! behind unbound, BIND and dnsmasq come, and the targets live again, then the name that serves all works again at once; the
//! one with an empty answer works again only when the resolvers have forgotten it, after the negative TTL; the one with a
//! fallback had an answer that worked all the time. The control sets the negative TTL to zero: then the empty answer costs no
//! more than the time in which the name server notices.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::judgement::{Evidence, Judgement, Named};
use super::looks::{Look, Seen, look, settled, watch};
use super::report::{Bar, Chart, Counts, Group, Seconds, Story};
use super::{Settings, conditions};
use crate::dns_client::DnsClient;
use crate::eventually::eventually;
use crate::resolvers::{Authority, Bench, Caching, Resolver, TARGET_PORT, Target, Zone};

pub(super) const NAMED: Named = Named {
    name: "all-down",
    claim: "when all targets are down, serve-all recovers with the first of them, while resolvers remember an empty answer for the negative TTL (C5)",
    protection: "the negative TTL (a SOA minimum of 0)",
};

const ORIGIN: &str = "fitness.example.com";
const TTL_S: u32 = 1;
/// For health checks that see the targets again, whole seconds in caches, and a client that was late.
const AIR: Duration = Duration::from_secs(2);
/// Resolvers may remember failures for five minutes at most (RFC 9520); these do for five seconds or less.
const SERVFAIL_MEMORY: Duration = Duration::from_secs(5);
/// Until the name server has seen that all are down.
const NOTICE_DEADLINE: Duration = Duration::from_secs(30);

/// What a name does when all its targets are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    ServeAll,
    Empty,
    Servfail,
    Fallback,
}

impl Policy {
    const ALL: [Self; 4] = [Self::ServeAll, Self::Empty, Self::Servfail, Self::Fallback];

    /// As in the configuration.
    fn name(self) -> &'static str {
        match self {
            Self::ServeAll => "serve-all",
            Self::Empty => "empty",
            Self::Servfail => "servfail",
            Self::Fallback => "fallback",
        }
    }

    /// The name that it is the policy of.
    fn domain(self) -> String {
        format!("{}.{ORIGIN}", self.name())
    }

    /// The pool's name in variables.
    fn pool(self) -> &'static str {
        match self {
            Self::ServeAll => "SERVEALL",
            Self::Empty => "EMPTY",
            Self::Servfail => "SERVFAIL",
            Self::Fallback => "FALLBACK",
        }
    }
}

struct Course {
    negative_ttl_s: u32,
    /// From the first question of a client to the first target that lives again.
    down: Duration,
    /// From there to the end.
    after: Duration,
}

/// What the clients of one resolver met at one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figures {
    resolver: Resolver,
    policy: Policy,
    asked: u64,
    /// What came while all were down, most often first, in words.
    seen: String,
    /// Looks while all were down that reached nothing.
    unserved: u64,
    /// From the recovery until every further look reached something; none: not before the end.
    recovered: Option<Duration>,
    /// The same for the targets themselves, not the fallback.
    back: Option<Duration>,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let (negative_ttl_s, after) = if settings.short { (8, 10) } else { (60, 70) };
    let after = Duration::from_secs(after);
    let down = Duration::from_secs(1);
    let main = measure(settings, &Course { negative_ttl_s, down, after }).await?;
    let quick = Course { negative_ttl_s: 0, down, after: Duration::from_secs(5) };
    let control = measure(settings, &quick).await?;
    Ok(story(settings, negative_ttl_s, &main, &control))
}

async fn measure(settings: Settings, course: &Course) -> Result<Vec<Figures>> {
    let bench = Bench::prepare()?;
    let [one, two, sorry] = [21, 22, 29].map(|host| bench.host(host));
    let mut targets = Vec::new();
    for address in [one, two] {
        targets.push(Target::start((address, TARGET_PORT).into()).await?);
    }
    let _sorry = Target::start((sorry, TARGET_PORT).into()).await?;
    let authority = authority(&bench, course, &[one, two], sorry).await?;
    let resolvers = bench.resolvers(&[(ORIGIN, vec![authority.address])], Caching::On).await?;
    for target in &mut targets {
        target.kill().await;
    }
    // Nobody has asked yet: what resolvers remember is what they hear from now on.
    all_noticed(&authority, sorry).await?;
    let axis = Instant::now();
    let until = axis + course.down + course.after;
    let watched: Vec<(Resolver, Policy, _)> = resolvers
        .iter()
        .flat_map(|(resolver, at)| Policy::ALL.map(|policy| (*resolver, policy, *at)))
        .collect();
    let names: Vec<String> = watched.iter().map(|(_, policy, _)| policy.domain()).collect();
    let looks =
        watched.iter().zip(&names).map(|((_, _, at), name)| watch(*at, name, Some(TARGET_PORT), axis, until));
    let revive = async {
        tokio::time::sleep(course.down).await;
        targets[usize::from(settings.seed % 2 == 1)].revive().await?;
        Ok::<_, anyhow::Error>(axis.elapsed())
    };
    let (looks, revived_at) = tokio::join!(futures_util::future::join_all(looks), revive);
    let revived_at = revived_at?;
    let figures = watched
        .into_iter()
        .zip(looks)
        .map(|((resolver, policy, _), looks)| figures_of(resolver, policy, revived_at, sorry.into(), &looks));
    Ok(figures.collect())
}

async fn authority<'a>(
    bench: &'a Bench,
    course: &Course,
    members: &[Ipv4Addr],
    sorry: Ipv4Addr,
) -> Result<Authority<'a>> {
    let json = |list: &[Ipv4Addr]| {
        serde_json::Value::from_iter(list.iter().map(|it| serde_json::json!({ "address": it }))).to_string()
    };
    let mut variables = vec![
        ("POOLS__SORRY__MEMBERS".to_owned(), json(&[sorry])),
        ("POOLS__FALLBACK__FALLBACK".to_owned(), "sorry".to_owned()),
    ];
    let mut names = Vec::new();
    for policy in Policy::ALL {
        let pool = policy.pool();
        variables.push((format!("POOLS__{pool}__MEMBERS"), json(members)));
        variables.push((format!("POOLS__{pool}__ALL_DOWN"), policy.name().to_owned()));
        names.push(serde_json::json!({ "name": policy.domain(), "use": pool.to_lowercase() }));
    }
    variables.push(("STEERING__NAMES".to_owned(), serde_json::Value::from(names).to_string()));
    let records = Policy::ALL.map(|policy| Zone::set(policy.name(), TTL_S, members)).concat();
    let zone = Zone { origin: ORIGIN, serial: 1, negative_ttl_s: course.negative_ttl_s, records };
    let variables: Vec<(&str, String)> =
        variables.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    bench.authority(2, &zone, &variables).await
}

/// Waits until the name server's own answers are those of a name without targets.
async fn all_noticed(authority: &Authority<'_>, sorry: Ipv4Addr) -> Result<()> {
    let client = DnsClient::new(authority.address).tries(1, Duration::from_secs(2));
    let took = eventually("all targets are known to be down", NOTICE_DEADLINE, async || {
        look(&client, &Policy::Empty.domain()).await == Seen::Empty
            && look(&client, &Policy::Fallback.domain()).await == Seen::Addresses(vec![sorry.into()])
    });
    took.await.map(drop)
}

fn figures_of(
    resolver: Resolver,
    policy: Policy,
    revived_at: Duration,
    sorry: IpAddr,
    looks: &[Look],
) -> Figures {
    let down: Vec<&Look> = looks.iter().filter(|look| look.at < revived_at).collect();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for look in &down {
        *kinds.entry(look.seen.to_string()).or_default() += 1;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, _)| kind).collect();
    let since = |is_it: &dyn Fn(&Look) -> bool| {
        settled(looks, |look| is_it(look)).map(|at| at.saturating_sub(revived_at))
    };
    Figures {
        resolver,
        policy,
        asked: looks.len() as u64,
        seen: kinds.join(", then "),
        unserved: down.iter().filter(|look| look.reached.is_none()).count() as u64,
        recovered: since(&|look| look.reached.is_some()),
        back: since(&|look| look.reached.is_some_and(|address| address != sorry)),
    }
}

fn of(all: &[Figures], policy: Policy) -> impl Iterator<Item = &Figures> {
    all.iter().filter(move |it| it.policy == policy)
}

fn judge(negative_ttl_s: u32, main: &[Figures], control: &[Figures]) -> Judgement {
    let memory = Duration::from_secs(u64::from(negative_ttl_s));
    let within = |it: &Figures, limit: Duration| it.recovered.is_some_and(|after| after <= limit);
    let mut demands = vec![!main.is_empty()];
    demands.extend(of(main, Policy::ServeAll).map(|it| it.unserved > 0 && within(it, AIR)));
    // Half of it at least: the answer was young when the targets came back.
    demands.extend(of(main, Policy::Empty).map(|it| {
        it.unserved > 0 && within(it, memory + AIR) && it.recovered.is_some_and(|after| after >= memory / 2)
    }));
    demands.extend(of(main, Policy::Servfail).map(|it| it.unserved > 0 && within(it, SERVFAIL_MEMORY + AIR)));
    demands.extend(of(main, Policy::Fallback).map(|it| {
        it.unserved == 0
            && it.recovered == Some(Duration::ZERO)
            && it.back.is_some_and(|after| after <= 2 * AIR)
    }));
    let mut without = of(control, Policy::Empty).peekable();
    let caught = without.peek().is_some() && without.all(|it| it.unserved > 0 && within(it, memory / 2));
    Judgement::of(&demands, caught)
}

/// Clients that reached nothing while nothing was there are what the drill is about, not failures of it.
fn counts(all: &[Figures]) -> Counts {
    let attempted = all.iter().map(|it| it.asked).sum();
    let failed = of(all, Policy::Fallback).map(|it| it.unserved).sum();
    Counts {
        attempted,
        acknowledged: attempted - all.iter().map(|it| it.unserved).sum::<u64>(),
        failed,
        ..Counts::default()
    }
}

fn latest(all: &[Figures], policy: Policy) -> Option<f64> {
    let times = of(all, policy).map(|it| it.recovered).collect::<Option<Vec<_>>>()?;
    times.into_iter().max().map(|it| it.as_secs_f64())
}

fn in_words(all: &[Figures], policy: Policy) -> String {
    let words = of(all, policy).map(|it| {
        let recovered = it.recovered.map_or("never".into(), |after| format!("{:.1} s", after.as_secs_f64()));
        format!("{} saw {} and was served after {recovered}", it.resolver.name(), it.seen)
    });
    format!("{}: {}", policy.name(), words.collect::<Vec<_>>().join(", "))
}

fn story(settings: Settings, negative_ttl_s: u32, main: &[Figures], control: &[Figures]) -> Story {
    let words: Vec<String> = Policy::ALL.into_iter().map(|policy| in_words(main, policy)).collect();
    let evidence = Evidence {
        reason: format!(
            "negative TTL {negative_ttl_s} s; {}; with a negative TTL of 0: {}",
            words.join("; "),
            in_words(control, Policy::Empty)
        ),
        counts: counts(main),
        seconds: Seconds {
            detect: None,
            failover: latest(main, Policy::ServeAll),
            recover: latest(main, Policy::Empty),
        },
        control_counts: counts(control),
    };
    let mut facts = conditions(settings);
    facts.push(("negative TTL".into(), format!("{negative_ttl_s} s; TTL of addresses {TTL_S} s")));
    Story {
        result: judge(negative_ttl_s, main, control).result(&NAMED, settings, evidence),
        hypothesis: "Four names have the same two targets and one policy each for the time when both are down. Both die; when the name server \
                     has noticed, clients come, ask ten times a second and connect to what they are given; a second later one target lives again."
            .into(),
        facts,
        charts: vec![chart(main, control)],
        runs: Vec::new(),
    }
}

fn chart(main: &[Figures], control: &[Figures]) -> Chart {
    let group = |words: &str, policy: Policy, all: &[Figures]| Group {
        title: format!("{}{words}", policy.name()),
        bars: of(all, policy)
            .map(|it| Bar::new(it.resolver.name(), it.recovered.unwrap_or_default().as_secs_f64()))
            .collect(),
    };
    let groups = Policy::ALL.into_iter().map(|policy| group("", policy, main));
    let groups = groups.chain([group(", negative TTL 0", Policy::Empty, control)]).collect();
    Chart {
        title: "from a target's recovery until clients are served again".into(),
        unit: "s",
        reference: None,
        groups,
    }
}

#[cfg(test)]
mod tests {
    use super::super::looks::tests::looks;
    use super::*;
    use crate::drill::report::Verdict;

    const NEGATIVE_TTL_S: u32 = 8;

    fn figures(policy: Policy, unserved: u64, recovered_tenths: Option<u64>) -> Figures {
        let recovered = recovered_tenths.map(|tenths| Duration::from_millis(100 * tenths));
        Figures {
            resolver: Resolver::Unbound,
            policy,
            asked: 100,
            seen: String::new(),
            unserved,
            recovered,
            back: recovered,
        }
    }

    /// Tenths of seconds until clients were served again.
    fn all(serve_all: u64, empty: u64, servfail: u64) -> Vec<Figures> {
        vec![
            figures(Policy::ServeAll, 10, Some(serve_all)),
            figures(Policy::Empty, 10, Some(empty)),
            figures(Policy::Servfail, 10, Some(servfail)),
            figures(Policy::Fallback, 0, Some(0)),
        ]
    }

    #[track_caller]
    fn check(main: &[Figures], control_empty: u64, verdict: Verdict, caught: bool) {
        let control = all(1, control_empty, 10);
        assert_eq!(judge(NEGATIVE_TTL_S, main, &control), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_only_what_was_remembered_lasts() {
        check(&all(1, 72, 41), 4, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_a_policy_does_otherwise() {
        check(&all(40, 72, 41), 4, Verdict::Refuted, true);
        check(&all(1, 5, 41), 4, Verdict::Refuted, true);
        check(&all(1, 130, 41), 4, Verdict::Refuted, true);
        check(&all(1, 72, 90), 4, Verdict::Refuted, true);
        let mut failing = all(1, 72, 41);
        failing[3].unserved = 1;
        check(&failing, 4, Verdict::Refuted, true);
        failing[3] = figures(Policy::Fallback, 0, None);
        check(&failing, 4, Verdict::Refuted, true);
        check(&[], 4, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_the_empty_answer_lasts_there_too() {
        check(&all(1, 72, 41), 60, Verdict::Holds, false);
    }

    #[test]
    fn figures_come_from_looks() {
        let of = |text: &str, sorry: [u8; 4]| {
            figures_of(Resolver::Unbound, Policy::Empty, Duration::from_secs(3), sorry.into(), &looks(text))
        };
        let it = of("!----++", [127, 64, 0, 9]);
        assert_eq!((it.asked, it.unserved, it.seen.as_str()), (7, 3, "an empty answer, then Server Failure"));
        assert_eq!((it.recovered, it.back), (Some(Duration::from_secs(2)), Some(Duration::from_secs(2))));
        assert_eq!(of("---+-", [127, 64, 0, 9]).recovered, None);
        // Served by the fallback all the time, and by nothing else.
        let it = of("+++++", [127, 64, 0, 1]);
        assert_eq!((it.unserved, it.recovered, it.back), (0, Some(Duration::ZERO), None));
    }
}
