//! What a stack is made of: which instances, how they are wired, and where they live. No process and no socket in here.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::lease;

/// The site that every stack serves.
pub const SITE: &str = "fitness.example.com";

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sessions {
    /// In each app's memory.
    Memory,
    /// In the shared session Redis.
    Redis,
}

/// Whether the balancers keep a client on one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// By a sealed cookie.
    On,
    /// By a table in each balancer's memory.
    Table,
    /// Not at all.
    Off,
}

/// One layer of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Name server.
    Dns,
    /// Load balancer.
    Lb,
    /// The site's app.
    App,
    /// Redis with the sessions.
    SessionStore,
    /// Redis with the cached answers.
    Cache,
    /// The database proxy.
    DbProxy,
    /// Postgres under Patroni.
    Database,
    /// etcd, which decides who is primary.
    Consensus,
    /// One-shot runs and tools; only in containers.
    Tool,
}

impl Tier {
    /// As printed and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Lb => "lb",
            Self::App => "app",
            Self::SessionStore => "session-store",
            Self::Cache => "cache",
            Self::DbProxy => "db-proxy",
            Self::Database => "database",
            Self::Consensus => "consensus",
            Self::Tool => "tool",
        }
    }

    /// The tier of an instance or a compose service, by its name.
    pub fn of(name: &str) -> Self {
        match name {
            "dns" => Self::Dns,
            "redis-session" => Self::SessionStore,
            "redis-cache" => Self::Cache,
            "db-proxy" => Self::DbProxy,
            "etcd" => Self::Consensus,
            _ if name.starts_with("lb") => Self::Lb,
            _ if name.starts_with("app") => Self::App,
            _ if name.starts_with("pg-") => Self::Database,
            _ => Self::Tool,
        }
    }
}

/// How many of what, and the switches that drills turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// App instances.
    pub apps: u8,
    /// Balancers.
    pub lbs: u8,
    /// Where sessions are kept.
    pub sessions: Sessions,
    /// Whether balancers keep a client on one app.
    pub sticky: Sticky,
    /// What a drill changes beside that, natively only; the others come after the switches above and win. Never in a state
    /// file: a stack that outlives its command has none.
    #[serde(skip)]
    pub overrides: &'static [Override],
}

impl Default for Topology {
    fn default() -> Self {
        Self { apps: 3, lbs: 2, sessions: Sessions::Redis, sticky: Sticky::Off, overrides: &[] }
    }
}

/// One key of one of our programs' configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// A program, for all of its instances (`lb`), or one instance (`lb-2`).
    pub whose: &'static str,
    /// As in the environment, without the program: `STICKY__MODE`.
    pub key: &'static str,
    /// Its value; `{net}` becomes the first three numbers of the stack's addresses, `{secrets}` its folder of secrets.
    pub value: &'static str,
}

impl Override {
    /// Changes `key` of `whose` to `value`.
    pub const fn new(whose: &'static str, key: &'static str, value: &'static str) -> Self {
        Self { whose, key, value }
    }

    /// Whether it is for this instance (`lb-2`) of this program (`lb`).
    pub(crate) fn is_for(&self, program: &str, instance: &str) -> bool {
        self.whose == program || self.whose == instance
    }
}

/// Postgres nodes in the `default` topology.
pub const DATABASES: u8 = 3;

/// The native addresses of a leased network: every host has one, and each program the same port everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network(pub u16);

impl Network {
    fn host(self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(lease::address(self.0, host).into(), port)
    }

    /// The first three numbers of all its addresses.
    pub fn prefix(self) -> String {
        let [a, b, c, _] = lease::address(self.0, 0).octets();
        format!("{a}.{b}.{c}")
    }

    /// Where the name server answers.
    pub fn dns(self) -> SocketAddr {
        self.host(2, 1053)
    }

    /// Balancer `n`, from 1.
    pub fn lb(self, n: u8) -> SocketAddr {
        self.host(10 + n, 8080)
    }

