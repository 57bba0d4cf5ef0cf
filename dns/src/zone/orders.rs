//! The operator's choice of order for every set: one for all, and others for sets that are named. Applied when a zone is
//! built.

use super::build::Line;
use super::check::Fault;
use super::order::{Order, OrderPolicy, Weights};
use super::rdata::Rdata;
use super::rrset::Rrset;
use crate::wire::{Name, RecordType};
use std::collections::HashMap;
use std::net::IpAddr;

/// The most records that a set can have, and so the most that an answer can be limited to.
pub const ANSWERS_MAX: u16 = 4_096;

/// Orders of address sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    default: OrderPolicy,
    named: HashMap<(Name, RecordType), SetOrder>,
}

/// How one named set is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetOrder {
    pub policy: OrderPolicy,
    /// Records of an answer; `None` for all, or for one where the order is weighted.
    pub answers_max: Option<u16>,
    /// Of records that are not in it the weight is 1. Only with [`OrderPolicy::Weighted`].
    pub weights: Vec<(IpAddr, u32)>,
}

impl Orders {
    /// One order for all sets.
    pub fn all(default: OrderPolicy) -> Orders {
        Orders { default, named: HashMap::new() }
    }

    /// Another order for one set; the one it had before when it was named already.
    pub fn name(&mut self, owner: Name, record_type: RecordType, order: SetOrder) -> Option<SetOrder> {
        self.named.insert((owner, record_type), order)
    }

    /// Decides how a set is given. Only address sets of two and more have anything to order.
    pub(super) fn apply(
        &self,
        owner: &Name,
        rrset: &mut Rrset,
        warnings: &mut Vec<Fault>,
        line: Line,
    ) -> Result<(), Fault> {
        let record_type = rrset.record_type;
        if !record_type.is_address() {
            return Ok(());
        }
        let named = if self.named.is_empty() { None } else { self.named.get(&(owner.clone(), record_type)) };
        let policy = named.map_or(self.default, |set| set.policy);
        if let Some(set) = named {
            rrset.answers_max = set.answers_max.unwrap_or(u16::from(policy == OrderPolicy::Weighted));
        }
        rrset.order = match policy {
            _ if rrset.records.len() < 2 => Order::Fixed,
            OrderPolicy::Fixed => Order::Fixed,
            OrderPolicy::Cyclic => Order::Cyclic(Box::default()),
            OrderPolicy::Random => Order::Random,
            OrderPolicy::Weighted => {
                let set =
                    named.expect("the default is never weighted: a set has to be named to have weights");
                warnings.push(Fault { line, what: note(owner, record_type, rrset.answers_max) });
                Order::Weighted(weights(owner, rrset, set, warnings, line)?)
            }
        };
        Ok(())
    }

    /// The same for a set that changes while its zone is served. Weights of records that are not in it now do not matter; a
    /// set that nothing could be drawn from is given in turns.
    pub fn order(&self, owner: &Name, rrset: &mut Rrset) {
        if self.apply(owner, rrset, &mut Vec::new(), Line::default()).is_err() {
            rrset.answers_max = 0;
            rrset.order = Order::Cyclic(Box::default());
        }
    }

    /// Named sets of a zone that it does not have.
    pub(super) fn missing<'o>(
        &'o self,
        origin: &'o Name,
        has: impl Fn(&Name, RecordType) -> bool,
    ) -> impl Iterator<Item = Fault> {
        let here = self.named.keys().filter(|(owner, _)| owner.is_within(origin));
        here.filter(move |(owner, record_type)| !has(owner, *record_type)).map(|(owner, record_type)| Fault {
            line: Line::default(),
            what: format!("answers.set names {owner} {record_type}, which the zone does not have"),
        })
    }
}

/// What an operator of weights should know.
fn note(owner: &Name, record_type: RecordType, answers_max: u16) -> String {
    match answers_max {
        1 => format!(
            "{owner} {record_type}: weighted, so an answer has one record; caches would undo an order of more"
        ),
        _ => format!(
            "{owner} {record_type}: weighted with answers of more than one record; caches reorder them, and the \
             weights are lost"
        ),
    }
}

fn weights(
    owner: &Name,
    rrset: &Rrset,
    set: &SetOrder,
    warnings: &mut Vec<Fault>,
    line: Line,
) -> Result<Weights, Fault> {
    let record_type = rrset.record_type;
    let given: HashMap<Vec<u8>, u32> =
        set.weights.iter().map(|(ip, weight)| (octets(*ip), *weight)).collect();
    let data = |rdata: &Rdata| match rdata {
        Rdata::Plain(data) => data.to_vec(),
        _ => Vec::new(),
    };
    let there: Vec<Vec<u8>> = rrset.records.iter().map(data).collect();
    for (ip, _) in &set.weights {
        let wanted = ip.is_ipv4() == (record_type == RecordType::A);
        if wanted && !there.contains(&octets(*ip)) {
            let what =
                format!("{owner} {record_type}: the weight of {ip} is of no use, the set does not have it");
            warnings.push(Fault { line, what });
        }
    }
    let weights: Vec<u32> = there.iter().map(|data| given.get(data).copied().unwrap_or(1)).collect();
    Weights::new(&weights).ok_or_else(|| Fault {
        line,
        what: format!(
            "{owner} {record_type}: its weights add up to nothing, or to more than 32 bits; give at least one record a \
             weight above 0"
        ),
    })
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}
