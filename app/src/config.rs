//! What the app can be told: the TOML of `deploy/config/app.toml`, parsed once into types that cannot be wrong.

use std::net::SocketAddr;
use std::time::Duration;

use service_kit::{Invalid, KeyRing, Secret, secret};
use tokio_rustls::TlsAcceptor;

use crate::dsn::Dsn;
use crate::tls;

mod raw;

use raw::{Raw, RawCache, RawDatabase, RawMigrate, RawSecurity, RawServer, RawSessions, RawSite, RawTls};

/// One line.
const NOTICE_BYTES_MAX: usize = 500;

/// Everything the app works with.
#[derive(Debug)]
pub struct Settings {
    pub(crate) server: Server,
    pub(crate) tls: Option<Tls>,
    pub(crate) site: Site,
    pub(crate) sessions: Sessions,
    pub(crate) cache: Cache,
    pub(crate) database: Database,
    pub(crate) security: Security,
    pub(crate) migrate: Migrate,
}

/// The listener and the limits on what clients may ask.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    /// Open connections; further ones wait in the kernel's queue.
    pub(crate) connections_max: usize,
    /// Requests in flight; further ones are shed with 503.
    pub(crate) requests_max: usize,
    /// From the first byte of a request to the first byte of its answer.
    pub(crate) request_timeout: Duration,
    /// For the headers of one request to arrive; also how long an idle connection is kept.
    pub(crate) header_timeout: Duration,
    pub(crate) header_bytes_max: usize,
    pub(crate) body_bytes_max: usize,
}

/// A listener of its own for HTTPS.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) listen: SocketAddr,
    pub(crate) acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// What is shown beside what the binary has in it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// A line at the foot of every page; empty: none. Part of the content, so it has to be the same on every instance.
    pub(crate) notice: String,
}

