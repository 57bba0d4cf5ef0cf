//! How everything that is steered stands, as JSON.

use crate::steering::explain::{Ordered, TargetReport};
use crate::steering::plan::{Family, Kind};
use crate::steering::{Force, Steering};
use serde::Serialize;
use std::net::IpAddr;

#[derive(Serialize)]
pub(super) struct Report {
    pools: Vec<PoolReport>,
    names: Vec<NameReport>,
    orders: Vec<Ordered>,
    /// Whether orders outlive the program.
    orders_are_kept: bool,
}

#[derive(Serialize)]
struct PoolReport {
    pool: String,
    up: usize,
    up_percent_min: u8,
    all_down: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    forced: Option<Force>,
    members: Vec<MemberReport>,
}

#[derive(Serialize)]
struct MemberReport {
    weight: u32,
    #[serde(flatten)]
    target: TargetReport,
}

#[derive(Serialize)]
struct NameReport {
    name: String,
    #[serde(rename = "type")]
    record_type: String,
    r#use: String,
    addresses: Vec<IpAddr>,
    ttl_s: u32,
    failed: bool,
}

pub(super) fn report(steering: &Steering, now_unix_ms: u64) -> Report {
    let plan = &steering.plan;
    let pools = plan.choices.iter().enumerate().filter_map(|(id, choice)| {
        let Kind::Pool(pool) = &choice.kind else { return None };
        let usable = |target| steering.view.is_usable(plan, target);
        Some(PoolReport {
            pool: choice.name.to_string(),
            up: pool.members.iter().filter(|member| usable(member.target)).count(),
            up_percent_min: pool.up_percent_min,
            all_down: pool.all_down.as_str(),
            forced: steering.view.forced(id),
            members: pool
                .members
                .iter()
                .map(|member| MemberReport {
                    weight: member.weight,
                    target: steering.target_report(member.target, now_unix_ms),
                })
                .collect(),
        })
    });
    let names = plan.names.iter().enumerate().flat_map(|(index, steered)| {
        Family::ALL.into_iter().filter_map(move |family| {
            let offer = steering.history.offer(index, family)?;
            Some(NameReport {
                name: steered.name.to_string(),
                record_type: family.record_type().to_string(),
                r#use: plan.choices[steered.choice].name.to_string(),
                addresses: offer.addresses.clone(),
                ttl_s: offer.ttl,
                failed: offer.failed,
            })
        })
    });
    Report {
        pools: pools.collect(),
        names: names.collect(),
        orders: steering.orders_report(now_unix_ms),
        orders_are_kept: steering.orders_are_kept,
    }
}
