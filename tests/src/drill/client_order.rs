//! client-order: a client's C library sorts what the name server had rotated (C5).
//!
//! Given a name with four addresses that the name server rotates, when clients of four networks look it up as nearly every
//! program does (glibc's getaddrinfo), then those in the servers' own subnet take the same address first every time: of
//! addresses in the client's subnet the library prefers the one that shares the most leading bits with the client's
//! (RFC 6724, section 5, rule 9). Clients elsewhere see the rotation. The control asks in the same subnet, by the same
//! library, with a function that does not sort (gethostbyname): there the rotation is seen too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::alone::Alone;
use super::judgement::{Evidence, Judgement, Named};
use super::report::{Bar, Chart, Counts, Group, Reference, Seconds, Story};
use super::tally::{Tally, sum, tally};
use super::{Settings, facts_of};
use crate::namespaces::{Interface, Router};
use crate::topology::SITE;

pub(super) const NAMED: Named = Named {
    name: "client-order",
    claim: "clients in the servers' own subnet undo the rotation: their C library sorts by the longest common prefix (C5)",
    protection: "the library's sorting (gethostbyname keeps the server's order)",
};

const SERVERS: u8 = 4;
const DNS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The fourth server, 192.0.2.4, shares 30 bits with this client, the others 29.
const NEAR: Place =
    Place { name: "the servers' subnet, 192.0.2.6/29", address: [192, 0, 2, 6], prefix_len: 29 };
const FAR: [Place; 3] = [
    // All four share 24 bits with it.
    Place { name: "a wide subnet, 192.0.2.129/24", address: [192, 0, 2, 129], prefix_len: 24 },
    Place { name: "elsewhere, 198.51.100.9/24", address: [198, 51, 100, 9], prefix_len: 24 },
    Place { name: "elsewhere, 10.9.9.9/24", address: [10, 9, 9, 9], prefix_len: 24 },
];
/// The rotation is exact; a question that was asked twice takes a turn of its own.
const EVEN: f64 = 1.3;
const SORTED: &str = "getent ahostsv4";
const AS_SERVED: &str = "getent hosts";

/// A client's network.
struct Place {
    name: &'static str,
    address: [u8; 4],
    prefix_len: u8,
}

/// Which address came first how often.
struct Figures {
    near: Tally,
    far: Vec<Tally>,
    unsorted: Tally,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let servers = (1..=SERVERS).map(|n| Ipv4Addr::new(192, 0, 2, n));
    let served: Vec<IpAddr> = servers.clone().chain([DNS]).map(IpAddr::V4).collect();
    let router = Router::start(&served, DNS.into()).await?;
    let records: String = servers.map(|address| format!("@ 5 IN A {address}\n")).collect();
    let _dns = Alone::dns(Some(&router.host), SocketAddr::from((DNS, 53)), &records, "").await?;
    let times = if settings.short { 40 } else { 400 };
    let mut far = Vec::new();
    // One client after the other: the turns of all that ask at once would be dealt out among them.
    for place in &FAR {
        far.push(first_addresses(&router, place, SORTED, times).await?);
    }
    let near = first_addresses(&router, &NEAR, SORTED, times).await?;
    let unsorted = first_addresses(&router, &NEAR, AS_SERVED, times).await?;
    Ok(story(settings, times, &Figures { near, far, unsorted }))
}

async fn first_addresses(router: &Router, place: &Place, getent: &str, times: u32) -> Result<Tally> {
    let interface = Interface::new(place.address, place.prefix_len);
    let host = router.attach("client", DNS.into(), &[interface]).await?;
    tally(&host, &format!("{getent} {SITE}"), times, str::to_owned).await
}

fn judge(it: &Figures) -> Judgement {
    let all = it.far.iter().chain([&it.near, &it.unsorted]);
    let even = |it: &Tally| it.shares.unevenness(SERVERS) <= EVEN;
    let demands =
        [it.near.shares.0.len() == 1, it.far.iter().all(even), sum(all).1 == 0, it.near.shares.total() > 0];
    Judgement::of(&demands, it.unsorted.shares.total() > 0 && even(&it.unsorted))
}

