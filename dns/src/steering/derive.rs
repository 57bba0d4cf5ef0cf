//! Puts what is decided ahead of any question into the zones: a snapshot in which steered names have the sets that they
//! answer with, so that they are served as fast as all others.

use super::plan::{Family, Steered};
use super::{Answer, Decision, Notes, Selector, Steering, decide};
use crate::wire::{Name, RecordType};
use crate::zone::{Order, Orders, Rdata, Rrset, SetChange, Zone, Zones};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What one name answers with for one family, as far as it is known ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub addresses: Vec<IpAddr>,
    pub ttl: u32,
    /// What the zone itself says.
    pub zone_ttl: u32,
    pub failed: bool,
}

impl Steering {
    /// Decides for one name. `None`: the name's choice knows no address of this family, and the zone's own set stays.
    pub fn decide(
        &self,
        steered: &Steered,
        family: Family,
        client: Option<super::Client>,
        random: &mut impl FnMut(u64) -> u64,
        notes: &mut Notes,
    ) -> Option<Decision> {
        let decided = || decide(&self.plan, &self.view, steered.choice, (family, client), random, notes);
        self.has_any(steered, family).then(decided)
    }

    /// The choice that this name is answered by. `None`: by its zone alone.
    pub fn choice_of(&self, name: &Name, family: Family) -> Option<&str> {
        let steered = &self.plan.names[self.plan.name(name)?];
        self.has_any(steered, family).then(|| &*self.plan.choices[steered.choice].name)
    }

    fn has_any(&self, steered: &Steered, family: Family) -> bool {
        self.plan.below(steered.choice).into_iter().any(|id| self.family_of(id) == family)
    }

    fn family_of(&self, target: usize) -> Family {
        Family::of(self.plan.targets[target].address)
    }

    /// The addresses of targets, each once.
    pub fn addresses(&self, targets: &[usize]) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::with_capacity(targets.len());
        for target in targets {
            let address = self.plan.targets[*target].address;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The TTL of an answer: the name's own or the zone's, and a shorter one while something is down.
    pub fn ttl(steered: &Steered, zone_ttl: u32, decision: &Decision) -> u32 {
        let usual = steered.ttl.unwrap_or(zone_ttl);
        match (decision.impaired, steered.ttl_down) {
            (false, _) => usual,
            (true, Some(down)) => usual.min(down),
            // As gdnsd does; but 0 would keep resolvers from sharing an answer at all.
            (true, None) => (usual / 2).max(1).min(usual),
        }
    }
}

/// What every steered name offers.
pub type Offers = HashMap<(usize, Family), Offer>;

/// What every steered name offers now.
pub fn offers(base: &Zones, steering: &Steering) -> Offers {
    let mut offers = Offers::new();
    for (index, steered) in steering.plan.names.iter().enumerate() {
        for family in Family::ALL {
            let offered = zone_ttl(base, steered, family).and_then(|ttl| steering.offer(index, family, ttl));
            if let Some((_, offer)) = offered {
                offers.insert((index, family), offer);
            }
        }
    }
    offers
}

/// A zone and what is to change in it.
type ZoneChange = (Arc<Zone>, Vec<SetChange>);

/// The zones with the steered sets in them.
pub fn derive(base: &Zones, steering: &Arc<Steering>, orders: &Orders) -> Zones {
    let mut by_zone: HashMap<Box<[u8]>, ZoneChange> = HashMap::new();
    for (index, steered) in steering.plan.names.iter().enumerate() {
        let Some(zone) = base.zone_for(&steered.name, RecordType::A) else { continue };
        for family in Family::ALL {
            let Some(ttl) = zone_ttl(base, steered, family) else { continue };
            let Some(set) = steered_set(steering, index, family, ttl, orders) else { continue };
            let (_, sets) = by_zone.entry(zone.origin().key()).or_insert_with(|| (zone.clone(), Vec::new()));
            sets.push((steered.name.clone(), family.record_type(), set));
        }
    }
    let changed = by_zone.into_values().map(|(zone, sets)| Arc::new(zone.with_sets(sets)));
    base.with(changed).steered_by(steering.clone())
}

/// The TTL that the zone gives a name's set; its negative one where it has none. `None`: the zone is gone.
fn zone_ttl(zones: &Zones, steered: &Steered, family: Family) -> Option<u32> {
    let zone = zones.zone_for(&steered.name, RecordType::A)?;
    let own = zone.node(&steered.name).and_then(|node| node.rrset(family.record_type()));
    Some(own.map_or_else(|| zone.soa().1.minimum, |rrset| rrset.ttl))
}

impl Steering {
    /// Decides for nobody in particular. What depends on who asks, or on chance, offers all that is usable.
    fn offer(&self, index: usize, family: Family, zone_ttl: u32) -> Option<(Decision, Offer)> {
        let steered = &self.plan.names[index];
        let decision = self.decide(steered, family, None, &mut |_| 0, &mut Notes::off())?;
        let addresses = match &decision.answer {
            Answer::ServFail => Vec::new(),
            Answer::Targets(targets) if self.plan.is_same_for_all(steered.choice) => self.addresses(targets),
            Answer::Targets(_) => {
                let mut usable = self.all_of(steered, family);
                usable.retain(|target| self.view.is_usable(&self.plan, *target));
                self.addresses(&usable)
            }
        };
        let ttl = Steering::ttl(steered, zone_ttl, &decision);
        let offer = Offer { addresses, ttl, zone_ttl, failed: decision.failed };
        Some((decision, offer))
    }

    fn all_of(&self, steered: &Steered, family: Family) -> Vec<usize> {
        let mut all = self.plan.below(steered.choice);
        all.retain(|target| self.family_of(*target) == family);
        all
    }
}

/// The set that a name has in the snapshot; the inner `None`: it has none.
fn steered_set(
    steering: &Arc<Steering>,
    index: usize,
    family: Family,
    zone_ttl: u32,
    orders: &Orders,
) -> Option<Option<Rrset>> {
    let steered = &steering.plan.names[index];
    let (decision, offer) = steering.offer(index, family, zone_ttl)?;
    let record_type = family.record_type();
    let is_known_ahead = decision.answer != Answer::ServFail && steering.plan.is_same_for_all(steered.choice);
    let addresses = match is_known_ahead {
        true => offer.addresses,
        false => steering.addresses(&steering.all_of(steered, family)),
    };
    if addresses.is_empty() {
        return Some(None);
    }
    let mut set = Rrset::new(record_type, offer.ttl, addresses.into_iter().map(rdata).collect());
    if is_known_ahead {
        orders.order(&steered.name, &mut set);
    } else {
        let steering = steering.clone();
        set.order = Order::Selected(Arc::new(Selector { steering, name: index, family, zone_ttl }));
    }
    Some(Some(set))
}

/// The data of an A or AAAA record.
pub fn rdata(address: IpAddr) -> Rdata {
    match address {
        IpAddr::V4(address) => Rdata::Plain(address.octets().into()),
        IpAddr::V6(address) => Rdata::Plain(address.octets().into()),
    }
}
