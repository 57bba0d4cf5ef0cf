//! primary-authority-dies: the name server that the zone is written on is killed; its secondaries answer on (C5, C24).
//!
//! Given our name server with BIND, NSD and Knot as secondaries that copied its zone under TSIG, when it is killed while clients
//! ask, directly and through unbound, BIND and dnsmasq, then nobody who may ask another server fails; the secondaries have
//! the same serial and the same data; and when it is back with a new serial, all of them have it soon, because they are told.
//! The control has no secondaries: the same kill leaves every client without an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use base64::Engine as _;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};

use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Group, Seconds, Story};
use super::{Settings, conditions};
use crate::dns_client::DnsClient;
use crate::eventually::attempt;
use crate::resolvers::{Authority, Bench, Caching, KEY, Secondary, Zone};

pub(super) const NAMED: Named = Named {
    name: "primary-authority-dies",
    claim: "a zone outlives its primary name server: secondaries answer with the same data, resolvers go on, and the next serial reaches all (C5, C24)",
    protection: "the secondaries",
};

const ORIGIN: &str = "fitness.example.com";
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Tries of a client over all servers, and the time of one.
const TRIES: usize = 5;
const TRY_DEADLINE: Duration = Duration::from_secs(1);
/// For a secondary to be told of a serial and to take it, on a busy machine.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(60);
/// Names whose answers are compared; `new` comes with the second serial.
const COMPARED: [(&str, RecordType); 9] = [
    ("www", RecordType::A),
    ("deep.er", RecordType::AAAA),
    ("alias", RecordType::A),
    ("mail", RecordType::MX),
    ("text", RecordType::TXT),
    ("a.any", RecordType::A),
    ("er", RecordType::A),
    ("new", RecordType::A),
    ("missing", RecordType::A),
];

fn zone(serial: u32) -> Zone {
    let mut records = String::from(
        "www A 192.0.2.1\nwww A 192.0.2.2\n*.any A 192.0.2.3\nalias CNAME www\nmail MX 10 www\n\
         text TXT \"one\" \"two\"\ndeep.er AAAA 2001:db8::1\n",
    );
    if serial > 1 {
        records += &Zone::set("new", 60, &[Ipv4Addr::new(192, 0, 2, 77)]);
    }
    Zone { origin: ORIGIN, serial, negative_ttl_s: 5, records }
}

/// Questions of one kind of client after the kill.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// Who was asked: all servers by the client itself, or a resolver.
    path: String,
    attempted: u64,
    failed: u64,
}

/// What the secondaries had.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copies {
    /// The serial that each had while the primary was dead.
    serials: BTreeMap<&'static str, Option<u32>>,
    /// Answers that differed from the primary's, of all that were compared.
    different: u64,
    compared: u64,
    /// From the primary's return with a new serial until all had it; none: not in time.
    followed: Option<Duration>,
    /// Answers that differed then.
    different_after: u64,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let (before, after) = if settings.short { (1, 7) } else { (10, 60) };
    let [before, after] = [before, after].map(Duration::from_secs);
    let bench = Bench::prepare()?;
    let secret = base64::engine::general_purpose::STANDARD.encode({
        let mut octets = [0; 32];
        getrandom::fill(&mut octets)?;
        octets
    });
    let mut secondaries = Vec::new();
    for secondary in Secondary::ALL {
        secondaries.push((secondary, bench.secondary_address(secondary)?));
    }
    let mut primary = primary(&bench, &secondaries, &secret).await?;
    for (secondary, address) in &secondaries {
        bench.secondary(*secondary, *address, ORIGIN, primary.address, &secret).await?;
    }
    let servers: Vec<SocketAddr> =
        [primary.address].into_iter().chain(secondaries.iter().map(|(_, address)| *address)).collect();
    let expected = data(primary.address).await?;
    let main = ask_through_death(&bench, &primary, &servers, before, after).await?;
    let copies = copies(&mut primary, &secondaries, &expected).await?;
    drop(primary);
    drop(bench);
    let bench = Bench::prepare()?;
    let alone = bench.authority(2, &zone(1), &[]).await?;
    let control = ask_through_death(&bench, &alone, &[alone.address], before, Duration::from_secs(3)).await?;
    Ok(story(settings, &main, &copies, &control))
}

async fn primary<'a>(
    bench: &'a Bench,
    secondaries: &[(Secondary, SocketAddr)],
    secret: &str,
) -> Result<Authority<'a>> {
    let file = bench.secret(KEY, secret)?;
    let notify: Vec<String> = secondaries.iter().map(|(_, address)| address.to_string()).collect();
    let variables = [
        ("TRANSFER__KEYS", serde_json::json!([{ "name": KEY, "secret_file": file }]).to_string()),
        ("TRANSFER__CLIENTS", r#"["127.0.0.0/8"]"#.to_owned()),
        ("TRANSFER__NOTIFY", serde_json::json!(notify).to_string()),
        ("TRANSFER__NOTIFY_KEY", KEY.to_owned()),
    ];
    bench.authority(2, &zone(1), &variables).await
}

