//! Turns a question into the sections of its answer: which sets, under which owners, with what authority. Sets are
//! borrowed from the zones; nothing is copied and nothing is written yet.

use crate::steering::{Client, Selected, Selector};
use crate::wire::{Class, Name, Question, Rcode, RecordType};
use crate::zone::check::CNAME_HOPS_MAX;
use crate::zone::{Draw, Found, Order, Rdata, Rrset, Zone, Zones, build::Node};
use std::cell::OnceCell;
use std::sync::Arc;

/// The sections of an answer.
#[derive(Debug)]
pub struct Reply<'a> {
    pub rcode: Rcode,
    pub authoritative: bool,
    pub answers: Vec<Part<'a>>,
    pub authority: Vec<Part<'a>>,
    pub additional: Vec<Extra<'a>>,
    /// How many bits of the client's address the answer rests on (RFC 7871 section 7.2.1).
    pub scope: u8,
}

/// One set in a section.
#[derive(Debug)]
pub struct Part<'a> {
    /// The name asked for where the set is a wildcard's.
    pub owner: &'a Name,
    pub rrset: &'a Rrset,
    pub ttl: u32,
    /// The records that were chosen, where not all of the set are given.
    pub selected: Option<Vec<usize>>,
}

impl<'a> Part<'a> {
    /// A whole set.
    fn whole(owner: &'a Name, rrset: &'a Rrset) -> Part<'a> {
        Part { owner, rrset, ttl: rrset.ttl, selected: None }
    }
}

/// Who asks, and chance: what sets that are chosen from for each question depend on.
#[derive(Debug)]
pub struct Asker<'r, D> {
    pub client: Option<Client>,
    pub draw: &'r mut D,
}

/// One set in the additional section.
#[derive(Debug)]
pub struct Extra<'a> {
    pub part: Part<'a>,
    /// Without this glue the delegation cannot be followed: an answer it does not fit is cut (RFC 9471).
    pub required: bool,
}

impl<'a> Reply<'a> {
    /// One set, as it is.
    pub fn of(owner: &'a Name, rrset: &'a Rrset) -> Reply<'a> {
        let answers = vec![Part::whole(owner, rrset)];
        Reply { authoritative: true, answers, ..Reply::empty(Rcode::NoError) }
    }

    /// A code and nothing else.
    pub fn empty(rcode: Rcode) -> Reply<'a> {
        Reply {
            rcode,
            authoritative: false,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            scope: 0,
        }
    }
}

/// What is made for one answer and stands in no zone: the CNAME of each hop over a DNAME.
#[derive(Debug, Default)]
pub struct Scratch {
    hops: [OnceCell<Rrset>; CNAME_HOPS_MAX + 1],
}

impl Scratch {
    /// Keeps the CNAME of one hop as long as the answer; gives it and its target.
    fn cname(&self, hop: usize, ttl: u32, target: Name) -> Option<(&Rrset, &Name)> {
        let rrset = self.hops.get(hop)?;
        let rrset = rrset.get_or_init(|| Rrset::new(RecordType::CNAME, ttl, vec![Rdata::Name(target)]));
        match rrset.records.first() {
            Some(Rdata::Name(target)) => Some((rrset, target)),
            _ => None,
        }
    }
}

/// Answers a question from the zones.
pub fn resolve<'a, D: Draw>(
    zones: &'a Zones,
    question: &'a Question,
    scratch: &'a Scratch,
    asker: &mut Asker<'_, D>,
) -> Reply<'a> {
    let record_type = question.record_type;
    match record_type {
        // They name parts of a message, not records one could ask for.
        RecordType::OPT | RecordType::TSIG | RecordType::TKEY => return Reply::empty(Rcode::FormErr),
        RecordType::AXFR | RecordType::IXFR => return Reply::empty(Rcode::Refused),
        _ if question.class != Class::IN => return Reply::empty(Rcode::Refused),
        _ => {}
    }
    let mut name = &question.name;
    let Some(zone) = zones.zone_for(name, record_type) else { return Reply::empty(Rcode::Refused) };
    let mut reply = Reply::empty(Rcode::NoError);
    // The name asked for, and one more for each alias.
    for hop in 0..=CNAME_HOPS_MAX {
        let next = match zone.find(name, record_type) {
            Found::Alias(rrset) => {
                reply.answers.push(Part::whole(name, rrset));
                let Some(Rdata::Name(target)) = rrset.records.first() else { return reply };
                Some(target)
            }
            Found::Redirect(at, rrset) => redirect(&mut reply, (name, hop), at, rrset, scratch),
            found => {
                finish(&mut reply, zone, (name, record_type), &found, asker);
                return reply;
            }
        };
        reply.authoritative = true;
        let Some(target) = next else { return reply };
        let known = reply.answers.iter().any(|part| part.owner == target);
        // The chain ends with its zone, even when the next zone is here too: resolvers take no data of one zone
        // from an answer about another, and the two may belong to different people.
        let ours = zones.zone_for(target, record_type).is_some_and(|next| Arc::ptr_eq(next, zone));
        // Who asks for a CNAME has it.
        if known || !ours || record_type == RecordType::CNAME {
            return reply;
        }
        name = target;
    }
    reply
}

