//! Which records of a set are given and which comes first: the shares of random and weighted sets by the chi-square test,
//! for every size from 1 to 32, and answers of fewer records than there are.

use crate::support::{name, query, with_edns, zones_with};
use dns::answer::{Terms, Transport, answer};
use dns::fast::fast;
use dns::wire::RecordType;
use dns::zone::{OrderPolicy, Orders, SetOrder, Zones};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

const SIZES: std::ops::RangeInclusive<u8> = 1..=32;

fn text(count: u8) -> String {
    let mut text = "$TTL 100\n@ SOA ns h 1 1 1 1 30\n@ NS ns\nns A 192.0.2.1\n".to_string();
    for at in 0..count {
        writeln!(text, "set A 10.0.0.{at}").unwrap();
    }
    text
}

fn orders(policy: OrderPolicy, answers_max: Option<u16>, weights: &[u32]) -> Orders {
    let mut orders = Orders::all(OrderPolicy::Cyclic);
    let weights =
        (0_u8..).zip(weights).map(|(at, weight)| (IpAddr::V4(Ipv4Addr::new(10, 0, 0, at)), *weight));
    let order = SetOrder { policy, answers_max, weights: weights.collect() };
    orders.name(name("set.z."), RecordType::A, order);
    orders
}

fn set(count: u8, orders: &Orders) -> Zones {
    zones_with(&[("z.", &text(count))], orders).0
}

/// The last octets of the addresses of one answer, in order; each path is asked in its turn.
struct Client {
    zones: Zones,
    random: fastrand::Rng,
    packet: Vec<u8>,
    quick: bool,
}

impl Client {
    fn new(zones: Zones, seed: u64) -> Client {
        let packet = with_edns(query("set.z.", "A"), 1_232, 0, false);
        Client { zones, random: fastrand::Rng::with_seed(seed), packet, quick: false }
    }

    fn ask(&mut self) -> Vec<u8> {
        self.quick = !self.quick;
        let mut out = Vec::new();
        let mut draw = |bound| self.random.usize(..bound);
        if self.quick {
            fast(&self.packet, &self.zones, 1_232, &mut draw, &mut out).expect("addresses are common");
        } else {
            let terms = Terms::plain(Transport::Udp, 1_232);
            answer(&self.packet, &self.zones, terms, &mut draw, &mut out);
        }
        let count = usize::from(u16::from_be_bytes([out[6], out[7]]));
        // The question is the query's without its OPT record; a record is 16 octets, its address the last four.
        let records = &out[self.packet.len() - 11..];
        records.chunks(16).take(count).map(|record| record[15]).collect()
    }
}

/// The value that chi-square passes by chance once in a thousand, after Wilson and Hilferty.
fn critical(degrees: f64) -> f64 {
    let part = 2.0 / (9.0 * degrees);
    degrees * (1.0 - part + 3.09 * part.sqrt()).powi(3)
}

/// Whether seen counts go with expected shares; what is never expected must not be seen.
#[track_caller]
fn check_shares(seen: &HashMap<u8, u32>, weights: &[u32], answers: u32, what: &str) {
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mut chi_square = 0.0;
    let mut kinds = 0;
    for (at, weight) in (0_u8..).zip(weights) {
        let count = f64::from(seen.get(&at).copied().unwrap_or(0));
        let expected = f64::from(answers) * f64::from(*weight) / total;
        if *weight == 0 {
            assert!(count == 0.0, "{what}: {at} has no weight: {seen:?}");
        } else {
            chi_square += (count - expected).powi(2) / expected;
            kinds += 1;
        }
    }
    if kinds > 1 {
        let most = critical(f64::from(kinds - 1));
        assert!(chi_square < most, "{what}: {chi_square} of at most {most}: {seen:?}");
    }
}

fn firsts(client: &mut Client, answers: u32) -> HashMap<u8, u32> {
    let mut seen = HashMap::new();
    for _ in 0..answers {
        *seen.entry(client.ask()[0]).or_default() += 1;
    }
    seen
}

#[test]
fn random_gives_every_record_the_first_place_alike() {
    for count in SIZES {
        let zones = set(count, &orders(OrderPolicy::Random, None, &[]));
        let mut client = Client::new(zones, u64::from(count));
        let answers = 200 * u32::from(count);
        let seen = firsts(&mut client, answers);
        check_shares(&seen, &vec![1; count.into()], answers, &format!("random of {count}"));
        let mut all = client.ask();
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<u8>>());
    }
}

