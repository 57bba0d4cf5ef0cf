//! Our own five programs as processes: the shipped configuration, overridden by environment variables only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use super::Published;
use super::home::Home;
use crate::layout;
use crate::process::Spec;
use crate::secrets;
use crate::topology::{DATABASES, Network, SITE, Sessions, Sticky, Topology};

/// Variables of one program, by `SECTION__KEY`.
struct Settings {
    prefix: &'static str,
    variables: BTreeMap<String, String>,
}

impl Settings {
    fn new(prefix: &'static str) -> Self {
        Self { prefix, variables: BTreeMap::new() }
    }

    fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.variables.insert(format!("{}_{key}", self.prefix), value.to_string());
        self
    }

    fn overridden(
        self,
        home: &Home,
        network: Network,
        topology: &Topology,
        program: &str,
        name: &str,
    ) -> Self {
        let secrets = home.secrets().display().to_string();
        let wanted = topology.overrides.iter().filter(|it| it.is_for(program, name));
        wanted.fold(self, |settings, it| {
            let value = it.value.replace("{net}", &network.prefix()).replace("{secrets}", &secrets);
            settings.set(it.key, value)
        })
    }
}

fn json(values: &[String]) -> String {
    serde_json::Value::from(values).to_string()
}

fn spec(home: &Home, name: &str, program: &str, admin: SocketAddr, settings: Settings) -> Result<Spec> {
    let token = home.secrets().join(secrets::ADMIN_TOKEN);
    let settings = settings
        .set("SERVICE__INSTANCE", name)
        .set("ADMIN__LISTEN", admin)
        .set("ADMIN__TOKEN_FILE", token.display())
        .set("LOG__FORMAT", "pretty");
    let ready = home.ready_file(name);
    let mut argv = vec![layout::program(program)?.display().to_string()];
    let file = config_file(program);
    if file.is_file() {
        argv.extend(["--config".to_owned(), file.display().to_string()]);
    }
    argv.extend(["--ready-file".to_owned(), ready.display().to_string()]);
    let mut variables = settings.variables;
    // Logs go to files: no escape sequences for colours.
    variables.insert("NO_COLOR".to_owned(), "1".to_owned());
    let mut spec = home.spec(name, argv, variables);
    spec.ready_file = Some(ready);
    Ok(spec)
}

fn config_file(program: &str) -> PathBuf {
    layout::repository().join("deploy/config").join(format!("{program}.toml"))
}

pub(super) fn dns(home: &Home, network: Network, topology: &Topology, published: &Published) -> Result<Spec> {
    let mut listen = vec![network.dns().to_string()];
    listen.extend(published.dns.map(|address| address.to_string()));
    let settings = Settings::new("DNS")
        .set("SERVER__LISTEN", json(&listen))
        .set("ZONES__DIRECTORY", home.zones().display())
        .set("HEALTH__PORT", network.lb(1).port())
        .set("STEERING__ORDERS_FILE", home.folder("dns-orders.json").display())
        .overridden(home, network, topology, "dns", "dns");
    spec(home, "dns", "dns", network.admin(network.dns()), settings)
}

pub(super) fn lb(home: &Home, network: Network, topology: &Topology, n: u8) -> Result<Spec> {
    let sticky = match topology.sticky {
        Sticky::On => "cookie",
        Sticky::Table => "table",
        Sticky::Off => "off",
    };
    let certificate = home.secrets().join(secrets::SITE_CERTIFICATE);
    let settings = Settings::new("LB")
        .set("SERVER__LISTEN", network.lb(n))
        .set("TLS__LISTEN", json(&[network.secure_lb(n).to_string()]))
        .set("TLS__CERTIFICATES", serde_json::json!([{ "chain_file": certificate }]))
        .set("DISCOVERY__NAME", format!("app.{SITE}"))
        .set("DISCOVERY__PORT", network.app(1).port())
        .set("DISCOVERY__RESOLVER", network.dns())
        .set("STICKY__MODE", sticky)
        .set("HANDOVER__SOCKET", home.folder("handover").join(format!("lb-{n}")).display())
        .set("STICKY__KEYS_FILE", home.secrets().join("sticky.keys.toml").display());
    let name = format!("lb-{n}");
    let settings = settings.overridden(home, network, topology, "lb", &name);
    spec(home, &name, "lb", network.admin(network.lb(n)), settings)
}

pub(super) fn app(home: &Home, network: Network, topology: &Topology, n: u8) -> Result<Spec> {
    let name = format!("app-{n}");
    let settings = app_settings(home, network, topology)
        .set("SERVER__LISTEN", network.app(n))
        .overridden(home, network, topology, "app", &name);
    spec(home, &name, "app", network.admin(network.app(n)), settings)
}

/// The one-shot run that makes the schema and the catalogue, straight at the primary.
pub(super) fn migrate(home: &Home, network: Network, topology: &Topology) -> Result<Spec> {
    let admin = SocketAddr::new(network.app(1).ip(), 0);
    let mut spec = spec(home, "migrate", "app", admin, app_settings(home, network, topology))?;
    // A one-shot run says nothing in a ready file; its exit status is the answer.
    spec.ready_file = None;
    let ready = spec.argv.iter().position(|argument| argument == "--ready-file").unwrap_or(spec.argv.len());
    spec.argv.truncate(ready);
    spec.argv.push("migrate".to_owned());
    Ok(spec)
}

fn app_settings(home: &Home, network: Network, topology: &Topology) -> Settings {
    let secret = |name: &str| home.secrets().join(name).display().to_string();
    let backend = match topology.sessions {
        Sessions::Memory => "memory",
        Sessions::Redis => "redis",
    };
    let nodes: Vec<String> = (1..=DATABASES).map(|n| network.database(n).to_string()).collect();
    Settings::new("APP")
        .set("SESSIONS__BACKEND", backend)
        .set("SESSIONS__REDIS_URL", format!("redis://{}", network.redis_session()))
        .set("SESSIONS__REDIS_PASSWORD_FILE", secret("redis-session.password"))
        .set("CACHE__REDIS_URL", format!("redis://{}", network.redis_cache()))
        .set("CACHE__REDIS_PASSWORD_FILE", secret("redis-cache.password"))
        .set("DATABASE__DATA_DSN", format!("postgres://app@{}/fitness", network.db_proxy()))
        .set("DATABASE__PASSWORD_FILE", secret("postgres-app.password"))
        .set("MIGRATE__DSN", format!("postgres://app@{}/fitness", nodes.join(",")))
        .set("SECURITY__SIGNING_KEYS_FILE", secret("signing.keys.toml"))
}

pub(super) fn db_proxy(home: &Home, network: Network) -> Result<Spec> {
    let nodes: Vec<String> = (1..=DATABASES).map(|n| format!("pg-{n}={}", network.database(n))).collect();
    let settings = Settings::new("DB_PROXY")
        .set("SERVER__LISTEN", network.db_proxy())
        .set("CLUSTER__NODES", json(&nodes))
        .set("CLUSTER__DATABASE", "fitness")
        .set("CLUSTER__PROBE_USER", "probe")
        .set("AUTH__USERS", json(&["app".to_owned()]))
        .set("AUTH__PASSWORD_DIRECTORY", home.secrets().display());
    spec(home, "db-proxy", "db-proxy", network.admin(network.db_proxy()), settings)
}
