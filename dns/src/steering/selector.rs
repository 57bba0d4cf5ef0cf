//! A set whose records are chosen for each question: by the client's network, or by weight.

use super::evaluate::{Answer, Client, Notes};
use super::plan::Family;
use super::{Steering, derive};
use crate::zone::{Draw, Rrset};
use std::sync::Arc;

/// How to choose from a set that holds every address the name may answer with.
#[derive(Debug)]
pub struct Selector {
    pub steering: Arc<Steering>,
    /// Its place in the plan's names.
    pub name: usize,
    pub family: Family,
    pub zone_ttl: u32,
}

/// What was chosen for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// Places in the set, in the order of the answer; none: there is no such data.
    Records {
        at: Vec<usize>,
        ttl: u32,
        scope: u8,
    },
    ServFail,
}

impl Selector {
    /// Chooses from `rrset`, the set that this selector came with.
    pub fn select(&self, rrset: &Rrset, client: Option<Client>, draw: &mut impl Draw) -> Selected {
        let steered = &self.steering.plan.names[self.name];
        let mut random = |bound: u64| draw.below(usize::try_from(bound).unwrap_or(usize::MAX)) as u64;
        let decided = self.steering.decide(steered, self.family, client, &mut random, &mut Notes::off());
        let Some(decision) = decided else {
            return Selected::Records { at: Vec::new(), ttl: self.zone_ttl, scope: 0 };
        };
        let Answer::Targets(targets) = &decision.answer else { return Selected::ServFail };
        let addresses = self.steering.addresses(targets);
        let place = |address| {
            let wanted = derive::rdata(address);
            rrset.records.iter().position(|record| *record == wanted)
        };
        Selected::Records {
            at: addresses.into_iter().filter_map(place).collect(),
            ttl: Steering::ttl(steered, self.zone_ttl, &decision),
            scope: decision.scope,
        }
    }
}