#[test]
fn weighted_gives_one_record_by_its_weight() {
    for count in SIZES {
        // 1, 2, 3, 0, 1, 2, 3, 0: some have none.
        let weights: Vec<u32> = (1..=u32::from(count)).map(|at| at % 4).collect();
        let zones = set(count, &orders(OrderPolicy::Weighted, None, &weights));
        let mut client = Client::new(zones, u64::from(count));
        let answers = 400 * u32::from(count);
        let seen = firsts(&mut client, answers);
        check_shares(&seen, &weights, answers, &format!("weighted of {count}"));
        if count > 1 {
            assert_eq!(client.ask().len(), 1);
        }
    }
}

#[test]
fn weighted_with_more_records_draws_without_putting_back() {
    let zones = set(5, &orders(OrderPolicy::Weighted, Some(5), &[8, 4, 2, 1, 0]));
    let mut client = Client::new(zones, 3);
    let mut seconds = HashMap::new();
    for _ in 0..6_000 {
        let order = client.ask();
        let mut all = order.clone();
        all.sort_unstable();
        assert_eq!((all, order[4]), (vec![0, 1, 2, 3, 4], 4));
        // Behind the heaviest the others share by what they weigh among themselves.
        if order[0] == 0 {
            *seconds.entry(order[1]).or_default() += 1;
        }
    }
    let answers = seconds.values().sum();
    check_shares(&seconds, &[0, 4, 2, 1, 0], answers, "second of weighted");
}

#[test]
fn a_window_of_a_cyclic_set_goes_round() {
    let mut client = Client::new(set(4, &orders(OrderPolicy::Cyclic, Some(3), &[])), 1);
    let seen: Vec<_> = (0..5).map(|_| client.ask()).collect();
    assert_eq!(seen, [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1, 2]]);
}

#[test]
fn some_of_a_random_set() {
    let mut client = Client::new(set(6, &orders(OrderPolicy::Random, Some(2), &[])), 1);
    let mut seen = HashMap::new();
    for _ in 0..3_000 {
        let two = client.ask();
        assert!(two.len() == 2 && two[0] != two[1]);
        for at in two {
            *seen.entry(at).or_default() += 1;
        }
    }
    check_shares(&seen, &[1; 6], 6_000, "two of six");
}

#[test]
fn fixed_gives_the_first_ones() {
    let mut client = Client::new(set(4, &orders(OrderPolicy::Fixed, Some(2), &[])), 1);
    assert_eq!([client.ask(), client.ask()], [[0, 1], [0, 1]]);
}

#[track_caller]
fn check_told(orders: &Orders, expected: &[&str]) {
    let (_, told) = zones_with(&[("z.", &text(2))], orders);
    assert_eq!(told.iter().map(|fault| fault.what.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn the_operator_is_told_what_weights_mean() {
    let one = "set.z. A: weighted, so an answer has one record; caches would undo an order of more";
    check_told(&orders(OrderPolicy::Weighted, None, &[1, 2]), &[one]);
    let several = "set.z. A: weighted with answers of more than one record; caches reorder them, and the weights are lost";
    check_told(&orders(OrderPolicy::Weighted, Some(2), &[1, 2]), &[several]);
    let unknown = "set.z. A: the weight of 10.0.0.2 is of no use, the set does not have it";
    check_told(&orders(OrderPolicy::Weighted, None, &[1, 2, 3]), &[one, unknown]);
    let mut missing = orders(OrderPolicy::Fixed, None, &[]);
    let order = SetOrder { policy: OrderPolicy::Fixed, answers_max: None, weights: Vec::new() };
    missing.name(name("not.z."), RecordType::A, order.clone());
    missing.name(name("not.elsewhere."), RecordType::A, order);
    check_told(&missing, &["answers.set names not.z. A, which the zone does not have"]);
}

#[test]
fn weights_that_add_up_to_nothing_are_refused() {
    let contents = dns::master::read_alone(text(2).as_bytes(), &name("z.")).unwrap();
    let orders = orders(OrderPolicy::Weighted, None, &[0, 0]);
    let fault = dns::zone::Zone::build_with(name("z."), contents.records, &orders).unwrap_err();
    assert!(fault.what.starts_with("set.z. A: its weights add up to nothing"), "{fault:?}");
}
