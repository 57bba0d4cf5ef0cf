//! `[steering]`, `[pools.NAME]` and `[choices.NAME]`: which names are answered by which choice. Names of choices become
//! places in a list here, so that whatever comes later cannot meet one that does not exist or a circle.

use super::{health, within};
use crate::steering::plan::{AllDown, Check, ChoiceId, NetworkMap, Steered};
use crate::wire::Name;
use serde::{Deserialize, Serialize};
use service_kit::config::overlaid;
use service_kit::{Invalid, Networks, Prefix};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use toml::Table;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    orders_file: PathBuf,
    explain_from: Vec<String>,
    names: Vec<RawName>,
}

impl Default for Raw {
    fn default() -> Raw {
        let explain_from = vec!["127.0.0.0/8".into(), "::1".into()];
        Raw { orders_file: PathBuf::new(), explain_from, names: Vec::new() }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawName {
    name: String,
    r#use: String,
    /// 0: the zone's.
    ttl_s: u64,
    /// 0: half of the other.
    ttl_down_s: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPool {
    from: String,
    members: Vec<RawMember>,
    up_percent_min: u64,
    all_down: String,
    fallback: String,
    answers_max: u64,
    health: Table,
}

impl Default for RawPool {
    fn default() -> RawPool {
        RawPool {
            from: String::new(),
            members: Vec::new(),
            up_percent_min: 0,
            all_down: "serve-all".into(),
            fallback: String::new(),
            answers_max: 0,
            health: Table::new(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMember {
    address: String,
    weight: u64,
}

impl Default for RawMember {
    fn default() -> RawMember {
        RawMember { address: String::new(), weight: 100 }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawChoice {
    kind: String,
    of: Vec<String>,
    weights: Vec<u64>,
    networks: Vec<RawNetwork>,
    default: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawNetwork {
    prefixes: Vec<String>,
    r#use: Vec<String>,
}

/// How names are steered, before the zones are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// Where orders of operators are kept; `None`: nowhere.
    pub orders_file: Option<PathBuf>,
    pub explain_from: Networks,
    pub names: Arc<[Steered]>,
    /// Pools first, then the others, each in the order of their names.
    pub choices: Vec<(Arc<str>, Settings)>,
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    Pool(PoolSettings),
    Failover(Vec<ChoiceId>),
    Weighted(Vec<(ChoiceId, u32)>),
    Networks(Arc<NetworkMap>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    pub members: Members,
    pub up_percent_min: u8,
    pub all_down: AllDown,
    pub answers_max: usize,
    pub check: Arc<Check>,
}

/// Who is in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// The A and AAAA records that the zone has at this name.
    Records(Name),
    Listed(Vec<(IpAddr, u32)>),
}

/// Finds choices by name.
struct Names<'a>(Vec<&'a str>);

impl Names<'_> {
    fn find(&self, key: &str, name: &str) -> Result<ChoiceId, Invalid> {
        self.0.iter().position(|known| *known == name).ok_or_else(|| {
            let known = if self.0.is_empty() { "none".into() } else { self.0.join(", ") };
            Invalid::new(key, name, "there is no such pool or choice", format!("use one of: {known}"))
        })
    }

    fn find_all(&self, key: &str, names: &[String]) -> Result<Vec<ChoiceId>, Invalid> {
        if names.is_empty() {
            return Err(Invalid::new(
                key,
                "[]",
                "nothing to choose from",
                "name at least one pool or choice",
            ));
        }
        names.iter().map(|name| self.find(key, name)).collect()
    }
}

pub(super) fn parse(
    health: &health::Raw,
    raw: Raw,
    pools: &BTreeMap<String, RawPool>,
    others: &BTreeMap<String, RawChoice>,
) -> Result<Steering, Invalid> {
    // Looked at even when no pool uses it as it is.
    health::parse(health)?;
    let names = Names(pools.keys().chain(others.keys()).map(String::as_str).collect());
    check_names(pools, others)?;
    let mut choices = Vec::new();
    for (name, raw) in pools {
        let at = format!("pools.{name}");
        let settings = pool(raw, health, &names).map_err(|invalid| invalid.within(&at))?;
        choices.push((Arc::from(name.as_str()), Settings::Pool(settings)));
    }
    for (name, raw) in others {
        let settings = choice(raw, &names).map_err(|invalid| invalid.within(&format!("choices.{name}")))?;
        choices.push((Arc::from(name.as_str()), settings));
    }
    refuse_circles(&choices)?;
    let explain_from = Networks::parse(&raw.explain_from).map_err(|entry| {
        let remedy = "write for example 10.0.0.0/8";
        Invalid::new("steering.explain_from", entry, "not an address or network", remedy)
    })?;
    Ok(Steering {
        orders_file: Some(raw.orders_file).filter(|file| !file.as_os_str().is_empty()),
        explain_from,
        names: steered(&raw.names, &names)?.into(),
        choices,
    })
}

fn check_names(
    pools: &BTreeMap<String, RawPool>,
    others: &BTreeMap<String, RawChoice>,
) -> Result<(), Invalid> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    for (section, name) in
        pools.keys().map(|name| ("pools", name)).chain(others.keys().map(|name| ("choices", name)))
    {
        let key = format!("{section}.{name}");
        if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(Invalid::new(key, name, "not a name", "write 1 to 32 of a-z, 0-9, - and _"));
        }
        if section == "choices" && pools.contains_key(name) {
            return Err(Invalid::new(key, name, "there is a pool of this name", "give one another name"));
        }
    }
    Ok(())
}

fn pool(raw: &RawPool, health: &health::Raw, names: &Names<'_>) -> Result<PoolSettings, Invalid> {
    let check = overlaid(health, raw.health.clone(), "health")?;
    Ok(PoolSettings {
        members: members(raw)?,
        up_percent_min: u8::try_from(within("up_percent_min", raw.up_percent_min, 0, 100)?)
            .expect("at most 100"),
        all_down: all_down(raw, names)?,
        answers_max: usize::try_from(within("answers_max", raw.answers_max, 0, 1_000)?)
            .expect("at most 1000"),
        check: Arc::new(health::parse(&check)?),
    })
}

fn members(raw: &RawPool) -> Result<Members, Invalid> {
    match (raw.from.is_empty(), raw.members.is_empty()) {
        (true, true) => Err(Invalid::new(
            "members",
            "[]",
            "nobody is in the pool",
            "list members = [{ address = \"192.0.2.1\" }], or set from = \"NAME\" to take the records of that name",
        )),
        (false, false) => {
            Err(Invalid::new("from", &raw.from, "members are listed too", "keep one of the two"))
        }
        (false, true) => Ok(Members::Records(name("from", &raw.from)?)),
        (true, false) => {
            let mut list: Vec<(IpAddr, u32)> = Vec::new();
            for member in &raw.members {
                let address: IpAddr = member.address.parse().map_err(|_| {
                    Invalid::new(
                        "members",
                        &member.address,
                        "not an IP address",
                        "write for example 192.0.2.1",
                    )
                })?;
                let address = address.to_canonical();
                if list.iter().any(|(known, _)| *known == address) {
                    return Err(Invalid::new("members", address, "listed twice", "remove one"));
                }
                let weight = within("members", member.weight, 1, 1_000_000)?;
                list.push((address, u32::try_from(weight).expect("at most a million")));
            }
            Ok(Members::Listed(list))
        }
    }
}

fn all_down(raw: &RawPool, names: &Names<'_>) -> Result<AllDown, Invalid> {
    match (raw.all_down.as_str(), raw.fallback.is_empty()) {
        ("fallback", false) => Ok(AllDown::Fallback(names.find("fallback", &raw.fallback)?)),
        ("fallback", true) => Err(Invalid::new(
            "fallback",
            "nothing",
            "what to fall back to is not said",
            "name a pool or choice",
        )),
        (_, false) => Err(Invalid::new(
            "fallback",
            &raw.fallback,
            "it is used with all_down = \"fallback\" alone",
            "set all_down, or remove it",
        )),
        ("serve-all", _) => Ok(AllDown::ServeAll),
        ("empty", _) => Ok(AllDown::Empty),
        ("servfail", _) => Ok(AllDown::ServFail),
        (other, _) => {
            let remedy = "write serve-all, empty, servfail or fallback";
            Err(Invalid::new("all_down", other, "not a known policy", remedy))
        }
    }
}

fn choice(raw: &RawChoice, names: &Names<'_>) -> Result<Settings, Invalid> {
    let unused = |key: &str, is_empty: bool| match is_empty {
        true => Ok(()),
        false => Err(Invalid::new(key, &raw.kind, "this kind of choice has no such key", "remove it")),
    };
    let is_map = raw.kind == "networks";
    unused("networks", is_map || raw.networks.is_empty())?;
    unused("default", is_map || raw.default.is_empty())?;
    unused("of", !is_map || raw.of.is_empty())?;
    unused("weights", raw.kind == "weighted" || raw.weights.is_empty())?;
    match raw.kind.as_str() {
        "failover" => Ok(Settings::Failover(names.find_all("of", &raw.of)?)),
        "weighted" => {
            let of = names.find_all("of", &raw.of)?;
            if raw.weights.len() != of.len() {
                let reason = format!("{} weights for {} choices", raw.weights.len(), of.len());
                return Err(Invalid::new(
                    "weights",
                    format!("{:?}", raw.weights),
                    reason,
                    "give each its weight",
                ));
            }
            let weight = |weight: &u64| {
                within("weights", *weight, 0, 1_000_000)
                    .map(|weight| u32::try_from(weight).expect("at most a million"))
            };
            let weights = raw.weights.iter().map(weight).collect::<Result<Vec<_>, _>>()?;
            Ok(Settings::Weighted(of.into_iter().zip(weights).collect()))
        }
        "networks" => {
            let mut entries: Vec<(Prefix, Vec<ChoiceId>)> = Vec::new();
            for network in &raw.networks {
                let choices = names.find_all("networks.use", &network.r#use)?;
                for text in &network.prefixes {
                    let prefix: Prefix = text.parse().map_err(|_| {
                        let remedy = "write for example 10.0.0.0/8";
                        Invalid::new("networks.prefixes", text, "not an address or network", remedy)
                    })?;
                    if entries.iter().any(|(known, _)| *known == prefix) {
                        return Err(Invalid::new("networks.prefixes", text, "listed twice", "remove one"));
                    }
                    entries.push((prefix, choices.clone()));
                }
            }
            let default = names.find_all("default", &raw.default)?;
            Ok(Settings::Networks(Arc::new(NetworkMap { entries, default })))
        }
        other => {
            let remedy = "write failover, weighted or networks; pools are [pools.NAME]";
            Err(Invalid::new("kind", other, "not a known kind of choice", remedy))
        }
    }
}

fn steered(raw: &[RawName], names: &Names<'_>) -> Result<Vec<Steered>, Invalid> {
    let mut steered: Vec<Steered> = Vec::new();
    for raw in raw {
        let name = name("steering.names.name", &raw.name)?;
        if steered.iter().any(|known| known.name == name) {
            return Err(Invalid::new("steering.names.name", name, "listed twice", "remove one"));
        }
        let seconds = |key: &str, value: u64| {
            let value = within(key, value, 0, 604_800)?;
            Ok(Some(u32::try_from(value).expect("at most a week")).filter(|value| *value > 0))
        };
        steered.push(Steered {
            choice: names.find("steering.names.use", &raw.r#use)?,
            ttl: seconds("steering.names.ttl_s", raw.ttl_s)?,
            ttl_down: seconds("steering.names.ttl_down_s", raw.ttl_down_s)?,
            name,
        });
    }
    Ok(steered)
}

fn name(key: &str, text: &str) -> Result<Name, Invalid> {
    Name::from_text(text.as_bytes(), Some(&Name::root())).map_err(|error| {
        Invalid::new(key, text, error.to_string(), "write the full name, for example www.example.com")
    })
}

/// A choice that leads back to itself would be walked for ever.
fn refuse_circles(choices: &[(Arc<str>, Settings)]) -> Result<(), Invalid> {
    fn walk(
        choices: &[(Arc<str>, Settings)],
        at: ChoiceId,
        above: &mut Vec<ChoiceId>,
    ) -> Result<(), Invalid> {
        if above.contains(&at) {
            let names = above.iter().chain([&at]).map(|id| &*choices[*id].0).collect::<Vec<_>>();
            let reason = "a choice leads back to itself";
            return Err(Invalid::new("choices", names.join(" -> "), reason, "take one of these steps out"));
        }
        above.push(at);
        for child in choices[at].1.children() {
            walk(choices, child, above)?;
        }
        above.pop();
        Ok(())
    }
    (0..choices.len()).try_for_each(|at| walk(choices, at, &mut Vec::new()))
}

impl Settings {
    fn children(&self) -> Vec<ChoiceId> {
        match self {
            Settings::Pool(PoolSettings { all_down: AllDown::Fallback(choice), .. }) => vec![*choice],
            Settings::Pool(_) => Vec::new(),
            Settings::Failover(of) => of.clone(),
            Settings::Weighted(of) => of.iter().map(|(choice, _)| *choice).collect(),
            Settings::Networks(map) => {
                map.entries.iter().flat_map(|(_, choices)| choices).chain(&map.default).copied().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
