//! dead-address: one of three addresses is dead and still in the answer; what it costs depends on the client (C5).
//!
//! Given three servers of which one is dead, in two ways (its port refuses, or nothing comes back at all), when nobody takes
//! its address out of the answers, then a third of all clients that are pinned to one address have nothing but failures,
//! while those that try the next one only lose time: hardly any where the port refuses, and where all is silent a browser
//! a quarter of a second, curl half of its connect deadline, and who keeps a connection the same once. Health checks, which
//! the control goes without, take the address away before any of them asks.
//!
//! Curl is the real one. The browser is our load client with a browser's 250 ms for a connect (RFC 8305, section 5); unlike a browser it
//! gives the first attempt up then.

mod clients;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::alone::Alone;
use super::judgement::{Evidence, Judgement, Named};
use super::peer::{Peer, Web};
use super::report::{Bar, Chart, Counts, Group, Reference, Seconds, Story};
use super::{Settings, facts_of};
use crate::dns_client::DnsClient;
use crate::eventually::attempt;
use crate::namespaces::{Host, Interface, Router};
use crate::topology::SITE;

use clients::{Cost, Kind};

pub(super) const NAMED: Named = Named {
    name: "dead-address",
    claim: "a dead address in the answers takes everything from clients that are pinned to it and only time from others; health checks spare all (C5)",
    protection: "the name server's health checks",
};

const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 53)), 53);
const ALIVE: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const PORT: u16 = 8080;
/// A third is sent to the dead address first, or nobody: between the two there is room for a machine that is busy.
const SOME: f64 = 0.2;
/// Until the checks have found both dead addresses.
const FOUND_DEADLINE: Duration = Duration::from_secs(20);

/// A way to be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// The machine is there, and nobody listens.
    Refusing,
    /// The machine is gone: packets to it are lost.
    Silent,
}

impl Death {
    const ALL: [Self; 2] = [Self::Refusing, Self::Silent];

    fn name(self) -> &'static str {
        match self {
            Self::Refusing => "refusing",
            Self::Silent => "silent",
        }
    }

    fn address(self) -> Ipv4Addr {
        match self {
            Self::Refusing => Ipv4Addr::new(192, 0, 2, 3),
            Self::Silent => Ipv4Addr::new(192, 0, 2, 4),
        }
    }

    fn addresses(self) -> [Ipv4Addr; 3] {
        [ALIVE[0], ALIVE[1], self.address()]
    }
}

/// A name of its own for each kind of client and death: each has its turns for itself, and a third of them begin with the
/// dead address.
fn name(kind: Kind, death: Death) -> String {
    format!("{}.{}.{SITE}", kind.label(), death.name())
}

/// What a dead address costs each kind of client, in the order of `Kind::ALL`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    refusing: [Cost; 4],
    silent: [Cost; 4],
}

pub(super) async fn run(settings: Settings) -> Result<Story> {
    let nameserver = DNS.ip();
    let served = ALIVE.into_iter().chain([Death::Refusing.address()]).map(IpAddr::V4);
    let router = Router::start(&served.collect::<Vec<_>>(), nameserver).await?;
    router.silence(Death::Silent.address().into()).await?;
    let servers: Vec<Web> = (1..)
        .zip(ALIVE)
        .map(|(n, address)| Web { name: format!("lb-{n}"), listen: vec![SocketAddr::from((address, PORT))] })
        .collect();
    let _servers = Peer::nginx(Some(&router.host), &servers).await?;
    // A host of its own: to it a silent address is as silent as to clients.
    let dns_host = router.attach("dns", nameserver, &[Interface::new(nameserver, 24)]).await?;
    let clients = router.attach("clients", nameserver, &[Interface::new([10, 9, 9, 9], 24)]).await?;
    let visitors = if settings.short { 9 } else { 45 };
    let checked = measure(&dns_host, &clients, visitors, Checks::On).await?;
    let unchecked = measure(&dns_host, &clients, visitors, Checks::Off).await?;
    Ok(story(settings, &checked, &unchecked))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    On,
    Off,
}

