//! The configuration: what files and variables may say, and what the program works with.

mod encrypted;
mod extras;
mod health;
mod query_log;
mod steering;
mod transfer;

pub use encrypted::{Encrypted, Https};
pub use extras::{ExtrasPlan, RawCookies, RawIdentity, RawRateLimit};
pub use transfer::Transfers;

use transfer::RawTransfer;

use crate::answer::UDP_BYTES_MIN;
use crate::wire::{Name, RecordType};
use crate::zone::orders::ANSWERS_MAX;
use crate::zone::{OrderPolicy, Orders, SetOrder};
use serde::{Deserialize, Serialize};
use service_kit::{Invalid, Settings};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use steering::{Members, PoolSettings, Settings as Choosing, Steering};

/// What the program works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses for UDP and TCP alike; never empty.
    pub listen: Vec<SocketAddr>,
    pub zones: ZoneFiles,
    pub udp_payload_bytes_max: u16,
    pub udp_receive_buffer_bytes: usize,
    pub tcp: TcpLimits,
    /// DNS over TLS and over HTTPS, where there is any.
    pub encrypted: Option<Encrypted>,
    pub extras: ExtrasPlan,
    pub steering: Arc<Steering>,
    /// `None` where it is off.
    pub query_log: Option<crate::query_log::Settings>,
    pub transfers: Transfers,
}

/// Where zones come from and how they are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFiles {
    pub directory: PathBuf,
    pub file_bytes_max: u64,
    pub orders: Orders,
    /// How often files are looked at for changes; `None` for SIGHUP alone.
    pub watch_interval: Option<Duration>,
}

/// What clients may cost over TCP, plain or below TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpLimits {
    pub connections_max: usize,
    pub connections_per_client_max: usize,
    /// Clients that only the total limit binds: the gateway behind which all clients of a published port look alike.
    pub unlimited_clients: Vec<IpAddr>,
    /// From one complete query to the next.
    pub idle_timeout: Duration,
    /// For a client to take an answer.
    pub write_timeout: Duration,
    pub query_bytes_max: usize,
}

