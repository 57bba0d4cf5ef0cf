//! Decisions, drawn: a configuration, what is down and forced, a question, and what comes of it.

use super::derive::{derive, offers};
use super::evaluate::is_sound;
use super::history::History;
use super::orders::{self, Order, Refused};
use super::table::{Look, Table};
use super::*;
use crate::config::Config;
use crate::wire::Name;
use crate::zone::{OrderPolicy, Orders, Zone, Zones};
use service_kit::config::parse_text;
use service_kit::health::{Outcome, Verdict};
use std::collections::BTreeMap;
use std::net::IpAddr;

const ZONE: &str = "$TTL 60\n@ SOA ns h 1 1 1 1 5\n@ NS ns\nns A 192.0.2.53\n\
    www A 192.0.2.1\nwww A 192.0.2.2\nwww A 192.0.2.3\nwww AAAA 2001:db8::1\nalias CNAME www\nempty TXT x\n";

const WWW: &str = "[[steering.names]]\nname = \"www.z\"\nuse = \"www\"\n[pools.www]\nfrom = \"www.z\"\n";

fn zones() -> Zones {
    let origin = Name::from_text(b"z.", None).unwrap();
    let contents = crate::master::read_alone(ZONE.as_bytes(), &origin).unwrap();
    let (zone, _) = Zone::build(origin, contents.records, OrderPolicy::Fixed).unwrap();
    Zones::new([Arc::new(zone)])
}

/// `down` has the last numbers of addresses, `orders` words like `-dc1` (forced down) and `+192.0.2.1` (forced up).
fn world(config: &str, down: &[u8], orders: &str) -> Steering {
    let config: Config = parse_text("dns", config).unwrap_or_else(|error| panic!("{error}"));
    let (plan, warnings) = build::plan(&config.steering, &zones());
    assert_eq!(warnings, Vec::<String>::new());
    let mut table = Table::default();
    table.follow(&plan, 0);
    for target in &plan.targets {
        let last = match target.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        for _ in 0..2 {
            let (outcome, reason) = match down.contains(&last) {
                true => (Outcome::Bad, "connection refused".into()),
                false => (Outcome::Good, "status 200".into()),
            };
            table.observe(target, Look { outcome, reason }, 1_000);
        }
    }
    let orders = orders.split_whitespace().map(order).collect::<Vec<_>>();
    let mut view = View { targets: table.states(&plan), ..View::default() };
    orders::apply(&orders, &plan, &mut view);
    let plan = Arc::new(plan);
    let mut steering = Steering { plan, view, orders, ..Steering::default() };
    let mut history = History::default();
    history.record(offers(&zones(), &steering), 1_000);
    steering.history = history;
    steering
}

fn order(word: &str) -> Order {
    let (force, subject) = word.split_at(1);
    let force = if force == "-" { Force::Down } else { Force::Up };
    Order { subject: subject.into(), force, by: "admin".into(), since_unix_ms: 500 }
}

/// Answers as last numbers of the addresses, then what else is true of the decision.
fn draw(steering: &Steering, question: &str) -> String {
    let (record_type, client) = question.split_once(' ').unwrap_or((question, ""));
    let family = if record_type == "A" { Family::V4 } else { Family::V6 };
    let client = client.parse().ok().map(|address| Client { address });
    let steered = &steering.plan.names[0];
    let Some(decision) = steering.decide(steered, family, client, &mut |_| 0, &mut Notes::off()) else {
        return "the zone's own".into();
    };
    let mut words = match &decision.answer {
        Answer::ServFail => vec!["SERVFAIL".to_string()],
        Answer::Targets(targets) if targets.is_empty() => vec!["nothing".to_string()],
        Answer::Targets(targets) => {
            let last = |address: &IpAddr| address.to_string().rsplit(['.', ':']).next().unwrap().to_string();
            steering.addresses(targets).iter().map(last).collect()
        }
    };
    words.push(format!("ttl={}", Steering::ttl(steered, 60, &decision)));
    words.extend(decision.failed.then(|| "failed".to_string()));
    words.extend((decision.scope > 0).then(|| format!("scope={}", decision.scope)));
    // The explanation is of the same answer.
    let explained = steering.explain(&steered.name, (family, client), 2_000, &mut |_| 0).unwrap();
    let Answer::Targets(targets) = &decision.answer else { return words.join(" ") };
    assert_eq!(explained.addresses, steering.addresses(targets));
    assert_eq!((explained.failed, explained.scope_bits), (decision.failed, decision.scope));
    words.join(" ")
}