async fn measure(dns_host: &Host, clients: &Host, visitors: u32, checks: Checks) -> Result<Figures> {
    let (records, config) = files(checks);
    let _dns = Alone::dns(Some(dns_host), DNS, &records, &config).await?;
    if checks == Checks::On {
        clients.within(both_are_found).await?;
    }
    let costs = |death: Death| async move {
        let [browser, curl, kept, pinned] = Kind::ALL;
        tokio::try_join!(
            clients::browsers(clients, name(browser, death), visitors),
            clients::curls(clients, name(curl, death), visitors, 1),
            clients::curls(clients, name(kept, death), visitors, clients::KEPT_REQUESTS),
            clients::pinned(clients, name(pinned, death), visitors),
        )
    };
    let (refusing, silent) = tokio::try_join!(costs(Death::Refusing), costs(Death::Silent))?;
    Ok(Figures { refusing: refusing.into(), silent: silent.into() })
}

/// The records of the zone, and what the name server is told of them.
fn files(checks: Checks) -> (String, String) {
    let (mut records, mut names, mut pools) = (String::new(), Vec::new(), String::new());
    for death in Death::ALL {
        for kind in Kind::ALL {
            let name = name(kind, death);
            for address in death.addresses() {
                records.push_str(&format!("{name}. 3600 IN A {address}\n"));
            }
            names.push(format!("{{ name = \"{name}\", use = \"{}\" }}", death.name()));
        }
        let members = death.addresses().map(|address| format!("{{ address = \"{address}\" }}"));
        pools.push_str(&format!("pools.{}.members = [{}]\n", death.name(), members.join(", ")));
    }
    let mode = if checks == Checks::On { "http" } else { "off" };
    let config = format!(
        "health.mode = \"{mode}\"\nhealth.port = {PORT}\nsteering.names = [{}]\n{pools}",
        names.join(", ")
    );
    (records, config)
}

async fn both_are_found() -> Result<()> {
    let dns = DnsClient::new(DNS);
    attempt("the dead addresses are out of the answers", FOUND_DEADLINE, async || {
        for death in Death::ALL {
            for kind in Kind::ALL {
                let name = name(kind, death);
                let found = dns.addresses(&name).await?.addresses;
                ensure!(found.len() == ALIVE.len(), "{name} has {found:?}");
            }
        }
        Ok(())
    })
    .await
}

impl Figures {
    fn all(&self) -> impl Iterator<Item = &Cost> {
        self.refusing.iter().chain(&self.silent)
    }

    fn counts(&self) -> Counts {
        let attempted = self.all().map(|it| it.attempted).sum();
        let failed = self.all().map(|it| it.failed).sum();
        Counts { attempted, acknowledged: attempted - failed, failed, ..Counts::default() }
    }
}

fn judge(checked: &Figures, unchecked: &Figures) -> Judgement {
    let never_failed = |costs: &[Cost; 4]| costs.iter().take(3).all(|it| it.failed == 0);
    let demands = [
        checked.all().all(|it| it.attempted > 0 && it.failed == 0 && it.part_went_on() < SOME),
        never_failed(&unchecked.refusing),
        never_failed(&unchecked.silent),
    ];
    let [browser, curl, kept, pinned] = unchecked.silent;
    let went_wrong = [
        unchecked.refusing[3].part_failed() >= SOME,
        pinned.part_failed() >= SOME,
        unchecked.refusing[0].part_went_on() >= SOME,
        browser.part_went_on() >= SOME,
        curl.part_went_on() >= SOME,
        kept.went_on > 0 && kept.part_went_on() < SOME,
    ];
    Judgement::of(&demands, went_wrong.iter().all(|it| *it))
}