fn counts<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> Counts {
    let (acknowledged, failed) = sum(tallies);
    Counts { attempted: acknowledged + failed, acknowledged, failed, ..Counts::default() }
}

fn story(settings: Settings, times: u32, figures: &Figures) -> Story {
    let firsts = |it: &Tally| it.shares.0.values().map(u64::to_string).collect::<Vec<_>>().join("/");
    let favourite = figures.near.shares.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let far = FAR.iter().zip(&figures.far).map(|(place, it)| format!("{}: {}", place.name, firsts(it)));
    let evidence = Evidence {
        reason: format!(
            "first addresses of {times} look-ups: {}: {} ({favourite}); {}; unsorted in the servers' subnet: {}",
            NEAR.name,
            firsts(&figures.near),
            far.collect::<Vec<_>>().join("; "),
            firsts(&figures.unsorted)
        ),
        counts: counts(figures.far.iter().chain([&figures.near])),
        seconds: Seconds::default(),
        control_counts: counts([&figures.unsorted]),
    };
    Story {
        result: judge(figures).result(&NAMED, settings, evidence),
        hypothesis: "The name server rotates four addresses. Clients of four networks, each in a network namespace, look the name up with \
                     glibc, and the address that comes first is counted: it is the one that nearly every program connects to."
            .into(),
        facts: facts_of(format!("dns and {} clients in network namespaces", FAR.len() + 1), settings),
        charts: vec![chart(figures)],
        runs: Vec::new(),
    }
}

fn chart(figures: &Figures) -> Chart {
    let group = |title: &str, it: &Tally, marked: bool| Group {
        title: title.into(),
        bars: (1..=SERVERS)
            .map(|n| format!("192.0.2.{n}"))
            .map(|address| Bar { marked, ..Bar::new(&address, 100.0 * it.shares.of(&address)) })
            .collect(),
    };
    let mut groups = vec![group(NEAR.name, &figures.near, true)];
    groups.extend(FAR.iter().zip(&figures.far).map(|(place, it)| group(place.name, it, false)));
    groups.push(group("control: the servers' subnet, unsorted", &figures.unsorted, false));
    Chart {
        title: "came first".into(),
        unit: "%",
        reference: Some(Reference { at: 100.0 / f64::from(SERVERS), label: "fair".into() }),
        groups,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::tests::of;
    use super::*;
    use crate::drill::report::Verdict;

    const EVENLY: &str = "10 a, 10 b, 10 c, 10 d";

    #[track_caller]
    fn check(near: &str, far: &str, unsorted: &str, verdict: Verdict, caught: bool) {
        let figures = Figures { near: of(near), far: vec![of(EVENLY), of(far)], unsorted: of(unsorted) };
        assert_eq!(judge(&figures), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_only_neighbours_have_a_favourite() {
        check("40 d", EVENLY, EVENLY, Verdict::Holds, true);
        check("40 d", "11 a, 9 b, 10 c, 10 d", "12 a, 9 b, 9 c, 10 d", Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_neighbours_see_the_rotation_or_others_do_not() {
        check("39 d, 1 a", EVENLY, EVENLY, Verdict::Refuted, true);
        check(EVENLY, EVENLY, EVENLY, Verdict::Refuted, true);
        check("40 d", "40 d", EVENLY, Verdict::Refuted, true);
        check("", EVENLY, EVENLY, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_it_has_a_favourite_too() {
        check("40 d", EVENLY, "40 d", Verdict::Holds, false);
        check("40 d", EVENLY, "", Verdict::Holds, false);
    }

    #[test]
    fn refuted_when_a_look_up_failed() {
        let failing = Tally { failed: 1, ..of("40 d") };
        let figures = Figures { near: failing, far: vec![of(EVENLY)], unsorted: of(EVENLY) };
        assert_eq!(judge(&figures).verdict, Verdict::Refuted);
    }
}
