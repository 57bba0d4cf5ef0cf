//! What each pool has for itself. The top-level sections are the pool `default`; `[pools.NAME.SECTION]` writes only what
//! differs from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use service_kit::{Invalid, config::overlaid};
use toml::{Table, Value};

use super::health::Mode;
use super::{Balance, Discovery, Health, Queue, Sticky, Upstream};
use super::{balance, discovery, ejection, health, queue, sticky, upstream};
use crate::ejection::Terms;

/// The pool that the top-level sections describe.
const DEFAULT: &str = "default";

/// The sections of one pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) balance: balance::Raw,
    pub(super) upstream: upstream::Raw,
    pub(super) queue: queue::Raw,
    pub(super) health: health::Raw,
    pub(super) ejection: ejection::Raw,
    pub(super) discovery: discovery::Raw,
    pub(super) sticky: sticky::Raw,
}

/// Backends that serve the same requests, and how they are treated.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    pub(crate) balance: Balance,
    pub(crate) upstream: Upstream,
    pub(crate) queue: Queue,
    pub(crate) health: Health,
    pub(crate) ejection: Option<Terms>,
    pub(crate) discovery: Discovery,
    pub(crate) sticky: Option<Sticky>,
}

/// The pool `default` first, then the others in order of their names.
pub(super) fn parse_all(default: &Raw, others: &BTreeMap<String, Table>) -> Result<Vec<Arc<Pool>>, Invalid> {
    let mut pools = vec![Arc::new(parse(DEFAULT, default)?)];
    for (name, over) in others {
        let at = format!("pools.{name}");
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if name == DEFAULT || !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
            let reason = "not a name for a pool";
            let remedy = "write 1 to 32 of a-z, 0-9, - and _; the top-level sections are the pool default";
            return Err(Invalid::new(at, name, reason, remedy));
        }
        let raw = overlaid(default, implied(default, over.clone(), name), &at)?;
        let pool = parse(name, &raw).map_err(|invalid| invalid.within(&at))?;
        if let Some(sticky) = &pool.sticky
            && let Some(other) = pools.iter().find(|other| other.cookie() == Some(&sticky.cookie))
        {
            let reason = format!("the pool {} has the same cookie; browsers keep one of a name", other.name);
            let key = format!("{at}.sticky.cookie");
            return Err(Invalid::new(key, &sticky.cookie, reason, "write another name"));
        }
        pools.push(Arc::new(pool));
    }
    Ok(pools)
}

fn parse(name: &str, raw: &Raw) -> Result<Pool, Invalid> {
    let upstream = upstream::parse(&raw.upstream)?;
    let health = health::parse(&raw.health, upstream.send_proxy)?;
    let sticky = sticky::parse(&raw.sticky, name)?;
    if sticky.as_ref().is_some_and(Sticky::is_sealed) && !matches!(health.check.mode, Mode::Http(_)) {
        let reason =
            "a cookie names an instance, and only the answer to an HTTP check says which one a backend is";
        let remedy = "set health.mode to http, or sticky.mode to table";
        return Err(Invalid::new("sticky.mode", "cookie", reason, remedy));
    }
    Ok(Pool {
        name: Arc::from(name),
        balance: balance::parse(&raw.balance)?,
        queue: queue::parse(&raw.queue)?,
        health,
        ejection: ejection::parse(&raw.ejection)?,
        upstream,
        discovery: discovery::parse(raw.discovery.clone())?,
        sticky,
    })
}

/// What a pool means without writing it: a cookie of its own, and its own DNS name instead of an inherited list.
fn implied(default: &Raw, mut over: Table, name: &str) -> Table {
    let written = |over: &Table, section: &str, key: &str| {
        over.get(section).and_then(Value::as_table).is_some_and(|section| section.contains_key(key))
    };
    let named = written(&over, "discovery", "name") && !written(&over, "discovery", "static");
    let cookie = (!written(&over, "sticky", "cookie")).then(|| format!("{}-{name}", default.sticky.cookie));
    let mut set = |section: &str, key: &str, value: Value| {
        let section = over.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(key.to_owned(), value);
        }
    };
    if named {
        set("discovery", "static", Value::Array(Vec::new()));
    }
    if let Some(cookie) = cookie {
        set("sticky", "cookie", Value::String(cookie));
    }
    over
}

impl Pool {
    fn cookie(&self) -> Option<&String> {
        self.sticky.as_ref().map(|sticky| &sticky.cookie)
    }
}