#[derive(Debug, Clone)]
pub(crate) enum SessionBackend {
    /// In this process: gone with it, and unknown to its siblings.
    Memory,
    Redis {
        url: String,
        password: Secret,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    pub(crate) backend: SessionBackend,
    /// Without a request, a session ends after this.
    pub(crate) idle_timeout: Duration,
    /// Whatever happens, a session ends after this.
    pub(crate) absolute_timeout: Duration,
    /// For one call to the store.
    pub(crate) deadline: Duration,
    /// Sessions of which this process keeps a copy beside the shared store.
    pub(crate) near_sessions_max: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Cache {
    /// `None`: no cache, every search goes to the database.
    pub(crate) redis: Option<(String, Secret)>,
    /// How long an answer counts as fresh.
    pub(crate) ttl: Duration,
    /// How much longer it is kept, to be given when the database fails.
    pub(crate) stale: Duration,
    /// For one call to the cache.
    pub(crate) deadline: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) data: Dsn,
    pub(crate) search: Dsn,
    pub(crate) pool: PoolLimits,
}

/// Limits of one pool of database connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    pub(crate) connections_max: u32,
    pub(crate) connect_timeout: Duration,
    /// For a free connection.
    pub(crate) acquire_timeout: Duration,
    /// For one piece of database work: a query, or a transaction from BEGIN to COMMIT.
    pub(crate) query_timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Security {
    /// Signs the forms. `None`: a random key of this process, so that forms work on this instance only.
    pub(crate) signing_keys: Option<KeyRing>,
    pub(crate) password_hashes_at_once: usize,
    pub(crate) password_waiters_max: usize,
    pub(crate) password_wait: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Migrate {
    pub(crate) data: Dsn,
    pub(crate) search: Dsn,
    /// How long to wait for a primary before giving up.
    pub(crate) wait: Duration,
    /// Exercises made by the generator, on top of the catalogue.
    pub(crate) generated_exercises: usize,
}

impl service_kit::Settings for Settings {
    type Raw = Raw;

    fn parse(raw: Raw) -> Result<Self, Invalid> {
        let password =
            secret::resolve("database.password", &raw.database.password, &raw.database.password_file)?;
        let database = database(&raw.database, &password)?;
        Ok(Self {
            server: server(&raw.server)?,
            tls: tls(&raw.tls)?,
            site: site(raw.site)?,
            sessions: sessions(&raw.sessions)?,
            cache: cache(&raw.cache)?,
            security: security(&raw.security)?,
            migrate: migrate(&raw.migrate, &database, &password)?,
            database,
        })
    }
}

fn server(raw: &RawServer) -> Result<Server, Invalid> {
    Ok(Server {
        listen: raw.listen,
        connections_max: between("server.connections_max", raw.connections_max, 1, 1_000_000)?,
        requests_max: between("server.requests_max", raw.requests_max, 1, 1_000_000)?,
        request_timeout: duration("server.request_timeout_ms", raw.request_timeout_ms)?,
        header_timeout: duration("server.header_timeout_ms", raw.header_timeout_ms)?,
        header_bytes_max: between("server.header_bytes_max", raw.header_bytes_max, 8192, 1 << 20)?,
        body_bytes_max: between("server.body_bytes_max", raw.body_bytes_max, 1024, 16 << 20)?,
    })
}

fn tls(raw: &RawTls) -> Result<Option<Tls>, Invalid> {
    if raw.listen.is_empty() {
        return Ok(None);
    }
    let listen = raw.listen.parse().map_err(|_| {
        Invalid::new("tls.listen", &raw.listen, "not an address", "write ADDRESS:PORT, or nothing for no TLS")
    })?;
    let acceptor = tls::acceptor(&raw.certificate_file).map_err(|reason| {
        let remedy = "give one PEM file with the certificate, those that signed it, and its key";
        Invalid::new("tls.certificate_file", raw.certificate_file.display(), reason, remedy)
    })?;
    Ok(Some(Tls { listen, acceptor }))
}

fn site(raw: RawSite) -> Result<Site, Invalid> {
    if raw.notice.len() > NOTICE_BYTES_MAX {
        let reason = format!("longer than {NOTICE_BYTES_MAX} bytes");
        return Err(Invalid::new("site.notice", raw.notice, reason, "write one line"));
    }
    Ok(Site { notice: raw.notice })
}

fn sessions(raw: &RawSessions) -> Result<Sessions, Invalid> {
    let password = secret::resolve("sessions.redis_password", &raw.redis_password, &raw.redis_password_file)?;
    let backend = match raw.backend.as_str() {
        "memory" => SessionBackend::Memory,
        "redis" => SessionBackend::Redis { url: redis_url("sessions.redis_url", &raw.redis_url)?, password },
        other => {
            return Err(Invalid::new("sessions.backend", other, "not a backend", "write memory or redis"));
        }
    };
    Ok(Sessions {
        backend,
        idle_timeout: duration("sessions.idle_timeout_ms", raw.idle_timeout_ms)?,
        absolute_timeout: duration("sessions.absolute_timeout_ms", raw.absolute_timeout_ms)?,
        deadline: duration("sessions.deadline_ms", raw.deadline_ms)?,
        near_sessions_max: between("sessions.near_sessions_max", raw.near_sessions_max, 0, 1_000_000)?,
    })
}

fn cache(raw: &RawCache) -> Result<Cache, Invalid> {
    let password = secret::resolve("cache.redis_password", &raw.redis_password, &raw.redis_password_file)?;
    let redis = match raw.redis_url.as_str() {
        "" => None,
        url => Some((redis_url("cache.redis_url", url)?, password)),
    };
    Ok(Cache {
        redis,
        ttl: duration("cache.ttl_ms", raw.ttl_ms)?,
        stale: Duration::from_millis(raw.stale_ms),
        deadline: duration("cache.deadline_ms", raw.deadline_ms)?,
    })
}

fn database(raw: &RawDatabase, password: &Secret) -> Result<Database, Invalid> {
    let data = one_host("database.data_dsn", dsn("database.data_dsn", &raw.data_dsn, password)?)?;
    let search = match raw.search_dsn.is_empty() {
        true => data.clone(),
        false => one_host("database.search_dsn", dsn("database.search_dsn", &raw.search_dsn, password)?)?,
    };
    let pool = PoolLimits {
        connections_max: between("database.connections_max", raw.connections_max, 1, 1000)?,
        connect_timeout: duration("database.connect_timeout_ms", raw.connect_timeout_ms)?,
        acquire_timeout: duration("database.acquire_timeout_ms", raw.acquire_timeout_ms)?,
        query_timeout: duration("database.query_timeout_ms", raw.query_timeout_ms)?,
    };
    Ok(Database { data, search, pool })
}

fn security(raw: &RawSecurity) -> Result<Security, Invalid> {
    let path = &raw.signing_keys_file;
    let signing_keys = match path.as_os_str().is_empty() {
        true => None,
        false => Some(KeyRing::load(path)?),
    };
    Ok(Security {
        signing_keys,
        password_hashes_at_once: between(
            "security.password_hashes_at_once",
            raw.password_hashes_at_once,
            1,
            64,
        )?,
        password_waiters_max: between("security.password_waiters_max", raw.password_waiters_max, 1, 10_000)?,
        password_wait: duration("security.password_wait_ms", raw.password_wait_ms)?,
    })
}

fn migrate(raw: &RawMigrate, database: &Database, password: &Secret) -> Result<Migrate, Invalid> {
    let own = secret::resolve("migrate.password", &raw.password, &raw.password_file)?;
    let password = if own.is_empty() { password } else { &own };
    let data = match raw.dsn.is_empty() {
        true => database.data.clone(),
        false => dsn("migrate.dsn", &raw.dsn, password)?,
    };
    // Without a direct way to the search database its vectors are where the data are, unless the app itself is told otherwise.
    let search = match (raw.search_dsn.is_empty(), database.search == database.data) {
        (false, _) => dsn("migrate.search_dsn", &raw.search_dsn, password)?,
        (true, true) => data.clone(),
        (true, false) => database.search.clone(),
    };
    Ok(Migrate {
        data,
        search,
        wait: duration("migrate.wait_ms", raw.wait_ms)?,
        generated_exercises: between("migrate.generated_exercises", raw.generated_exercises, 0, 10_000_000)?,
    })
}

fn dsn(key: &str, text: &str, password: &Secret) -> Result<Dsn, Invalid> {
    Dsn::parse(text, password).map_err(|reason| {
        Invalid::new(key, "[not shown]", reason, "write postgres://USER@HOST:PORT/DATABASE")
    })
}

fn one_host(key: &str, dsn: Dsn) -> Result<Dsn, Invalid> {
    match dsn.hosts.len() {
        1 => Ok(dsn),
        _ => Err(Invalid::new(
            key,
            dsn.to_string(),
            "the app connects to one name; only migrate.dsn may list hosts",
            "give the name of the database proxy",
        )),
    }
}

fn redis_url(key: &str, url: &str) -> Result<String, Invalid> {
    let host = url.strip_prefix("redis://").filter(|rest| !rest.is_empty() && !rest.contains('@'));
    match host {
        Some(_) => Ok(url.to_owned()),
        None => Err(Invalid::new(
            key,
            "[not shown]",
            "not the address of a Redis server without a password in it",
            "write redis://HOST:PORT and give the password by its own key or file",
        )),
    }
}

fn duration(key: &str, ms: u64) -> Result<Duration, Invalid> {
    between(key, ms, 1, 366 * 24 * 3_600_000).map(Duration::from_millis)
}

fn between<T: PartialOrd + std::fmt::Display + Copy>(
    key: &str,
    value: T,
    min: T,
    max: T,
) -> Result<T, Invalid> {
    match value >= min && value <= max {
        true => Ok(value),
        false => {
            Err(Invalid::new(key, value, format!("must be {min} to {max}"), "choose a value between the two"))
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::config::{parse_text, parse_text_with};

    use super::*;

    #[test]
    fn the_shipped_file_is_valid() {
        let text = include_str!("../../deploy/config/app.toml");
        // The secrets it names exist in a running stack only.
        let environment = [
            ("APP_SESSIONS__REDIS_PASSWORD_FILE", ""),
            ("APP_CACHE__REDIS_PASSWORD_FILE", ""),
            ("APP_DATABASE__PASSWORD_FILE", ""),
            ("APP_MIGRATE__PASSWORD_FILE", ""),
            ("APP_SECURITY__SIGNING_KEYS_FILE", ""),
        ];
        let settings = parse_text_with::<Settings>("app", text, &environment).unwrap();
        assert!(matches!(settings.sessions.backend, SessionBackend::Redis { .. }));
        assert_eq!(settings.cache.ttl, Duration::from_secs(900));
        assert!(settings.migrate.data.hosts.len() > 1);
    }

    #[track_caller]
    fn refused(text: &str, key: &str) {
        let error = parse_text::<Settings>("app", text).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }

    #[test]
    fn wrong_values_name_their_key() {
        refused("[sessions]\nbackend = 'file'", "sessions.backend");
        refused("[tls]\nlisten = 'here'", "tls.listen");
        refused("[tls]\nlisten = '127.0.0.1:3443'\ncertificate_file = '/nowhere'", "tls.certificate_file");
        refused("[sessions]\nbackend = 'redis'", "sessions.redis_url");
        refused("[cache]\nredis_url = 'redis://:hunter2@x'", "cache.redis_url");
        refused("[database]\ndata_dsn = 'postgres://app:hunter2@x/y'", "database.data_dsn");
        refused("[database]\ndata_dsn = 'mysql://x'", "database.data_dsn");
        refused("[database]\ndata_dsn = 'postgres://app@a,b/fitness'", "database.data_dsn");
        refused("[server]\nrequests_max = 0", "server.requests_max");
        refused("[security]\nsigning_keys_file = '/nonexistent'", "keys_file");
    }

    #[test]
    fn the_migration_goes_where_the_app_goes_unless_told() {
        let text = "[database]\ndata_dsn = 'postgres://app@db/x'\npassword = 'p'";
        let settings = parse_text::<Settings>("app", text).unwrap();
        assert_eq!(settings.migrate.data, settings.database.data);
        assert_eq!(settings.migrate.search, settings.database.data);
        assert_eq!(settings.migrate.data.password.expose(), "p");
    }
}
