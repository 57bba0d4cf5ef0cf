//! `[discovery]`: who the backends are.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::ms;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    name: String,
    port: u64,
    resolver: String,
    r#static: Vec<String>,
    interval_ms: u64,
    timeout_ms: u64,
    leave_after_ms: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            name: "app".into(),
            port: 3_000,
            resolver: String::new(),
            r#static: Vec::new(),
            interval_ms: 1_000,
            timeout_ms: 800,
            leave_after_ms: 60_000,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) source: Source,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// How long a backend that left DNS may go on serving those who are pinned to it.
    pub(crate) leave_after: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Static(Vec<SocketAddr>),
    /// `resolver` empty: what the system's resolv.conf says.
    Dns {
        name: String,
        port: u16,
        resolver: Option<SocketAddr>,
    },
}

pub(super) fn parse(raw: Raw) -> Result<Discovery, Invalid> {
    let source = if raw.r#static.is_empty() {
        let port = u16::try_from(raw.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| {
            Invalid::new("discovery.port", raw.port, "not a port", "write the port of the backends")
        })?;
        if raw.name.is_empty() {
            let remedy = "write a name that DNS resolves to the backends, or list them in discovery.static";
            return Err(Invalid::new("discovery.name", "nothing", "no way to find backends", remedy));
        }
        let resolver = match raw.resolver.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                let remedy = "write for example 127.0.0.1:53, or nothing for the system's";
                Invalid::new("discovery.resolver", text, "not an address and port", remedy)
            })?),
        };
        Source::Dns { name: raw.name, port, resolver }
    } else {
        let address = |text: &String| {
            text.parse().map_err(|_| {
                Invalid::new(
                    "discovery.static",
                    text,
                    "not an address and port",
                    "write for example 127.0.0.1:3000",
                )
            })
        };
        Source::Static(raw.r#static.iter().map(address).collect::<Result<_, _>>()?)
    };
    Ok(Discovery {
        source,
        interval: ms("discovery.interval_ms", raw.interval_ms)?,
        timeout: ms("discovery.timeout_ms", raw.timeout_ms)?,
        leave_after: Duration::from_millis(raw.leave_after_ms),
    })
}