/// What files and variables say.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    pub server: RawServer,
    pub zones: RawZones,
    pub answers: RawAnswers,
    pub udp: RawUdp,
    pub tcp: RawTcp,
    tls: encrypted::RawTls,
    https: encrypted::RawHttps,
    pub identity: RawIdentity,
    pub cookies: RawCookies,
    pub rate_limit: RawRateLimit,
    query_log: query_log::Raw,
    health: health::Raw,
    steering: steering::Raw,
    pools: BTreeMap<String, steering::RawPool>,
    choices: BTreeMap<String, steering::RawChoice>,
    pub transfer: RawTransfer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawServer {
    pub listen: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawZones {
    pub directory: PathBuf,
    pub file_bytes_max: u64,
    pub watch_interval_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawAnswers {
    pub order: String,
    pub set: Vec<RawSet>,
    pub udp_payload_bytes_max: u16,
}

/// One `[[answers.set]]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawSet {
    pub name: String,
    /// A or AAAA; both when empty.
    pub r#type: String,
    pub order: String,
    /// 0 for all, or for one where the order is weighted.
    pub answers_max: u16,
    pub weights: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawUdp {
    pub receive_buffer_bytes: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTcp {
    pub connections_max: usize,
    pub connections_per_client_max: usize,
    pub unlimited_clients: Vec<String>,
    pub idle_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub query_bytes_max: usize,
}

impl Default for RawServer {
    fn default() -> RawServer {
        RawServer { listen: vec!["0.0.0.0:53".into()] }
    }
}

impl Default for RawZones {
    fn default() -> RawZones {
        RawZones { directory: "/etc/scaleout/zones".into(), file_bytes_max: 256 << 20, watch_interval_ms: 0 }
    }
}

impl Default for RawAnswers {
    fn default() -> RawAnswers {
        RawAnswers { order: "cyclic".into(), set: Vec::new(), udp_payload_bytes_max: 1_232 }
    }
}

impl Default for RawUdp {
    fn default() -> RawUdp {
        RawUdp { receive_buffer_bytes: 4 << 20 }
    }
}

impl Default for RawTcp {
    fn default() -> RawTcp {
        RawTcp {
            connections_max: 1_000,
            connections_per_client_max: 100,
            unlimited_clients: Vec::new(),
            idle_timeout_ms: 10_000,
            write_timeout_ms: 5_000,
            query_bytes_max: 4_096,
        }
    }
}

impl Settings for Config {
    type Raw = Raw;

    fn parse(raw: Raw) -> Result<Config, Invalid> {
        if raw.server.listen.is_empty() {
            return Err(Invalid::new(
                "server.listen",
                "[]",
                "no address to serve on",
                "give at least one ADDRESS:PORT",
            ));
        }
        let payload = u64::from(raw.answers.udp_payload_bytes_max);
        Ok(Config {
            listen: list(
                "server.listen",
                &raw.server.listen,
                "give ADDRESS:PORT, as in 192.0.2.1:53 or [2001:db8::1]:53",
            )?,
            zones: ZoneFiles {
                directory: raw.zones.directory,
                file_bytes_max: within("zones.file_bytes_max", raw.zones.file_bytes_max, 1, 1 << 32)?,
                orders: orders(&raw.answers)?,
                watch_interval: match within(
                    "zones.watch_interval_ms",
                    raw.zones.watch_interval_ms,
                    0,
                    3_600_000,
                )? {
                    0 => None,
                    interval => Some(Duration::from_millis(interval)),
                },
            },
            udp_payload_bytes_max: narrow(within(
                "answers.udp_payload_bytes_max",
                payload,
                u64::from(UDP_BYTES_MIN),
                4_096,
            )?),
            udp_receive_buffer_bytes: size(
                "udp.receive_buffer_bytes",
                raw.udp.receive_buffer_bytes,
                4_096,
                1 << 30,
            )?,
            tcp: tcp(&raw.tcp)?,
            encrypted: encrypted::parse(&raw.tls, &raw.https)?,
            extras: extras::plan(raw.identity, &raw.cookies, &raw.rate_limit)?,
            steering: Arc::new(steering::parse(&raw.health, raw.steering, &raw.pools, &raw.choices)?),
            query_log: query_log::parse(&raw.query_log)?,
            transfers: transfer::parse(&raw.transfer)?,
        })
    }
}

fn tcp(raw: &RawTcp) -> Result<TcpLimits, Invalid> {
    let idle = within("tcp.idle_timeout_ms", raw.idle_timeout_ms, 100, 3_600_000)?;
    let write = within("tcp.write_timeout_ms", raw.write_timeout_ms, 100, 3_600_000)?;
    Ok(TcpLimits {
        connections_max: size("tcp.connections_max", raw.connections_max, 1, 1_000_000)?,
        connections_per_client_max: size(
            "tcp.connections_per_client_max",
            raw.connections_per_client_max,
            1,
            1_000_000,
        )?,
        unlimited_clients: list("tcp.unlimited_clients", &raw.unlimited_clients, "give IP addresses")?,
        idle_timeout: Duration::from_millis(idle),
        write_timeout: Duration::from_millis(write),
        // 512 octets hold any plain question with its OPT record.
        query_bytes_max: size("tcp.query_bytes_max", raw.query_bytes_max, 512, 65_535)?,
    })
}

fn orders(raw: &RawAnswers) -> Result<Orders, Invalid> {
    let default = order("answers.order", &raw.order)?;
    if default == OrderPolicy::Weighted {
        let remedy = "give cyclic, random or fixed, and weights to single sets in [[answers.set]]";
        return Err(Invalid::new("answers.order", &raw.order, "weights belong to single sets", remedy));
    }
    let mut orders = Orders::all(default);
    for set in &raw.set {
        let owner = Name::from_text(set.name.as_bytes(), Some(&Name::root())).map_err(|error| {
            Invalid::new("answers.set.name", &set.name, error.to_string(), "give the full name of the set")
        })?;
        let order = set_order(set)?;
        for record_type in set_types(set)? {
            if orders.name(owner.clone(), record_type, order.clone()).is_some() {
                let what = format!("{owner} {record_type} is named twice");
                return Err(Invalid::new("answers.set.name", &set.name, what, "name each set once"));
            }
        }
    }
    Ok(orders)
}

fn set_types(set: &RawSet) -> Result<Vec<RecordType>, Invalid> {
    match (set.r#type.as_str(), RecordType::from_text(set.r#type.as_bytes())) {
        ("", _) => Ok(vec![RecordType::A, RecordType::AAAA]),
        (_, Some(record_type)) if record_type.is_address() => Ok(vec![record_type]),
        (other, _) => Err(Invalid::new(
            "answers.set.type",
            other,
            "only sets of addresses are ordered",
            "give A or AAAA, or nothing for both",
        )),
    }
}

fn set_order(set: &RawSet) -> Result<SetOrder, Invalid> {
    let policy = order("answers.set.order", &set.order)?;
    if policy != OrderPolicy::Weighted && !set.weights.is_empty() {
        let what = "weights go with the order weighted alone";
        return Err(Invalid::new("answers.set.weights", &set.name, what, "set order = \"weighted\""));
    }
    let most = within("answers.set.answers_max", u64::from(set.answers_max), 0, u64::from(ANSWERS_MAX))?;
    let weight = |(text, weight): (&String, &u32)| {
        let read = text.parse().map(|ip: IpAddr| (ip, *weight));
        read.map_err(|error| {
            Invalid::new("answers.set.weights", text, error.to_string(), "give each weight to an IP address")
        })
    };
    let weights = set.weights.iter().map(weight).collect::<Result<_, _>>()?;
    let answers_max = Some(narrow(most)).filter(|most| *most > 0);
    Ok(SetOrder { policy, answers_max, weights })
}

fn order(key: &str, text: &str) -> Result<OrderPolicy, Invalid> {
    match text {
        "cyclic" => Ok(OrderPolicy::Cyclic),
        "random" => Ok(OrderPolicy::Random),
        "fixed" => Ok(OrderPolicy::Fixed),
        "weighted" => Ok(OrderPolicy::Weighted),
        other => Err(Invalid::new(key, other, "not a known order", "give cyclic, random, fixed or weighted")),
    }
}

fn list<T: FromStr<Err: Display>>(key: &str, texts: &[String], remedy: &str) -> Result<Vec<T>, Invalid> {
    let read = |text: &String| {
        text.parse().map_err(|error: T::Err| Invalid::new(key, text, error.to_string(), remedy))
    };
    texts.iter().map(read).collect()
}

fn within(key: &str, value: u64, min: u64, max: u64) -> Result<u64, Invalid> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Invalid::new(key, value, format!("not from {min} to {max}"), "choose a value in that range"))
}

fn size(key: &str, value: usize, min: usize, max: usize) -> Result<usize, Invalid> {
    within(key, value as u64, min as u64, max as u64)?;
    Ok(value)
}

fn narrow(value: u64) -> u16 {
    u16::try_from(value).expect("the range before it ends below")
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::config::{parse_text, parse_text_with};

    #[test]
    fn the_shipped_file_is_valid() {
        let config: Config = parse_text("dns", include_str!("../../deploy/config/dns.toml")).unwrap();
        assert_eq!(config.listen, ["0.0.0.0:53".parse().unwrap()]);
        assert_eq!(config.zones.orders, Orders::all(OrderPolicy::Cyclic));
        assert_eq!(config.tcp.unlimited_clients, ["198.18.10.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn native_runs_override_by_environment() {
        let environment =
            [("DNS_SERVER__LISTEN", "[\"127.64.1.2:1053\"]"), ("DNS_ZONES__DIRECTORY", "/srv/zones")];
        let config: Config = parse_text_with("dns", "", &environment).unwrap();
        assert_eq!(config.listen, ["127.64.1.2:1053".parse().unwrap()]);
        assert_eq!(config.zones.directory, PathBuf::from("/srv/zones"));
    }

    #[track_caller]
    fn check_refused(text: &str, part: &str) {
        let error = parse_text::<Config>("dns", text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused_by_key() {
        check_refused("[server]\nlisten = []", "server.listen: got []: no address");
        check_refused("[server]\nlisten = [\"localhost\"]", "server.listen: got localhost");
        check_refused("[answers]\norder = \"sorted\"", "answers.order: got sorted: not a known order");
        check_refused(
            "[answers]\norder = \"weighted\"",
            "answers.order: got weighted: weights belong to single",
        );
        let set = |more: &str| format!("[[answers.set]]\nname = \"w.z\"\n{more}");
        check_refused(&set(""), "answers.set.order: got : not a known order");
        check_refused(
            &set("order = \"fixed\"\ntype = \"MX\""),
            "answers.set.type: got MX: only sets of addresses",
        );
        check_refused(
            &set("order = \"fixed\"\nweights = { \"192.0.2.1\" = 2 }"),
            "answers.set.weights: got w.z: weights go with",
        );
        check_refused(
            &set("order = \"weighted\"\nweights = { \"here\" = 2 }"),
            "answers.set.weights: got here: invalid IP address",
        );
        let twice = format!("{0}\n{0}", set("order = \"fixed\""));
        check_refused(&twice, "answers.set.name: got w.z: w.z. A is named twice");
        check_refused(
            "[answers]\nudp_payload_bytes_max = 511",
            "answers.udp_payload_bytes_max: got 511: not from 512 to 4096",
        );
        check_refused("[tcp]\nidle_timeout_ms = 0", "tcp.idle_timeout_ms: got 0");
        check_refused("[tcp]\nunlimited_clients = [\"10.0.0.0/8\"]", "tcp.unlimited_clients: got 10.0.0.0/8");
        check_refused("[tcp]\nnope = 1", "nope");
        check_refused(
            "[rate_limit]\nipv4_prefix_bits = 33",
            "rate_limit.ipv4_prefix_bits: got 33: not from 1 to 32",
        );
        check_refused(
            "[cookies]\nsecrets_file = \"/nowhere\"",
            "cookies.secrets_file: got /nowhere: No such file",
        );
        let long = format!("[identity]\nnsid = \"{}\"", "x".repeat(65));
        check_refused(&long, "longer than 64 octets");
    }
}
