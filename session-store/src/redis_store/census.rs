//! Counts the sessions without stopping Redis: page after page, a bounded number of keys at a time.

use redis::Value;

use super::RedisStore;
use crate::error::StoreError;

/// One page of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// Where to go on; 0 after the last page.
    pub(crate) next: u64,
    pub(crate) sessions: u64,
    pub(crate) tombstones: u64,
}

impl RedisStore {
    /// Looks at about `keys` keys from `cursor` on. Keys that move while Redis grows its table may be seen twice, so
    /// the sum over all pages is near the truth, not the truth.
    pub(crate) async fn census_page(&self, cursor: u64, keys: u32) -> Result<Page, StoreError> {
        let pattern = format!("{}*", escaped(&self.key_prefix));
        let answer = self
            .link
            .ask(async |connection| {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(keys).arg("TYPE").arg("hash");
                let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
                if found.is_empty() {
                    return Ok(Value::Array(vec![Value::Int(0), Value::Int(0), number(next)]));
                }
                let mut dead = redis::pipe();
                for key in &found {
                    dead.cmd("HEXISTS").arg(key).arg("m:dead");
                }
                let dead: Vec<u64> = dead.query_async(connection).await?;
                let tombstones = dead.iter().sum::<u64>();
                let sessions = (found.len() as u64).saturating_sub(tombstones);
                Ok(Value::Array(vec![number(sessions), number(tombstones), number(next)]))
            })
            .await?;
        let (sessions, tombstones, next) = super::reply::parse(answer)?;
        Ok(Page { next, sessions, tombstones })
    }
}

/// As Redis would have written it: a cursor has 64 bits, an integer reply only 63.
fn number(number: u64) -> Value {
    Value::BulkString(number.to_string().into_bytes())
}

/// The prefix as a pattern that matches only itself.
fn escaped(prefix: &str) -> String {
    let mut pattern = String::new();
    for character in prefix.chars() {
        if r"*?[]\^".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_only_itself() {
        assert_eq!(escaped("session:"), "session:");
        assert_eq!(escaped(r"a*[b]?\"), r"a\*\[b\]\?\\");
    }
}