#[track_caller]
fn check(config: &str, down: &[u8], orders: &str, question: &str, expected: &str) {
    assert_eq!(draw(&world(config, down, orders), question), expected);
}

#[test]
fn a_pool_answers_with_who_is_up_and_for_less_time_while_somebody_is_not() {
    check(WWW, &[], "", "A", "1 2 3 ttl=60");
    check(WWW, &[2], "", "A", "1 3 ttl=30");
    check(WWW, &[1, 2], "", "A", "3 ttl=30");
}

#[test]
fn families_are_judged_apart() {
    let config = "[[steering.names]]\nname = \"www.z\"\nuse = \"www\"\n[pools.www]\nall_down = \"empty\"\n\
        members = [{ address = \"192.0.2.1\" }, { address = \"192.0.2.2\" }, { address = \"2001:db8::9\" }]\n";
    check(config, &[9], "", "A", "1 2 ttl=30");
    check(config, &[9], "", "AAAA", "nothing ttl=30 failed");
    check(config, &[1, 2], "", "AAAA", "9 ttl=30");
    let v4 = config.replace(", { address = \"2001:db8::9\" }", "");
    check(&v4, &[], "", "AAAA", "the zone's own");
}

#[test]
fn what_nobody_has_looked_at_yet_counts_as_up() {
    let config: Config = parse_text("dns", WWW).unwrap();
    let (plan, _) = build::plan(&config.steering, &zones());
    let mut table = Table::default();
    table.follow(&plan, 0);
    let view = View { targets: table.states(&plan), ..View::default() };
    let steering = Steering { plan: Arc::new(plan), view, ..Steering::default() };
    assert_eq!(steering.view.word(&steering.plan, 0), "unknown");
    let steered = &steering.plan.names[0];
    let decision = steering.decide(steered, Family::V4, None, &mut |_| 0, &mut Notes::off()).unwrap();
    assert_eq!(decision.answer, Answer::Targets(vec![0, 1, 2]));
    assert!(!decision.impaired);
}

#[test]
fn all_down_has_a_policy() {
    let with = |policy: &str| format!("{WWW}all_down = \"{policy}\"\n");
    check(&with("serve-all"), &[1, 2, 3], "", "A", "1 2 3 ttl=30 failed");
    check(&with("empty"), &[1, 2, 3], "", "A", "nothing ttl=30 failed");
    check(&with("servfail"), &[1, 2, 3], "", "A", "SERVFAIL ttl=30 failed");
    let fallback = format!(
        "{}fallback = \"sorry\"\n[pools.sorry]\nmembers = [{{ address = \"192.0.2.99\" }}]\n",
        with("fallback")
    );
    check(&fallback, &[1, 2], "", "A", "3 ttl=30");
    check(&fallback, &[1, 2, 3], "", "A", "99 ttl=30 failed");
}

#[test]
fn a_pool_may_need_more_than_one() {
    let config = format!("{WWW}up_percent_min = 50\nall_down = \"empty\"\n");
    check(&config, &[1], "", "A", "2 3 ttl=30");
    check(&config, &[1, 2], "", "A", "nothing ttl=30 failed");
    check(&config.replace("empty", "serve-all"), &[1, 2], "", "A", "1 2 3 ttl=30 failed");
}

const TWO: &str = "[[steering.names]]\nname = \"www.z\"\nuse = \"site\"\nttl_s = 20\nttl_down_s = 5\n\
    [pools.dc1]\nmembers = [{ address = \"192.0.2.1\" }, { address = \"192.0.2.2\" }]\n\
    [pools.dc2]\nmembers = [{ address = \"192.0.2.3\" }, { address = \"192.0.2.4\" }]\n";