fn story(settings: Settings, checked: &Figures, unchecked: &Figures) -> Story {
    let words = |title: &str, costs: &[Cost; 4]| {
        let kinds = Kind::ALL.iter().zip(costs);
        let kinds: Vec<String> = kinds.map(|(kind, cost)| format!("{} {cost}", kind.label())).collect();
        format!("{title}: {}", kinds.join(", "))
    };
    let evidence = Evidence {
        reason: format!(
            "{}; {}; {}",
            words("unchecked, refusing", &unchecked.refusing),
            words("unchecked, silent", &unchecked.silent),
            words("checked, silent", &checked.silent)
        ),
        counts: checked.counts(),
        seconds: Seconds::default(),
        control_counts: unchecked.counts(),
    };
    let groups = [("unchecked, ", unchecked), ("checked, ", checked)].map(|(title, it)| {
        [(format!("{title}refusing"), it.refusing), (format!("{title}silent"), it.silent)]
    });
    let groups = groups.into_iter().flatten().collect::<Vec<_>>();
    let third = |label: &str| Some(Reference { at: 100.0 / 3.0, label: label.into() });
    let chart = |title: &str, unit, reference, value: fn(&Cost) -> f64| Chart {
        title: title.into(),
        unit,
        reference,
        groups: groups.iter().map(|(title, costs)| group(title, costs, value)).collect(),
    };
    Story {
        result: judge(checked, unchecked).result(&NAMED, settings, evidence),
        hypothesis: "Two of three servers are there; of the third either the port refuses or packets to it are lost. Four kinds of clients \
                     look the name up and fetch pages: once with its address checked and once without."
            .into(),
        facts: facts_of("dns on a host, 2 web servers and 2 dead addresses, clients on a host; in network namespaces".into(),
            settings,
        ),
        charts: vec![
            chart("failed requests", "%", third("dead"), |it| 100.0 * it.part_failed()),
            chart("slowest successful request", "ms", None, |it| it.slowest.as_secs_f64() * 1000.0),
        ],
        runs: Vec::new(),
    }
}

fn group(title: &str, costs: &[Cost; 4], value: fn(&Cost) -> f64) -> Group {
    let bars = Kind::ALL.iter().zip(costs);
    let bars =
        bars.map(|(kind, cost)| Bar { marked: *kind == Kind::Pinned, ..Bar::new(kind.label(), value(cost)) });
    Group { title: title.into(), bars: bars.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::Verdict;

    /// Of a hundred requests each: so many failed and so many went on to the next address.
    fn costs(all: [(u64, u64); 4]) -> [Cost; 4] {
        all.map(|(failed, went_on)| Cost { attempted: 100, failed, went_on, ..Cost::default() })
    }

    fn spared() -> Figures {
        Figures { refusing: costs([(0, 0); 4]), silent: costs([(0, 0), (0, 2), (0, 1), (0, 0)]) }
    }

    fn hit() -> Figures {
        Figures {
            refusing: costs([(0, 33), (0, 0), (0, 0), (33, 0)]),
            silent: costs([(0, 33), (0, 33), (0, 7), (33, 0)]),
        }
    }

    #[track_caller]
    fn check(checked: &Figures, unchecked: &Figures, verdict: Verdict, caught: bool) {
        assert_eq!(judge(checked, unchecked), Judgement { verdict, caught });
    }

    #[test]
    fn holds_when_checks_spare_all_and_others_lose_time_only() {
        check(&spared(), &hit(), Verdict::Holds, true);
    }

    #[test]
    fn refuted_when_checks_spare_not_all() {
        check(&Figures { refusing: hit().refusing, ..spared() }, &hit(), Verdict::Refuted, true);
        check(
            &Figures { silent: costs([(0, 33), (0, 0), (0, 0), (0, 0)]), ..spared() },
            &hit(),
            Verdict::Refuted,
            true,
        );
    }

    #[test]
    fn refuted_when_who_tries_the_next_address_fails() {
        let silent = costs([(0, 33), (1, 33), (0, 7), (33, 0)]);
        check(&spared(), &Figures { silent, ..hit() }, Verdict::Refuted, true);
    }

    #[test]
    fn the_control_is_missed_when_the_dead_address_hurts_nobody() {
        check(&spared(), &spared(), Verdict::Holds, false);
        let silent = costs([(0, 33), (0, 33), (0, 33), (33, 0)]);
        check(&spared(), &Figures { silent, ..hit() }, Verdict::Holds, false);
        let refusing = costs([(0, 0), (0, 0), (0, 0), (33, 0)]);
        check(&spared(), &Figures { refusing, ..hit() }, Verdict::Holds, false);
    }

    #[test]
    fn every_name_has_its_records_and_its_pool() {
        let (records, config) = files(Checks::On);
        assert_eq!(records.matches(" IN A ").count(), 2 * 4 * 3);
        assert_eq!(config.matches("use = \"silent\"").count(), 4);
        assert!(files(Checks::Off).1.starts_with("health.mode = \"off\""), "{config}");
    }
}
