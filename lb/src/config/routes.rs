//! `[[routes]]`: which pool serves which hosts and paths.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::limits::rate;
use super::pool::Pool;
use crate::limits::RouteLimits;
use crate::router::{BadPattern, Pattern, Router};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    host: String,
    path: String,
    pool: String,
    /// Of one client; 0: no limit of the route's own.
    requests_per_second: u64,
    /// 0: as many as in a second.
    burst: u64,
    /// 0: what `[limits]` says.
    body_bytes_max: u64,
}

pub(super) fn parse(raw: &[Raw], pools: &[Arc<Pool>]) -> Result<Router, Invalid> {
    let patterns = raw.iter().enumerate().map(|(at, route)| {
        let invalid = |key: &str, value: &str, reason: &str, remedy: &str| {
            Invalid::new(format!("routes[{at}].{key}"), value, reason, remedy)
        };
        let pool = pools.iter().position(|pool| *pool.name == *route.pool).ok_or_else(|| {
            let names: Vec<&str> = pools.iter().map(|pool| &*pool.name).collect();
            invalid("pool", &route.pool, "no such pool", &format!("write one of {}", names.join(", ")))
        })?;
        let pattern = Pattern::new(&route.host, &route.path).map_err(|bad| match bad {
            BadPattern::Host => invalid(
                "host",
                &route.host,
                "not a host name",
                "write for example api.example.com, *.example.com, or nothing for any",
            ),
            BadPattern::Path => invalid("path", &route.path, "not a path", "write for example /api/"),
        })?;
        Ok((pattern, pool))
    });
    let mut router = Router::new(patterns.collect::<Result<_, _>>()?).map_err(|at| {
        let route = &raw[at];
        let text = format!("{}{}", route.host, route.path);
        Invalid::new(format!("routes[{at}]"), text, "another route has this host and path", "remove one")
    })?;
    for (at, route) in raw.iter().enumerate() {
        let burst = if route.burst == 0 { route.requests_per_second } else { route.burst };
        let rate = rate(&format!("routes[{at}]"), route.requests_per_second, burst)?;
        router.limit(
            at,
            RouteLimits { rate, body_bytes_max: Some(route.body_bytes_max).filter(|max| *max > 0) },
        );
    }
    Ok(router)
}