fn failover() -> String {
    format!("{TWO}[choices.site]\nkind = \"failover\"\nof = [\"dc1\", \"dc2\"]\n")
}

#[test]
fn failover_takes_the_first_that_has_not_failed() {
    check(&failover(), &[], "", "A", "1 2 ttl=20");
    check(&failover(), &[1], "", "A", "2 ttl=5");
    check(&failover(), &[1, 2], "", "A", "3 4 ttl=5");
    check(&failover(), &[1, 2, 3], "", "A", "4 ttl=5");
    check(&failover(), &[1, 2, 3, 4], "", "A", "1 2 ttl=5 failed");
}

#[test]
fn failures_pass_up_through_several_levels() {
    let config = format!(
        "{}[choices.outer]\nkind = \"failover\"\nof = [\"site\", \"last\"]\n\
         [pools.last]\nmembers = [{{ address = \"192.0.2.9\" }}]\n",
        failover().replacen("use = \"site\"", "use = \"outer\"", 1)
    );
    check(&config, &[1, 2], "", "A", "3 4 ttl=5");
    check(&config, &[1, 2, 3, 4], "", "A", "9 ttl=5");
    check(&config, &[1, 2, 3, 4, 9], "", "A", "1 2 ttl=5 failed");
}

#[test]
fn operators_overrule_checks_and_are_never_overruled() {
    check(&failover(), &[], "-dc1", "A", "3 4 ttl=5");
    check(&failover(), &[3, 4], "-dc1", "A", "3 4 ttl=5 failed");
    check(&failover(), &[], "-dc1 -dc2", "A", "nothing ttl=5 failed");
    check(&failover(), &[], "-192.0.2.1", "A", "2 ttl=5");
    check(&failover(), &[1, 2], "+192.0.2.1", "A", "1 ttl=5");
    check(&failover(), &[1, 2], "+dc1", "A", "1 2 ttl=5");
    check(&failover(), &[2], "+dc1 -192.0.2.1", "A", "2 ttl=5");
    check(&failover(), &[1, 2, 3, 4], "-192.0.2.1", "A", "2 ttl=5 failed");
    // Of what does not exist: it may come back.
    check(&failover(), &[], "-dc7", "A", "1 2 ttl=20");
}

#[test]
fn weights_choose_among_those_that_have_not_failed() {
    let config =
        format!("{TWO}[choices.site]\nkind = \"weighted\"\nof = [\"dc1\", \"dc2\"]\nweights = [9, 1]\n");
    check(&config, &[], "", "A", "1 2 ttl=20");
    check(&config, &[1, 2], "", "A", "3 4 ttl=5");
    check(&config, &[1, 2, 3, 4], "", "A", "1 2 ttl=5 failed");
    let zero = config.replace("[9, 1]", "[0, 1]");
    check(&zero, &[], "", "A", "3 4 ttl=20");
    check(&zero, &[3, 4], "", "A", "1 2 ttl=5");
}

/// How often each answer is given, of `of` draws.
fn shares(config: &str, of: usize) -> BTreeMap<String, usize> {
    let (steering, mut random) = (world(config, &[], ""), fastrand::Rng::with_seed(7));
    let mut shares = BTreeMap::new();
    for _ in 0..of {
        let steered = &steering.plan.names[0];
        let mut draw = |below: u64| random.u64(..below);
        let decision = steering.decide(steered, Family::V4, None, &mut draw, &mut Notes::off()).unwrap();
        let Answer::Targets(targets) = decision.answer else { panic!("it is up") };
        *shares.entry(format!("{targets:?}")).or_default() += 1;
    }
    shares
}

