//! `[sticky]`: whether and how clients come back to their backend.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::{Invalid, KeyRing};

use super::values::count;
use crate::table::Bounds;
use crate::ticket::Sealer;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    mode: String,
    pub(super) cookie: String,
    keys_file: String,
    lifetime_s: u64,
    table_key: String,
    table_entries_max: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            mode: "off".into(),
            cookie: "route".into(),
            keys_file: String::new(),
            lifetime_s: 3_600,
            table_key: "cookie".into(),
            table_entries_max: 100_000,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Sticky {
    pub(crate) cookie: String,
    /// Of a sealed cookie from its issue, of an entry of the table from its last use.
    pub(crate) lifetime: Duration,
    pub(crate) kind: StickyKind,
}

/// Who remembers where a client belongs.
#[derive(Debug, Clone)]
pub(crate) enum StickyKind {
    /// The client does, in a cookie that every balancer with the key ring can read.
    Sealed(Arc<Sealer>),
    /// This balancer does.
    Table { key: TableKey, entries_max: usize },
}

/// By what the table knows a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKey {
    Cookie,
    Address,
}

impl Sticky {
    /// Whether clients carry the mapping.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.kind, StickyKind::Sealed(_))
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let entries_max = if let StickyKind::Table { entries_max, .. } = self.kind { entries_max } else { 0 };
        Bounds { entries_max, lifetime: self.lifetime }
    }
}

/// `pool` is part of what a cookie authenticates: on another pool's route it is worth nothing.
pub(super) fn parse(raw: &Raw, pool: &str) -> Result<Option<Sticky>, Invalid> {
    if !is_cookie_name(&raw.cookie) {
        let remedy = "write letters and digits";
        return Err(Invalid::new("sticky.cookie", &raw.cookie, "not a cookie name", remedy));
    }
    // A ticket is renewed past half its life; below some seconds every answer would carry a cookie.
    if !(10..=31_536_000).contains(&raw.lifetime_s) {
        let remedy = "write 10 to 31536000";
        return Err(Invalid::new("sticky.lifetime_s", raw.lifetime_s, "out of range", remedy));
    }
    let key = match raw.table_key.as_str() {
        "cookie" => TableKey::Cookie,
        "address" => TableKey::Address,
        other => {
            return Err(Invalid::new("sticky.table_key", other, "unknown key", "write cookie or address"));
        }
    };
    let entries_max = count("sticky.table_entries_max", raw.table_entries_max)?;
    let kind = match raw.mode.as_str() {
        "off" => return Ok(None),
        "cookie" => StickyKind::Sealed(Arc::new(Sealer::new(ring(&raw.keys_file)?, &raw.cookie, pool))),
        "table" => StickyKind::Table { key, entries_max },
        other => {
            return Err(Invalid::new("sticky.mode", other, "unknown mode", "write off, cookie or table"));
        }
    };
    let lifetime = Duration::from_secs(raw.lifetime_s);
    Ok(Some(Sticky { cookie: raw.cookie.clone(), lifetime, kind }))
}

fn ring(path: &str) -> Result<KeyRing, Invalid> {
    if path.is_empty() {
        let remedy = "write the path of the key ring (sticky.keys.toml), the same on every balancer";
        return Err(Invalid::new(
            "sticky.keys_file",
            "nothing",
            "cookies cannot be sealed without keys",
            remedy,
        ));
    }
    KeyRing::load(&PathBuf::from(path)).map_err(|invalid| invalid.within("sticky"))
}

pub(super) fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
