//! prefer-ipv6: the balancer that alone has an IPv6 address gets everybody who has one too (C5).
//!
//! Given three balancers of which one has an AAAA record, when clients with both protocols look the name up, then nearly all
//! of them go to that one, although the name server rotates the three A records evenly: the C library puts IPv6 first
//! (RFC 6724, section 2.1) and curl gives it a head start (RFC 8305). Clients with IPv4 alone are spread evenly. With AAAA records
//! for all three, which is the control, clients with both protocols are, too.
//!
//! The addresses are those for documentation: to addresses of fd00::/8 the standard's own table prefers IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::alone::Alone;
use super::judgement::{Evidence, Judgement, Named};
use super::peer::{Peer, Web};
use super::report::{Bar, Chart, Counts, Group, Reference, Seconds, Story};
use super::tally::{Tally, sum, tally};
use super::{Settings, facts_of};
use crate::namespaces::{Host, Interface, Router, has_ipv6};
use crate::topology::SITE;

pub(super) const NAMED: Named = Named {
    name: "prefer-ipv6",
    claim: "clients that prefer IPv6 all go to the one balancer that has it, though DNS rotates evenly (C5)",
    protection: "the gap (AAAA records for all balancers)",
};

const LBS: u8 = 3;
const PORT: u16 = 8080;
const DNS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
const BOTH: [u8; 4] = [10, 9, 9, 9];
const BOTH_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);
const V4_ONLY: [u8; 4] = [10, 8, 8, 8];
/// The library's order is a rule; curl races, and on a busy machine IPv4 may win now and then.
const ALL: f64 = 0.95;
const NEARLY_ALL: f64 = 0.8;
const EVEN: f64 = 1.3;

/// Which balancer each kind of client came to.
#[derive(Debug, Clone, PartialEq)]
struct Figures {
    library: Tally,
    curl: Tally,
    v4_only: Tally,
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    if !has_ipv6() {
        return Ok(unavailable(
            settings,
            "this machine's kernel has no IPv6: boot it without ipv6.disable=1",
        ));
    }
    let served: Vec<IpAddr> = (1..=LBS).flat_map(addresses_of).chain([IpAddr::V4(DNS)]).collect();
    let router = Router::start(&served, DNS.into()).await?;
    let lbs: Vec<Web> = (1..=LBS)
        .map(|n| Web {
            name: format!("lb-{n}"),
            listen: addresses_of(n).map(|it| SocketAddr::new(it, PORT)).into(),
        })
        .collect();
    let _lbs = Peer::nginx(Some(&router.host), &lbs).await?;
    let interfaces = [Interface::new(BOTH, 24), Interface::new(BOTH_V6, 64)];
    let both = router.attach("both", DNS.into(), &interfaces).await?;
    let v4_only = router.attach("v4-only", DNS.into(), &interfaces_v4()).await?;
    let times = if settings.short { 60 } else { 600 };
    let one = measure(&router, &both, &v4_only, 1, times).await?;
    let all = measure(&router, &both, &v4_only, LBS, times).await?;
    Ok(story(settings, times, &one, &all))
}

fn interfaces_v4() -> [Interface; 1] {
    [Interface::new(V4_ONLY, 24)]
}

fn addresses_of(lb: u8) -> [IpAddr; 2] {
    [IpAddr::from([192, 0, 2, lb]), IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(lb)))]
}

fn name_of(address: &str) -> String {
    let owner = (1..=LBS).find(|lb| addresses_of(*lb).iter().any(|it| it.to_string() == address));
    owner.map_or_else(|| address.to_owned(), |lb| format!("lb-{lb}"))
}

/// With AAAA records for the first so many balancers.
async fn measure(router: &Router, both: &Host, v4_only: &Host, with_v6: u8, times: u32) -> Result<Figures> {
    let mut records = String::new();
    for lb in 1..=LBS {
        let [v4, v6] = addresses_of(lb);
        records.push_str(&format!("@ 5 IN A {v4}\n"));
        if lb <= with_v6 {
            records.push_str(&format!("@ 5 IN AAAA {v6}\n"));
        }
    }
    let _dns = Alone::dns(Some(&router.host), SocketAddr::from((DNS, 53)), &records, "").await?;
    let curl = format!("curl -s --max-time 5 http://{SITE}:{PORT}/");
    Ok(Figures {
        library: tally(both, &format!("getent ahosts {SITE}"), times, name_of).await?,
        curl: tally(both, &curl, times, name_of).await?,
        v4_only: tally(v4_only, &curl, times, name_of).await?,
    })
}

impl Figures {
    fn all(&self) -> [&Tally; 3] {
        [&self.library, &self.curl, &self.v4_only]
    }

    fn counts(&self) -> Counts {
        let (acknowledged, failed) = sum(self.all());
        Counts { attempted: acknowledged + failed, acknowledged, failed, ..Counts::default() }
    }
}