#[test]
fn weights_are_shares() {
    let config =
        format!("{TWO}[choices.site]\nkind = \"weighted\"\nof = [\"dc1\", \"dc2\"]\nweights = [9, 1]\n");
    let shares = shares(&config, 10_000);
    let first = shares["[0, 1]"];
    assert!((8_850..=9_150).contains(&first) && first + shares["[2, 3]"] == 10_000, "{shares:?}");
}

#[test]
fn a_pool_with_weights_gives_a_part_of_itself() {
    let config = "[[steering.names]]\nname = \"www.z\"\nuse = \"www\"\n[pools.www]\nanswers_max = 1\n\
        members = [{ address = \"192.0.2.1\", weight = 3 }, { address = \"192.0.2.2\", weight = 1 }]\n";
    let shares = shares(config, 10_000);
    let first = shares["[0]"];
    assert!((7_300..=7_700).contains(&first) && first + shares["[1]"] == 10_000, "{shares:?}");
}

fn map() -> String {
    format!(
        "{TWO}[choices.site]\nkind = \"networks\"\ndefault = [\"dc1\", \"dc2\"]\n\
         networks = [{{ prefixes = [\"10.0.0.0/8\"], use = [\"dc1\"] }}, {{ prefixes = [\"10.2.0.0/16\", \"2001:db8::/32\"], use = [\"dc2\"] }}]\n"
    )
}

#[test]
fn a_map_goes_by_the_longest_network() {
    check(&map(), &[], "", "A 10.1.2.3", "1 2 ttl=20 scope=15");
    check(&map(), &[], "", "A 10.2.2.3", "3 4 ttl=20 scope=16");
    check(&map(), &[], "", "A 2001:db8::7", "3 4 ttl=20 scope=32");
    check(&map(), &[], "", "A 10.200.2.3", "1 2 ttl=20 scope=9");
    check(&map(), &[], "", "A", "1 2 ttl=20");
}

#[test]
fn a_scope_is_as_long_as_it_takes_to_tell_networks_apart() {
    check(&map(), &[], "", "A 192.0.2.7", "1 2 ttl=20 scope=1");
    check(&map(), &[], "", "A 11.0.0.1", "1 2 ttl=20 scope=8");
    check(&map(), &[], "", "A 8.0.0.1", "1 2 ttl=20 scope=7");
}

#[test]
fn a_map_falls_back_to_its_default() {
    check(&map(), &[3, 4], "", "A 10.2.2.3", "1 2 ttl=5 scope=16");
    check(&map(), &[1, 2], "", "A 10.1.2.3", "3 4 ttl=5 scope=15");
    check(&map(), &[1, 2, 3, 4], "", "A 10.2.2.3", "3 4 ttl=5 failed scope=16");
}

#[track_caller]
fn check_order(config: &str, down: &[u8], before: &str, word: &str, expected: Result<(), &str>) {
    let Steering { plan, view, orders, .. } = world(config, down, before);
    let done = orders::check(&plan, &view, &orders, &order(word), false);
    match (done, expected) {
        (Ok(()), Ok(())) => {}
        (Err(refused), Err(kind)) => {
            assert_eq!(refused.kind(), kind, "{refused}");
            let insisted = orders::check(&plan, &view, &orders, &order(word), true);
            assert_eq!(insisted.is_ok(), matches!(refused, Refused::LastHealthy { .. }));
        }
        (got, _) => panic!("{word}: {got:?}"),
    }
}

#[test]
fn the_last_healthy_one_stays() {
    check_order(&failover(), &[], "", "-dc1", Ok(()));
    check_order(&failover(), &[], "-dc1", "-dc2", Err("last-healthy"));
    check_order(&failover(), &[], "", "-site", Err("last-healthy"));
    check_order(&failover(), &[3, 4], "", "-dc1", Err("last-healthy"));
    check_order(&failover(), &[3, 4], "", "-192.0.2.1", Ok(()));
    check_order(&failover(), &[2, 3, 4], "", "-192.0.2.1", Err("last-healthy"));
    check_order(&failover(), &[], "", "-dc7", Err("no-subject"));
    check_order(&failover(), &[1, 2, 3, 4], "", "-dc1", Ok(()));
    check_order(&failover(), &[3, 4], "", "+dc2", Ok(()));
    check_order(&map(), &[], "", "-dc2", Ok(()));
    check_order(&map(), &[1, 2], "", "-dc2", Err("last-healthy"));
    check_order(WWW, &[1, 2], "", "-192.0.2.3", Err("last-healthy"));
}

