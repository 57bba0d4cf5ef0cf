//! Makes a plan from the configuration and the zones: pools may take their members from the records of a name.

use super::plan::{Check, Choice, Family, Kind, Member, Plan, Pool, Target};
use crate::config::{self, Choosing, Members, PoolSettings};
use crate::wire::{Name, RecordType};
use crate::zone::{Rdata, Zones};
use std::net::IpAddr;
use std::sync::Arc;

/// What of the configuration does not fit the zones, one line each.
pub type Warnings = Vec<String>;

/// Puts both together. `zones` are as they were loaded, with nothing steered in them yet.
pub fn plan(settings: &config::Steering, zones: &Zones) -> (Plan, Warnings) {
    let mut plan = Plan::default();
    let mut warnings = Vec::new();
    for (name, choosing) in &settings.choices {
        let kind = match choosing {
            Choosing::Pool(pool) => {
                let members = members(name, pool, zones, &mut warnings);
                Kind::Pool(plan.pool(pool, members))
            }
            Choosing::Failover(of) => Kind::Failover(of.clone()),
            Choosing::Weighted(of) => Kind::Weighted(of.clone()),
            Choosing::Networks(map) => Kind::Networks(map.clone()),
        };
        plan.choices.push(Choice { name: name.clone(), kind });
    }
    for steered in settings.names.iter() {
        match fault(&steered.name, zones) {
            None => plan.names.push(steered.clone()),
            Some(what) => {
                warnings.push(format!("steering.names: {} {what}; it is not steered", steered.name));
            }
        }
    }
    (plan, warnings)
}

/// Why a name cannot be steered.
fn fault(name: &Name, zones: &Zones) -> Option<&'static str> {
    let Some(zone) = zones.zone_for(name, RecordType::A) else { return Some("is in no zone of this server") };
    let Some(node) = zone.node(name) else {
        return Some("is not in its zone; give it a record there");
    };
    if node.rrset(RecordType::CNAME).is_some() {
        return Some("is an alias; steer the name that it leads to");
    }
    zone.is_below_cut(name).then_some("belongs to a delegated zone")
}

fn members(
    pool_name: &str,
    pool: &PoolSettings,
    zones: &Zones,
    warnings: &mut Warnings,
) -> Vec<(IpAddr, u32)> {
    match &pool.members {
        Members::Listed(list) => list.clone(),
        Members::Records(name) => {
            let found = records(name, zones);
            if found.is_empty() {
                warnings.push(format!(
                    "pools.{pool_name}.from: {name} has no A or AAAA record: nobody is in the pool"
                ));
            }
            found.into_iter().map(|address| (address, 1)).collect()
        }
    }
}

/// The addresses that the zone itself gives a name.
fn records(name: &Name, zones: &Zones) -> Vec<IpAddr> {
    let Some(node) = zones.zone_for(name, RecordType::A).and_then(|zone| zone.node(name)) else {
        return Vec::new();
    };
    let sets = Family::ALL.into_iter().filter_map(|family| node.rrset(family.record_type()));
    sets.flat_map(|rrset| &rrset.records).filter_map(address).collect()
}

fn address(rdata: &Rdata) -> Option<IpAddr> {
    let Rdata::Plain(octets) = rdata else { return None };
    let v4 = <[u8; 4]>::try_from(&**octets).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(&**octets).ok().map(IpAddr::from))
}

impl Plan {
    fn pool(&mut self, settings: &PoolSettings, members: Vec<(IpAddr, u32)>) -> Pool {
        let member = |(address, weight)| Member { target: self.target(address, &settings.check), weight };
        Pool {
            members: members.into_iter().map(member).collect(),
            up_percent_min: settings.up_percent_min,
            all_down: settings.all_down,
            answers_max: settings.answers_max,
        }
    }

    /// One target for one address and check, however many pools have it.
    fn target(&mut self, address: IpAddr, check: &Arc<Check>) -> usize {
        let target = Target { address, check: check.clone() };
        self.targets.iter().position(|known| *known == target).unwrap_or_else(|| {
            self.targets.push(target);
            self.targets.len() - 1
        })
    }
}