/// Clients ask all the time, the primary dies after `before`, and they ask on for `after`: counts of the latter.
async fn ask_through_death(
    bench: &Bench,
    primary: &Authority<'_>,
    servers: &[SocketAddr],
    before: Duration,
    after: Duration,
) -> Result<Vec<Asked>> {
    let resolvers = bench.resolvers(&[(ORIGIN, servers.to_vec())], Caching::On).await?;
    let mut paths: Vec<(String, Vec<SocketAddr>)> =
        vec![("all servers, asked in turn".to_owned(), servers.to_vec())];
    paths.extend(
        resolvers.iter().map(|(resolver, address)| (format!("behind {}", resolver.name()), vec![*address])),
    );
    let killed_at = Instant::now() + before;
    let until = killed_at + after;
    let asked =
        paths.into_iter().enumerate().map(|(n, (path, servers))| ask(n, path, servers, killed_at, until));
    let kill = async {
        tokio::time::sleep(before).await;
        primary.kill().await
    };
    let (asked, killed) = tokio::join!(futures_util::future::join_all(asked), kill);
    killed?;
    Ok(asked)
}

/// Asks for names that nobody has asked for before, so that no cache can answer.
async fn ask(
    number: usize,
    path: String,
    servers: Vec<SocketAddr>,
    killed_at: Instant,
    until: Instant,
) -> Asked {
    let client = DnsClient::with_servers(servers).tries(TRIES, TRY_DEADLINE);
    let mut asked = Asked { path, attempted: 0, failed: 0 };
    let mut count = 0_u64;
    while Instant::now() < until {
        let begun = Instant::now();
        count += 1;
        let found = client.addresses(&format!("c{number}-{count}.any.{ORIGIN}")).await;
        // What was answered before the kill says nothing; what failed after it does.
        if Instant::now() >= killed_at {
            asked.attempted += 1;
            asked.failed += u64::from(found.is_err());
        }
        tokio::time::sleep(ASK_EVERY.saturating_sub(begun.elapsed())).await;
    }
    asked
}

/// Everything that is compared, as a server says it.
async fn data(server: SocketAddr) -> Result<Vec<(ResponseCode, BTreeSet<String>)>> {
    let client = DnsClient::new(server).tries(TRIES, TRY_DEADLINE);
    let mut all = Vec::new();
    for (name, record_type) in COMPARED {
        let message = client.query(&format!("{name}.{ORIGIN}"), record_type).await?;
        let records = message.answers.iter().map(|it| format!("{} {} {}", it.name, it.ttl, it.data));
        all.push((message.metadata.response_code, records.collect()));
    }
    Ok(all)
}

async fn serial(server: SocketAddr) -> Result<Option<u32>> {
    let message = DnsClient::new(server).tries(TRIES, TRY_DEADLINE).query(ORIGIN, RecordType::SOA).await?;
    Ok(message.answers.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }))
}

/// Looks at the secondaries while the primary is dead, and after its return with a new serial.
async fn copies(
    primary: &mut Authority<'_>,
    secondaries: &[(Secondary, SocketAddr)],
    expected: &[(ResponseCode, BTreeSet<String>)],
) -> Result<Copies> {
    let mut serials = BTreeMap::new();
    let (mut different, mut compared) = (0, 0);
    for (secondary, address) in secondaries {
        serials.insert(secondary.name(), serial(*address).await?);
        let theirs = data(*address).await?;
        compared += theirs.len() as u64;
        different += differences(&theirs, expected);
    }
    primary.write(&zone(2))?;
    let begun = Instant::now();
    primary.restart().await?;
    let all_have_it = attempt("all secondaries have the new serial", FOLLOW_DEADLINE, async || {
        for (secondary, address) in secondaries {
            let has = serial(*address).await?;
            ensure!(has == Some(2), "{} has {has:?}", secondary.name());
        }
        Ok(begun.elapsed())
    });
    let followed = all_have_it.await.inspect_err(|error| eprintln!("{error:#}")).ok();
    let expected = data(primary.address).await?;
    let mut different_after = 0;
    for (_, address) in secondaries {
        different_after += differences(&data(*address).await?, &expected);
    }
    Ok(Copies { serials, different, compared, followed, different_after })
}

fn differences<T: PartialEq>(theirs: &[T], ours: &[T]) -> u64 {
    theirs.iter().zip(ours).filter(|(theirs, ours)| theirs != ours).count() as u64
}