fn judge(one: &Figures, all: &Figures) -> Judgement {
    let even = |it: &Tally| it.shares.total() > 0 && it.shares.unevenness(LBS) <= EVEN;
    let demands = [
        one.library.shares.of("lb-1") >= ALL,
        one.curl.shares.of("lb-1") >= NEARLY_ALL,
        even(&one.v4_only),
        one.counts().failed == 0,
    ];
    Judgement::of(&demands, even(&all.library) && even(&all.curl))
}

fn story(settings: Settings, times: u32, one: &Figures, all: &Figures) -> Story {
    let percent = |it: &Tally| 100.0 * it.shares.of("lb-1");
    let words = |it: &Figures| {
        let [library, curl, v4_only] = it.all().map(percent);
        format!("glibc {library:.0} %, curl {curl:.0} %, IPv4 alone {v4_only:.0} %")
    };
    let evidence = Evidence {
        reason: format!(
            "share of lb-1 of {times} each: when it alone has AAAA: {}; when all have: {}",
            words(one),
            words(all)
        ),
        counts: one.counts(),
        seconds: Seconds::default(),
        control_counts: all.counts(),
    };
    let group = |title: &str, it: &Figures| {
        let names = ["glibc, both protocols", "curl, both protocols", "curl, IPv4 alone"];
        let bars = names.into_iter().zip(it.all()).zip([true, true, false]);
        let bars = bars.map(|((name, it), marked)| Bar { marked, ..Bar::new(name, percent(it)) }).collect();
        Group { title: title.into(), bars }
    };
    Story {
        result: judge(one, all).result(&NAMED, settings, evidence),
        hypothesis: HYPOTHESIS.into(),
        facts: facts_of(TOPOLOGY.into(), settings),
        charts: vec![Chart {
            title: "share of lb-1".into(),
            unit: "%",
            reference: Some(Reference { at: 100.0 / f64::from(LBS), label: "fair".into() }),
            groups: vec![group("AAAA for lb-1", one), group("control: AAAA for all", all)],
        }],
        runs: Vec::new(),
    }
}

const HYPOTHESIS: &str = "Three balancers have A records and one has an AAAA record too. Clients with both protocols and with IPv4 alone, each \
                          in a network namespace, look the name up with glibc and fetch a page with curl.";
const TOPOLOGY: &str = "dns, 3 web servers in the balancers' place and 2 clients in network namespaces";

fn unavailable(settings: Settings, reason: &str) -> Story {
    let none = Counts::default();
    let evidence =
        Evidence { reason: reason.into(), counts: none, seconds: Seconds::default(), control_counts: none };
    Story {
        result: Judgement::not_measurable().result(&NAMED, settings, evidence),
        hypothesis: HYPOTHESIS.into(),
        facts: facts_of(TOPOLOGY.into(), settings),
        charts: Vec::new(),
        runs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::tests::of;
    use super::*;
    use crate::drill::report::Verdict;

    const EVENLY: &str = "20 lb-1, 20 lb-2, 20 lb-3";

    fn figures(library: &str, curl: &str, v4_only: &str) -> Figures {
        Figures { library: of(library), curl: of(curl), v4_only: of(v4_only) }
    }

    #[track_caller]
    fn check(one: &Figures, all: &Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(one, all), Judgement { verdict, caught });
    }

    fn good() -> [Figures; 2] {
        [figures("60 lb-1", "58 lb-1, 2 lb-2", EVENLY), figures(EVENLY, "21 lb-1, 19 lb-2, 20 lb-3", EVENLY)]
    }

    #[test]
    fn holds_when_only_ipv6_clients_crowd() {
        let [one, all] = good();
        check(&one, &all, Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_they_spread_or_ipv4_clients_crowd_or_one_failed() {
        let [_, all] = good();
        check(&figures(EVENLY, "60 lb-1", EVENLY), &all, Verdict::Refuted, true);
        check(&figures("60 lb-1", "40 lb-1, 20 lb-3", EVENLY), &all, Verdict::Refuted, true);
        check(&figures("60 lb-1", "60 lb-1", "60 lb-1"), &all, Verdict::Refuted, true);
        let failing = Figures { curl: Tally { failed: 1, ..of("59 lb-1") }, ..good()[0].clone() };
        check(&failing, &all, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_clients_crowd_all_the_same() {
        let [one, _] = good();
        check(&one, &figures("60 lb-1", EVENLY, EVENLY), Verdict::Holds, false);
        check(&one, &figures(EVENLY, "", EVENLY), Verdict::Holds, false);
    }

    #[test]
    fn addresses_have_owners() {
        assert_eq!(
            ["192.0.2.2", "2001:db8:2::3", "lb-1"].map(name_of),
            ["lb-2", "lb-3", "lb-1"].map(String::from)
        );
    }
}