#[test]
fn orders_survive_in_their_file_and_a_broken_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.json");
    let mut orders = orders::Orders::load(Some(&file)).unwrap();
    orders.set("dc1", Some(order("-dc1"))).unwrap();
    orders.set("dc2", Some(order("+dc2"))).unwrap();
    orders.set("dc1", None).unwrap();
    assert_eq!(orders::Orders::load(Some(&file)).unwrap().list(), [order("+dc2")]);
    std::fs::write(&file, "[{").unwrap();
    let error = orders::Orders::load(Some(&file)).unwrap_err().to_string();
    assert!(error.contains("orders.json: EOF") && error.contains("remove it"), "{error}");
    let nowhere = orders::Orders::load(Some(&folder.path().join("missing/orders.json")));
    let refused = nowhere.unwrap().set("dc1", Some(order("-dc1"))).unwrap_err();
    assert_eq!(refused.kind(), "not-kept");
}

#[test]
fn targets_keep_their_state_when_the_plan_changes() {
    let plan = |text: &str| build::plan(&parse_text::<Config>("dns", text).unwrap().steering, &zones()).0;
    let (one, other) = (plan(WWW), plan(&failover()));
    let mut table = Table::default();
    assert_eq!(table.follow(&one, 0).len(), 4);
    let bad = || Look { outcome: Outcome::Bad, reason: "status 500".into() };
    assert!(table.observe(&one.targets[0], bad(), 10).is_none());
    assert_eq!(table.observe(&one.targets[0], bad(), 20).unwrap().now, Verdict::Down);
    table.follow(&other, 30);
    let state = &table.states(&other)[0];
    assert_eq!((state.verdict, state.since_unix_ms, state.looks), (Verdict::Down, 20, 2));
    assert_eq!(state.last_error, Some(("status 500".into(), 20)));
}

#[test]
fn two_pools_with_the_same_address_and_check_share_it() {
    let config = format!(
        "{WWW}[pools.other]\nfrom = \"www.z\"\n[pools.third]\nfrom = \"www.z\"\nhealth = {{ port = 81 }}\n"
    );
    let (plan, _) = build::plan(&parse_text::<Config>("dns", &config).unwrap().steering, &zones());
    assert_eq!(plan.targets.len(), 8);
}

#[test]
fn checks_that_have_gone_silent_are_not_believed() {
    let steering = world(WWW, &[], "");
    let mut table = Table::default();
    table.follow(&steering.plan, 0);
    let target = &steering.plan.targets[0];
    for at in [10, 20] {
        table.observe(target, Look { outcome: Outcome::Bad, reason: "x".into() }, at);
    }
    assert_eq!(table.age(18_000), []);
    assert_eq!(table.age(18_021), std::slice::from_ref(target));
    assert_eq!(table.states(&steering.plan)[0].verdict, Verdict::Unknown);
    assert_eq!(table.age(40_000), [], "said once");
}

#[test]
fn names_that_cannot_be_steered_are_told() {
    let check = |name: &str, part: &str| {
        let config = WWW.replace("name = \"www.z\"", &format!("name = \"{name}\""));
        let (plan, warnings) = build::plan(&parse_text::<Config>("dns", &config).unwrap().steering, &zones());
        assert!(plan.names.is_empty() && warnings[0].contains(part), "{warnings:?}");
    };
    check("www.y", "is in no zone");
    check("nope.z", "is not in its zone");
    check("alias.z", "is an alias");
    let config = WWW.replace("from = \"www.z\"", "from = \"nope.z\"");
    let (_, warnings) = build::plan(&parse_text::<Config>("dns", &config).unwrap().steering, &zones());
    assert!(warnings[0].contains("pools.www.from: nope.z. has no A or AAAA record"), "{warnings:?}");
}