fn judge(main: &[Asked], copies: &Copies, control: &[Asked]) -> Judgement {
    let demands = [
        !main.is_empty() && main.iter().all(|it| it.attempted > 0 && it.failed == 0),
        copies.serials.len() == Secondary::ALL.len() && copies.serials.values().all(|it| *it == Some(1)),
        copies.compared > 0 && copies.different == 0,
        copies.followed.is_some() && copies.different_after == 0,
    ];
    Judgement::of(&demands, !control.is_empty() && control.iter().all(|it| it.failed > 0))
}

fn counts(all: &[Asked]) -> Counts {
    let sum = |of: fn(&Asked) -> u64| all.iter().map(of).sum::<u64>();
    let (attempted, failed) = (sum(|it| it.attempted), sum(|it| it.failed));
    Counts { attempted, acknowledged: attempted - failed, failed, ..Counts::default() }
}

fn in_words(all: &[Asked]) -> String {
    let words = all.iter().map(|it| format!("{}: {} of {} failed", it.path, it.failed, it.attempted));
    words.collect::<Vec<_>>().join(", ")
}

fn story(settings: Settings, main: &[Asked], copies: &Copies, control: &[Asked]) -> Story {
    let followed = copies.followed.map(|it| it.as_secs_f64());
    let serials: Vec<String> = copies
        .serials
        .iter()
        .map(|(name, serial)| format!("{name} {}", serial.map_or("none".into(), |it| it.to_string())))
        .collect();
    let evidence = Evidence {
        reason: format!(
            "after the kill: {}; serials {} for the primary's 1, {} of {} answers differed; back with serial 2, all had it after {} and \
             {} answers differed; without secondaries: {}",
            in_words(main),
            serials.join(", "),
            copies.different,
            copies.compared,
            followed.map_or("never".into(), |s| format!("{s:.1} s")),
            copies.different_after,
            in_words(control),
        ),
        counts: counts(main),
        seconds: Seconds { recover: followed, ..Seconds::default() },
        control_counts: counts(control),
    };
    Story {
        result: judge(main, copies, control).result(&NAMED, settings, evidence),
        hypothesis: "Clients ask for names that no cache can know, directly and through resolvers that know all four name servers. The primary \
                     is killed, and later started with the zone's next serial."
            .into(),
        facts: conditions(settings),
        charts: vec![chart(main, control)],
        runs: Vec::new(),
    }
}

fn chart(main: &[Asked], control: &[Asked]) -> Chart {
    let group = |title: &str, all: &[Asked]| Group {
        title: title.into(),
        bars: all
            .iter()
            .map(|it| Bar::new(&*it.path, 100.0 * it.failed as f64 / it.attempted.max(1) as f64))
            .collect(),
    };
    let groups = vec![group("three secondaries", main), group("no secondary", control)];
    Chart {
        title: "questions that failed after the primary's death".into(),
        unit: "%",
        reference: None,
        groups,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    fn asked(failed: [u64; 2]) -> Vec<Asked> {
        failed.map(|failed| Asked { path: "behind unbound".into(), attempted: 100, failed }).into()
    }

    fn copies() -> Copies {
        Copies {
            serials: Secondary::ALL.map(|it| (it.name(), Some(1))).into(),
            different: 0,
            compared: 27,
            followed: Some(Duration::from_secs(1)),
            different_after: 0,
        }
    }

    #[track_caller]
    fn check(failed: [u64; 2], copies: &Copies, control: [u64; 2], verdict: Verdict, caught: bool) {
        assert_eq!(judge(&asked(failed), copies, &asked(control)), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_nobody_fails_and_all_follow() {
        check([0, 0], &copies(), [90, 3], Verdict::Holds, true);
    }

    #[test]
    fn refuted_by_a_failure_other_data_or_one_that_does_not_follow() {
        check([0, 1], &copies(), [90, 90], Verdict::Refuted, true);
        check([0, 0], &Copies { different: 1, ..copies() }, [90, 90], Verdict::Refuted, true);
        check([0, 0], &Copies { different_after: 1, ..copies() }, [90, 90], Verdict::Refuted, true);
        check([0, 0], &Copies { followed: None, ..copies() }, [90, 90], Verdict::Refuted, true);
        let mut old = copies();
        old.serials.insert("NSD", Some(7));
        check([0, 0], &old, [90, 90], Verdict::Refuted, true);
        old.serials.remove("NSD");
        check([0, 0], &old, [90, 90], Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_somebody_does_not_fail() {
        check([0, 0], &copies(), [90, 0], Verdict::Holds, false);
    }

    #[test]
    fn differences_are_counted() {
        assert_eq!((differences(&[1, 2, 3], &[1, 2, 3]), differences(&[1, 9, 9], &[1, 2, 3])), (0, 2));
    }
}
