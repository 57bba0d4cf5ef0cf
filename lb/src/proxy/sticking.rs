//! Brings clients back to their backend: reads the cookie or the table before a request, writes them after it.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderValue, SET_COOKIE};

use crate::affinity::{self, Affinity, Look, Now, Outcome, Renewal};
use crate::config::{Sticky, StickyKind};
use crate::connection::Client;
use crate::cookies;
use crate::headers::{self, Scheme};
use crate::metrics::Metrics;
use crate::snapshot::{Entry, Pool, Snapshot};
use crate::ticket;

/// Reads what the client brought for this pool. Its cookie and those of other pools are taken out of the request: they
/// are nobody else's business.
pub(super) fn read(
    snapshot: &Snapshot,
    pool: &Pool,
    headers: &mut HeaderMap,
    client: &Client,
    metrics: &Metrics,
) -> Affinity {
    for other in &snapshot.config.pools {
        if let Some(sticky) = &other.sticky
            && !Arc::ptr_eq(other, &pool.config)
        {
            cookies::take(headers, &sticky.cookie);
        }
    }
    let Some(sticky) = &pool.config.sticky else { return Affinity::none(Outcome::Absent) };
    let brought = (&cookies::take(headers, &sticky.cookie), client.address.ip());
    let now = Now { unix_s: now_s(), steady: Instant::now() };
    let look = Look::Use(&mut client.memo.borrow_mut());
    let affinity = affinity::read(sticky, &pool.commons.table, &pool.entries, brought, now, look);
    metrics.cookie(affinity.outcome);
    affinity
}

/// Notes who served the client, in the answer or in the table. An answer that others may be given too carries no cookie.
/// Returns whether the client gets one.
pub(super) fn write(
    pool: &Pool,
    affinity: &Affinity,
    (served, overflowed): (&Entry, bool),
    headers: &mut HeaderMap,
    scheme: Scheme,
    metrics: &Metrics,
) -> bool {
    let Some(sticky) = &pool.config.sticky else { return false };
    let shared = headers::is_shared(headers);
    let value = match (affinity::renew(affinity, sticky, served.home(), overflowed, now_s()), &sticky.kind) {
        (Renewal::Ticket(ticket), StickyKind::Sealed(sealer)) if !shared => {
            Some((sealer.seal(&ticket, ticket::nonce()), Some(sticky.lifetime)))
        }
        (Renewal::Row { cookie: true, .. }, _) if shared => None,
        (Renewal::Row { client, home, cookie }, _) => {
            pool.commons.table.remember(client, home, sticky.bounds(), Instant::now());
            // Without an age: the entry lives as long as it is used, and no cookie can say that.
            client.to_cookie().filter(|_| cookie).map(|value| (value, None))
        }
        (Renewal::Nothing | Renewal::Ticket(_), _) => None,
    };
    let Some((value, age)) = value else { return false };
    let age = age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
    headers.append(SET_COOKIE, cookie(sticky, &value, &age, scheme));
    metrics.cookies_issued.inc();
    served.backend.metrics.cookies_issued.inc();
    true
}

fn cookie(sticky: &Sticky, value: &str, age: &str, scheme: Scheme) -> HeaderValue {
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let text = format!("{}={value}; Path=/{age}; HttpOnly; SameSite=Lax{secure}", sticky.cookie);
    HeaderValue::from_str(&text).expect("a cookie of letters and digits is a valid value")
}

fn now_s() -> u64 {
    // Before 1970 no cookie is valid, which is the safe side.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