#[test]
fn snapshots_have_the_sets_that_are_chosen() {
    let find = |down: &[u8], config: &str, name: &str| {
        let zones = derive(&zones(), &Arc::new(world(config, down, "")), &Orders::all(OrderPolicy::Cyclic));
        let name = Name::from_text(name.as_bytes(), None).unwrap();
        let zone = zones.zone_for(&name, crate::wire::RecordType::A).unwrap();
        match zone.find(&name, crate::wire::RecordType::A) {
            crate::zone::Found::Set(rrset) => format!("{} for {}", rrset.records.len(), rrset.ttl),
            found => format!("{found:?}").split(['(', ' ']).next().unwrap().to_string(),
        }
    };
    assert_eq!(find(&[], WWW, "www.z."), "3 for 60");
    assert_eq!(find(&[2], WWW, "www.z."), "2 for 30");
    assert_eq!(find(&[2], WWW, "ns.z."), "1 for 60");
    assert_eq!(find(&[1, 2, 3], &format!("{WWW}all_down = \"empty\""), "www.z."), "NoData");
    let added = WWW.replace("name = \"www.z\"", "name = \"empty.z\"");
    assert_eq!(find(&[], &added, "empty.z."), "3 for 5");
}

#[test]
fn an_explanation_says_it_all() {
    let steering = world(&failover(), &[1], "-192.0.2.3");
    let name = Name::from_text(b"www.z.", None).unwrap();
    let explained = steering.explain(&name, (Family::V4, None), 8_500, &mut |_| 0).unwrap();
    assert_eq!(
        explained.lines(),
        [
            "www.z. A is 192.0.2.2 for 5 s, by site",
            "failover site: the first of dc1, dc2",
            "pool dc1: 1 of 2 up; at least one must be",
            "failover site: takes dc1",
            "http://192.0.2.1:80/ down for 7 s: connection refused",
            "http://192.0.2.2:80/ up for 7 s: status 200",
            "http://192.0.2.3:80/ forced-down for 7 s: status 200",
            "http://192.0.2.4:80/ up for 7 s: status 200",
            "192.0.2.3 forced down by admin for 8 s",
        ]
    );
}

#[test]
fn whatever_is_down_an_answer_is_of_the_choice_and_healthy_unless_it_failed() {
    // Every combination of health and of orders about three subjects, for two trees.
    for config in [failover(), map()] {
        for bits in 0..16_u8 {
            let down: Vec<u8> = (1..=4).filter(|last| bits & (1 << (last - 1)) != 0).collect();
            for orders in ["", "-dc1", "-dc2", "+dc1", "-192.0.2.1", "+192.0.2.1 -dc2", "-site"] {
                let steering = world(&config, &down, orders);
                let steered = &steering.plan.names[0];
                for client in [None, Some("10.2.0.1"), Some("10.1.0.1"), Some("192.0.2.1")] {
                    let client = client.map(|text| Client { address: text.parse().unwrap() });
                    let mut notes = Notes::off();
                    let decision =
                        steering.decide(steered, Family::V4, client, &mut |_| 0, &mut notes).unwrap();
                    let Answer::Targets(targets) = &decision.answer else { panic!("no such policy here") };
                    let forced_up = orders.contains("+dc1");
                    for target in targets {
                        let usable = steering.view.is_usable_in(&steering.plan, *target, forced_up);
                        assert!(usable || decision.failed, "{config} {down:?} {orders}");
                        let force = steering.view.target_force(&steering.plan, *target);
                        assert_ne!(force, Some(Force::Down), "{config} {down:?} {orders}");
                    }
                    assert!(decision.failed || !targets.is_empty());
                    // Who is sound fails for nobody.
                    if is_sound(&steering.plan, &steering.view, steered.choice, Family::V4) {
                        assert!(!decision.failed, "{config} {down:?} {orders}");
                    }
                }
            }
        }
    }
}