    /// Its port for TLS.
    pub fn secure_lb(self, n: u8) -> SocketAddr {
        self.host(10 + n, 8443)
    }

    /// App `n`, from 1.
    pub fn app(self, n: u8) -> SocketAddr {
        self.host(20 + n, 3000)
    }

    /// The Redis with the sessions.
    pub fn redis_session(self) -> SocketAddr {
        self.host(41, 6379)
    }

    /// The Redis with the cached answers.
    pub fn redis_cache(self) -> SocketAddr {
        self.host(42, 6379)
    }

    /// The database proxy.
    pub fn db_proxy(self) -> SocketAddr {
        self.host(51, 6432)
    }

    /// etcd's client port.
    pub fn etcd(self) -> SocketAddr {
        self.host(61, 2379)
    }

    /// etcd's port for its peers.
    pub fn etcd_peer(self) -> SocketAddr {
        self.host(61, 2380)
    }

    /// Postgres node `n`, from 1.
    pub fn database(self, n: u8) -> SocketAddr {
        self.host(70 + n, 5432)
    }

    /// Patroni's own interface on node `n`.
    pub fn patroni(self, n: u8) -> SocketAddr {
        self.host(70 + n, 8008)
    }

    /// The admin listener beside a program's own port.
    pub fn admin(self, program: SocketAddr) -> SocketAddr {
        let port = match program.port() {
            1053 => 9001,
            8080 => 9002,
            3000 => 9003,
            6432 => 9005,
            other => unreachable!("port {other} has no admin listener"),
        };
        SocketAddr::new(program.ip(), port)
    }
}

/// The zone that our name server loads: the balancers under the site's name, the apps under `app`, one address each.
pub fn zone(dns: Ipv4Addr, lbs: &[Ipv4Addr], apps: &[Ipv4Addr], serial: u32) -> String {
    let mut text = format!(
        "$ORIGIN {SITE}.\n$TTL 5\n@ IN SOA ns hostmaster {serial} 60 60 86400 5\n@ IN NS ns\nns IN A {dns}\n"
    );
    for lb in lbs {
        text.push_str(&format!("@ 5 IN A {lb}\n"));
    }
    for app in apps {
        text.push_str(&format!("app 1 IN A {app}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_by_name() {
        for (name, tier) in [
            ("dns", Tier::Dns),
            ("lb-2", Tier::Lb),
            ("app", Tier::App),
            ("app-7", Tier::App),
            ("pg-3", Tier::Database),
            ("migrate", Tier::Tool),
        ] {
            assert_eq!(Tier::of(name), tier, "{name}");
        }
    }

    #[test]
    fn hosts_as_in_the_design() {
        let network = Network(7);
        assert_eq!(network.dns().to_string(), "127.64.7.2:1053");
        assert_eq!(network.lb(2).to_string(), "127.64.7.12:8080");
        assert_eq!(network.app(3).to_string(), "127.64.7.23:3000");
        assert_eq!(network.database(1).to_string(), "127.64.7.71:5432");
        assert_eq!(network.admin(network.db_proxy()).to_string(), "127.64.7.51:9005");
        assert_eq!(network.prefix(), "127.64.7");
    }

    #[test]
    fn overrides_are_for_a_program_or_for_one_instance() {
        let check = |whose, instance, expected| {
            assert_eq!(
                Override::new(whose, "A__B", "1").is_for("lb", instance),
                expected,
                "{whose} {instance}"
            );
        };
        check("lb", "lb-2", true);
        check("lb-2", "lb-2", true);
        check("lb-1", "lb-2", false);
        check("app", "lb-2", false);
    }

    #[test]
    fn a_zone_lists_each_balancer_and_app() {
        let ip = |n| Ipv4Addr::new(127, 64, 1, n);
        let text = zone(ip(2), &[ip(11), ip(12)], &[ip(21)], 9);
        assert_eq!(text.matches("@ 5 IN A").count(), 2);
        assert!(text.contains("app 1 IN A 127.64.1.21\n") && text.contains(" hostmaster 9 "), "{text}");
    }
}
