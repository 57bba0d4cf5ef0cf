//! Shares of the first place: exact for cyclic sets, uniform for random ones, none for fixed.

use crate::support::{ask, query, read, zones};
use dns::answer::Transport;
use dns::zone::{OrderPolicy, Zones};
use hickory_proto::rr::RData;
use std::collections::HashMap;
use std::fmt::Write as _;

fn text(count: usize) -> String {
    let mut text = "$TTL 100\n@ SOA ns h 1 1 1 1 30\n@ NS ns\nns A 192.0.2.1\nalias CNAME set\n".to_string();
    for at in 0..count {
        writeln!(text, "set A 10.0.0.{at}\nset TXT {at}").unwrap();
    }
    text
}

/// Last octets of the addresses in one answer, in order.
fn order(zones: &Zones, name: &str) -> Vec<u8> {
    let (_, octets) = ask(zones, &query(name, "A"), Transport::Udp);
    let address = |data: &RData| match data {
        RData::A(address) => Some(address.0.octets()[3]),
        _ => None,
    };
    read(&octets).answers.iter().filter_map(|record| address(&record.data)).collect()
}

#[test]
fn cyclic_goes_round_with_the_whole_set() {
    let zones = zones(&[("z.", &text(3))], OrderPolicy::Cyclic);
    let orders: Vec<_> = (0..4).map(|_| order(&zones, "set.z.")).collect();
    assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
}

#[test]
fn cyclic_shares_are_exact_through_an_alias_too() {
    for count in 1..=28 {
        let zones = zones(&[("z.", &text(count))], OrderPolicy::Cyclic);
        let mut firsts: HashMap<u8, usize> = HashMap::new();
        for at in 0..count * 10 {
            let name = if at % 3 == 0 { "alias.z." } else { "set.z." };
            *firsts.entry(order(&zones, name)[0]).or_default() += 1;
        }
        assert_eq!(firsts.len(), count);
        assert!(firsts.values().all(|share| *share == 10), "{count}: {firsts:?}");
    }
}

#[test]
fn cyclic_shares_are_exact_over_threads() {
    let zones = zones(&[("z.", &text(4))], OrderPolicy::Cyclic);
    let firsts: Vec<u8> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1_000).map(|_| order(&zones, "set.z.")[0]).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for at in 0..4 {
        assert_eq!(firsts.iter().filter(|first| **first == at).count(), 1_000);
    }
}

#[test]
fn a_cut_answer_takes_no_turn() {
    let zones = zones(&[("z.", &text(40))], OrderPolicy::Cyclic);
    for expected in 0..40 {
        let (_, cut) = ask(&zones, &query("set.z.", "A"), Transport::Udp);
        assert!(read(&cut).metadata.truncation);
        let (_, whole) = ask(&zones, &query("set.z.", "A"), Transport::Tcp);
        assert_eq!(read(&whole).answers[0].data.to_string(), format!("10.0.0.{expected}"));
    }
}

#[test]
fn other_types_keep_their_order() {
    let zones = zones(&[("z.", &text(3))], OrderPolicy::Cyclic);
    for _ in 0..3 {
        let (_, octets) = ask(&zones, &query("set.z.", "TXT"), Transport::Udp);
        let first = read(&octets).answers[0].data.to_string();
        assert_eq!(first, "0");
    }
}

#[test]
fn fixed_is_the_order_of_the_file() {
    let zones = zones(&[("z.", &text(3))], OrderPolicy::Fixed);
    for _ in 0..4 {
        assert_eq!(order(&zones, "set.z."), [0, 1, 2]);
    }
}

/// One generator over all queries, as a worker has: 6,000 draws from a fixed seed, so the verdict never varies.
#[test]
fn random_makes_all_orders_alike() {
    use dns::answer::{Terms, answer};
    let zones = zones(&[("z.", &text(3))], OrderPolicy::Random);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut orders: HashMap<Vec<u8>, f64> = HashMap::new();
    let packet = query("set.z.", "A");
    for _ in 0..6_000 {
        let mut out = Vec::new();
        let terms = Terms::plain(Transport::Udp, 1_232);
        answer(&packet, &zones, terms, &mut |bound| rng.usize(..bound), &mut out);
        let seen = read(&out).answers.iter().map(|record| record.data.to_string().as_bytes()[7]).collect();
        *orders.entry(seen).or_default() += 1.0;
    }
    assert_eq!(orders.len(), 6);
    let chi_square: f64 = orders.values().map(|seen| (seen - 1_000.0).powi(2) / 1_000.0).sum();
    // 5 degrees of freedom: 20.5 is passed by chance once in a thousand.
    assert!(chi_square < 20.5, "{chi_square}: {orders:?}");
}

#[test]
fn a_reload_goes_on_where_the_set_was() {
    let before = zones(&[("z.", &text(3))], OrderPolicy::Cyclic);
    assert_eq!(order(&before, "set.z.")[0], 0);
    let after = zones(&[("z.", &text(3))], OrderPolicy::Cyclic);
    let origin = crate::support::name("z.");
    after.get(&origin).unwrap().continue_from(before.get(&origin).unwrap());
    assert_eq!(order(&after, "set.z.")[0], 1);
}
