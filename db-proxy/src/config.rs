//! Configuration: what the file says (`Raw`), and what is meant (`Config`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::{Invalid, Secret, Settings};

/// The file's shape. Every key is in `deploy/config/db-proxy.toml` with its default and its unit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    server: RawServer,
    cluster: RawCluster,
    auth: RawAuth,
    pool: RawPool,
    routing: RawRouting,
    statements: RawStatements,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawServer {
    listen: String,
    clients_max: usize,
    login_timeout_ms: u64,
    client_idle_timeout_ms: u64,
    transaction_idle_timeout_ms: u64,
    client_write_timeout_ms: u64,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:6432".to_owned(),
            clients_max: 2000,
            login_timeout_ms: 10_000,
            client_idle_timeout_ms: 0,
            transaction_idle_timeout_ms: 60_000,
            client_write_timeout_ms: 60_000,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCluster {
    nodes: Vec<String>,
    database: String,
    probe_user: String,
    probe_interval_ms: u64,
    probe_timeout_ms: u64,
    lost_after_failures: u32,
}

impl Default for RawCluster {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            database: "fitness".to_owned(),
            probe_user: "probe".to_owned(),
            probe_interval_ms: 250,
            probe_timeout_ms: 1000,
            lost_after_failures: 3,
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAuth {
    users: Vec<String>,
    password_directory: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPool {
    servers_per_node_max: usize,
    waiting_max: usize,
    query_wait_timeout_ms: u64,
    connect_timeout_ms: u64,
    server_idle_timeout_ms: u64,
    server_lifetime_ms: u64,
}

impl Default for RawPool {
    fn default() -> Self {
        Self {
            servers_per_node_max: 40,
            waiting_max: 2000,
            query_wait_timeout_ms: 60_000,
            connect_timeout_ms: 1000,
            server_idle_timeout_ms: 600_000,
            server_lifetime_ms: 3_600_000,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRouting {
    split: bool,
    read_functions: Vec<String>,
    replica_lag_bytes_max: u64,
    classify_bytes_max: usize,
    verdict_cache_bytes_max: usize,
    batch_bytes_max: usize,
    attempts_max: u32,
}

impl Default for RawRouting {
    fn default() -> Self {
        Self {
            split: true,
            read_functions: Vec::new(),
            replica_lag_bytes_max: 16 * 1024 * 1024,
            classify_bytes_max: 64 * 1024,
            verdict_cache_bytes_max: 4 * 1024 * 1024,
            batch_bytes_max: 64 * 1024,
            attempts_max: 4,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawStatements {
    per_client_max: usize,
    per_client_bytes_max: usize,
    per_server_max: usize,
    bytes_max: usize,
}

impl Default for RawStatements {
    fn default() -> Self {
        Self {
            per_client_max: 2000,
            per_client_bytes_max: 16 * 1024 * 1024,
            per_server_max: 500,
            bytes_max: 1024 * 1024,
        }
    }
}

/// One Postgres node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As in logs and metrics.
    pub name: String,
    /// `host:port`; resolved at every connect.
    pub address: String,
}

/// Whom to let in, and how to log in to Postgres as them.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// By user name; the probe user is not among them.
    pub users: BTreeMap<String, Secret>,
    /// Of the probe user.
    pub probe: Secret,
}

/// The settings in use.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are the keys of the file, documented there")]
pub struct Config {
    pub listen: SocketAddr,
    pub clients_max: usize,
    pub login_timeout: Duration,
    pub client_idle_timeout: Option<Duration>,
    pub transaction_idle_timeout: Option<Duration>,
    pub client_write_timeout: Duration,
    pub nodes: Vec<Node>,
    pub database: String,
    pub probe_user: String,
    pub probe_interval: Duration,
    pub probe_timeout: Duration,
    pub lost_after_failures: u32,
    pub credentials: Credentials,
    pub servers_per_node_max: usize,
    pub waiting_max: usize,
    pub query_wait_timeout: Duration,
    pub connect_timeout: Duration,
    pub server_idle_timeout: Duration,
    pub server_lifetime: Duration,
    pub split: bool,
    pub read_functions: Vec<String>,
    pub replica_lag_bytes_max: u64,
    pub classify_bytes_max: usize,
    pub verdict_cache_bytes_max: usize,
    pub batch_bytes_max: usize,
    pub attempts_max: u32,
    pub statements_per_client_max: usize,
    pub statement_bytes_per_client_max: usize,
    pub statements_per_server_max: usize,
    pub statement_bytes_max: usize,
}

impl Settings for Config {
    type Raw = Raw;

    fn parse(raw: Raw) -> Result<Self, Invalid> {
        let Raw { server, cluster, auth, pool, routing, statements } = raw;
        check_limits(&server, &cluster, &pool, &routing, &statements)?;
        Ok(Self {
            listen: server.listen.parse().map_err(|_| {
                Invalid::new(
                    "server.listen",
                    &server.listen,
                    "not an address and a port",
                    "write 0.0.0.0:6432",
                )
            })?,
            clients_max: server.clients_max,
            login_timeout: ms(server.login_timeout_ms),
            client_idle_timeout: some_ms(server.client_idle_timeout_ms),
            transaction_idle_timeout: some_ms(server.transaction_idle_timeout_ms),
            client_write_timeout: ms(server.client_write_timeout_ms),
            nodes: nodes(&cluster.nodes)?,
            credentials: credentials(&auth, &cluster.probe_user)?,
            database: cluster.database,
            probe_user: cluster.probe_user,
            probe_interval: ms(cluster.probe_interval_ms),
            probe_timeout: ms(cluster.probe_timeout_ms),
            lost_after_failures: cluster.lost_after_failures,
            servers_per_node_max: pool.servers_per_node_max,
            waiting_max: pool.waiting_max,
            query_wait_timeout: ms(pool.query_wait_timeout_ms),
            connect_timeout: ms(pool.connect_timeout_ms),
            server_idle_timeout: ms(pool.server_idle_timeout_ms),
            server_lifetime: ms(pool.server_lifetime_ms),
            split: routing.split,
            read_functions: routing.read_functions,
            replica_lag_bytes_max: routing.replica_lag_bytes_max,
            classify_bytes_max: routing.classify_bytes_max,
            verdict_cache_bytes_max: routing.verdict_cache_bytes_max,
            batch_bytes_max: routing.batch_bytes_max,
            attempts_max: routing.attempts_max,
            statements_per_client_max: statements.per_client_max,
            statement_bytes_per_client_max: statements.per_client_bytes_max,
            statements_per_server_max: statements.per_server_max,
            statement_bytes_max: statements.bytes_max,
        })
    }
}

fn check_limits(
    server: &RawServer,
    cluster: &RawCluster,
    pool: &RawPool,
    routing: &RawRouting,
    statements: &RawStatements,
) -> Result<(), Invalid> {
    let at_least_one = [
        ("server.clients_max", server.clients_max as u64),
        ("server.login_timeout_ms", server.login_timeout_ms),
        ("server.client_write_timeout_ms", server.client_write_timeout_ms),
        ("cluster.probe_interval_ms", cluster.probe_interval_ms),
        ("cluster.probe_timeout_ms", cluster.probe_timeout_ms),
        ("cluster.lost_after_failures", u64::from(cluster.lost_after_failures)),
        ("pool.servers_per_node_max", pool.servers_per_node_max as u64),
        ("pool.waiting_max", pool.waiting_max as u64),
        ("pool.query_wait_timeout_ms", pool.query_wait_timeout_ms),
        ("pool.connect_timeout_ms", pool.connect_timeout_ms),
        ("pool.server_idle_timeout_ms", pool.server_idle_timeout_ms),
        ("pool.server_lifetime_ms", pool.server_lifetime_ms),
        ("routing.attempts_max", u64::from(routing.attempts_max)),
        ("statements.per_client_max", statements.per_client_max as u64),
        ("statements.per_server_max", statements.per_server_max as u64),
    ];
    for (key, value) in at_least_one {
        if value == 0 {
            return Err(Invalid::new(key, value, "must be at least 1", "leave it out to use the default"));
        }
    }
    let at_least_4096 = [
        ("routing.batch_bytes_max", routing.batch_bytes_max),
        ("routing.verdict_cache_bytes_max", routing.verdict_cache_bytes_max),
        ("statements.bytes_max", statements.bytes_max),
        ("statements.per_client_bytes_max", statements.per_client_bytes_max),
    ];
    for (key, value) in at_least_4096 {
        if value < 4096 {
            return Err(Invalid::new(
                key,
                value,
                "must be at least 4096 bytes",
                "leave it out to use the default",
            ));
        }
    }
    Ok(())
}

fn nodes(texts: &[String]) -> Result<Vec<Node>, Invalid> {
    let wrong = |text: &str, reason: &str| {
        Invalid::new("cluster.nodes", text, reason, "write [\"pg-1=127.0.0.1:5432\", ...]")
    };
    let mut nodes = Vec::<Node>::new();
    for text in texts {
        let (name, address) =
            text.split_once('=').ok_or_else(|| wrong(text, "no '=' between name and address"))?;
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() || name.is_empty() {
            return Err(wrong(text, "not NAME=HOST:PORT"));
        }
        if nodes.iter().any(|node| node.name == name || node.address == address) {
            return Err(wrong(text, "the same name or address twice"));
        }
        nodes.push(Node { name: name.to_owned(), address: address.to_owned() });
    }
    match nodes.len() {
        0 => Err(wrong("[]", "no node")),
        // Sets of nodes are kept as bits of one word.
        1..=64 => Ok(nodes),
        many => Err(wrong(&many.to_string(), "more than 64 nodes")),
    }
}

fn credentials(auth: &RawAuth, probe_user: &str) -> Result<Credentials, Invalid> {
    let password = |user: &str| -> Result<Secret, Invalid> {
        // The name becomes part of a path.
        if user.is_empty() || user.contains(['/', '\0']) {
            return Err(Invalid::new("auth.users", user, "not a user name", "use a role's name without '/'"));
        }
        let file = auth.password_directory.join(format!("postgres-{user}.password"));
        service_kit::secret::resolve("auth.password_directory", &Secret::default(), Path::new(&file))
    };
    let users = auth.users.iter().map(|user| Ok((user.clone(), password(user)?)));
    Ok(Credentials { users: users.collect::<Result<_, Invalid>>()?, probe: password(probe_user)? })
}

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn some_ms(value: u64) -> Option<Duration> {
    (value > 0).then(|| ms(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::config::parse_text_with;

    fn secrets() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for user in ["app", "probe"] {
            std::fs::write(folder.path().join(format!("postgres-{user}.password")), format!("{user}-word\n"))
                .unwrap();
        }
        folder
    }

    fn parse(text: &str, more: &[(&str, &str)]) -> Result<Config, String> {
        let folder = secrets();
        let directory = folder.path().to_str().unwrap();
        let mut variables = vec![("DB_PROXY_AUTH__PASSWORD_DIRECTORY", directory)];
        variables.extend(more);
        parse_text_with::<Config>("db-proxy", text, &variables).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_file_is_right_and_says_the_defaults() {
        let text = include_str!("../../deploy/config/db-proxy.toml");
        let shipped = parse(text, &[]).unwrap();
        assert_eq!(shipped.nodes.len(), 3);
        assert!(shipped.credentials.users.contains_key("app"));
        let minimal = parse("", &[("DB_PROXY_CLUSTER__NODES", r#"["a=h:1"]"#)]).unwrap();
        assert_eq!(shipped.query_wait_timeout, minimal.query_wait_timeout);
        assert_eq!(shipped.servers_per_node_max, minimal.servers_per_node_max);
        assert_eq!(shipped.batch_bytes_max, minimal.batch_bytes_max);
    }

    #[track_caller]
    fn check_refused(variable: &str, value: &str, expected: &str) {
        let nodes = ("DB_PROXY_CLUSTER__NODES", r#"["a=h:1"]"#);
        let error = parse("", &[nodes, (variable, value)]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn wrong_values_name_their_key() {
        check_refused("DB_PROXY_SERVER__LISTEN", "nowhere", "server.listen");
        check_refused("DB_PROXY_CLUSTER__NODES", "[]", "no node");
        check_refused("DB_PROXY_CLUSTER__NODES", r#"["a"]"#, "no '='");
        check_refused("DB_PROXY_CLUSTER__NODES", r#"["a=h"]"#, "NAME=HOST:PORT");
        check_refused("DB_PROXY_CLUSTER__NODES", r#"["a=h:1","a=h:2"]"#, "twice");
        check_refused("DB_PROXY_AUTH__USERS", r#"["nobody"]"#, "postgres-nobody.password");
        check_refused("DB_PROXY_AUTH__USERS", r#"["../x"]"#, "not a user name");
        check_refused("DB_PROXY_SERVER__CLIENTS_MAX", "0", "at least 1");
        check_refused("DB_PROXY_ROUTING__BATCH_BYTES_MAX", "10", "4096");
    }
}