/// A hop over a DNAME: the DNAME itself, and the CNAME that it means for this name (RFC 6672 section 3.1). Gives the new
/// name, unless that is too long.
fn redirect<'a>(
    reply: &mut Reply<'a>,
    (name, hop): (&'a Name, usize),
    at: &'a Node,
    rrset: &'a Rrset,
    scratch: &'a Scratch,
) -> Option<&'a Name> {
    // A chain may come through here twice.
    if !reply.answers.iter().any(|part| std::ptr::eq(part.rrset, rrset)) {
        reply.answers.push(Part::whole(&at.name, rrset));
    }
    let Some(Rdata::Around { name: to, .. }) = rrset.records.first() else { return None };
    let Ok(target) = name.redirected(&at.name, to) else {
        reply.rcode = Rcode::YxDomain;
        return None;
    };
    let (cname, target) = scratch.cname(hop, rrset.ttl, target)?;
    reply.answers.push(Part::whole(name, cname));
    Some(target)
}

/// The end of the chain. AA speaks of the first owner (RFC 1035 section 4.1.1), so it stays when an alias led here.
fn finish<'a, D: Draw>(
    reply: &mut Reply<'a>,
    zone: &'a Zone,
    (name, record_type): (&'a Name, RecordType),
    found: &Found<'a>,
    asker: &mut Asker<'_, D>,
) {
    match *found {
        Found::Set(rrset) => {
            reply.authoritative = true;
            if let Order::Selected(selector) = &rrset.order {
                return select(reply, zone, (name, rrset), selector, asker);
            }
            reply.answers.push(Part::whole(name, rrset));
            // RFC 8482: an answer to ANY is as small as it can be.
            if record_type != RecordType::ANY {
                hosts(reply, zone, rrset);
            }
        }
        Found::Referral(cut) => referral(reply, zone, cut),
        Found::NoData | Found::Alias(_) | Found::Redirect(..) => negative(reply, zone, Rcode::NoError),
        // RFC 6604: the code is that of the last name of a chain.
        Found::NoName => negative(reply, zone, Rcode::NxDomain),
    }
}

/// A set that is chosen from for this question alone.
fn select<'a, D: Draw>(
    reply: &mut Reply<'a>,
    zone: &'a Zone,
    (owner, rrset): (&'a Name, &'a Rrset),
    selector: &Selector,
    asker: &mut Asker<'_, D>,
) {
    match selector.select(rrset, asker.client, asker.draw) {
        Selected::ServFail => *reply = Reply::empty(Rcode::ServFail),
        Selected::Records { at, .. } if at.is_empty() => negative(reply, zone, Rcode::NoError),
        Selected::Records { at, ttl, scope } => {
            reply.scope = reply.scope.max(scope);
            reply.answers.push(Part { owner, rrset, ttl, selected: Some(at) });
        }
    }
}

/// RFC 2308 section 3: the SOA goes along, with the time the negative answer may be kept as its TTL.
fn negative<'a>(reply: &mut Reply<'a>, zone: &'a Zone, rcode: Rcode) {
    let (rrset, soa) = zone.soa();
    reply.authoritative = true;
    reply.rcode = rcode;
    reply.authority.push(Part {
        owner: zone.origin(),
        rrset,
        ttl: rrset.ttl.min(soa.minimum),
        selected: None,
    });
}

fn referral<'a>(reply: &mut Reply<'a>, zone: &'a Zone, cut: &'a Node) {
    let Some(servers) = cut.rrset(RecordType::NS) else { return };
    reply.authority.push(Part::whole(&cut.name, servers));
    for target in targets(servers) {
        let required = target.is_within(&cut.name);
        addresses(reply, zone, target, required);
    }
}

/// The addresses of the hosts that an MX, SRV or NS set names, to spare the client a query.
fn hosts<'a>(reply: &mut Reply<'a>, zone: &'a Zone, rrset: &'a Rrset) {
    for target in targets(rrset) {
        // Glue below a delegation is not ours to give as data.
        let ours = target.is_within(zone.origin())
            && matches!(zone.find(target, RecordType::A), Found::Set(_) | Found::NoData);
        if ours {
            addresses(reply, zone, target, false);
        }
    }
}

fn targets(rrset: &Rrset) -> impl Iterator<Item = &Name> {
    rrset.records.iter().filter_map(|rdata| rdata.target(rrset.record_type))
}

fn addresses<'a>(reply: &mut Reply<'a>, zone: &'a Zone, host: &'a Name, required: bool) {
    let Some(node) = zone.node(host) else { return };
    for rrset in [RecordType::A, RecordType::AAAA].into_iter().filter_map(|wanted| node.rrset(wanted)) {
        // Several MX may name one host.
        let there = reply.additional.iter().any(|extra| std::ptr::eq(extra.part.rrset, rrset));
        // What depends on who asks is left to a question of its own.
        if !there && !matches!(rrset.order, Order::Selected(_)) {
            let part = Part::whole(host, rrset);
            reply.additional.push(Extra { part, required });
        }
    }
}
