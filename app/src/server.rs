//! Starts the app: builds its parts, binds, serves, and watches what it depends on.
//!
//! Nothing that it depends on has to be there: it listens at once and says in `/readyz` what it waits for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use base64::Engine as _;
use futures_util::FutureExt as _;
use http::HeaderValue;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::{Backoff, Context, Dependency, Error, KeyRing, Shutdown, Tasks};
use session_store::{Health, MemoryStore, Policy, RedisSettings, RedisStore, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::cache::Cache;
use crate::config::{Server, SessionBackend, Sessions, Settings, Tls};
use crate::content;
use crate::db::Database;
use crate::metrics::Metrics;
use crate::password::Passwords;
use crate::routes;
use crate::search::HashedNgrams;
use crate::searches::Searches;
use crate::state::{App, Shared};

/// From the first byte of a connection to the end of its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_BACKOFF_MIN: Duration = Duration::from_millis(100);
const CHECK_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Runs the app until it is told to stop.
pub async fn start(mut cx: Context<Settings>) -> Result<(), Error> {
    let listener = listen_on(cx.settings.server.listen)?;
    cx.bound("http", listener.local_addr()?);

    let metrics = Metrics::new();
    cx.metrics.register(|registry| metrics.register(registry));
    let app = build(&mut cx, metrics)?;
    watch(&cx, &app);

    let (limits, shutdown, connections) =
        (app.limits.clone(), cx.shutdown.clone(), app.metrics.connections.clone());
    let site = routes::site(app);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let entrance = Entrance { site, limits, shutdown, tasks: cx.tasks.clone(), places, connections };
    if let Some(Tls { listen, acceptor }) = cx.settings.tls.clone() {
        let listener = listen_on(listen)?;
        cx.bound("https", listener.local_addr()?);
        cx.tasks.spawn("https", entrance.clone().admit(listener, Some(acceptor)));
    }
    cx.tasks.spawn("http", entrance.admit(listener, None));
    cx.run().await
}

fn listen_on(address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = service_kit::net::bind_tcp(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    Ok(TcpListener::from_std(listener)?)
}

/// What every listener leads to.
#[derive(Clone)]
struct Entrance {
    site: Router,
    limits: Server,
    shutdown: Shutdown,
    tasks: Tasks,
    /// Open connections of all listeners.
    places: Arc<Semaphore>,
    connections: Gauge,
}

impl Entrance {
    /// Accepts until the app stops; with an acceptor, what comes is TLS.
    async fn admit(self, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
        loop {
            let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
            let (stream, peer) = tokio::select! {
                accepted = service_kit::net::accept(&listener) => accepted,
                () = self.shutdown.stopping().cancelled_owned() => return,
            };
            let guest = Guest { place, open: Open::new(self.connections.clone()) };
            let (site, limits, shutdown) = (self.site.clone(), self.limits.clone(), self.shutdown.clone());
            match acceptor.clone() {
                None => self.tasks.spawn("connection", converse(stream, peer, site, limits, shutdown, guest)),
                Some(acceptor) => self.tasks.spawn("connection", async move {
                    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => converse(stream, peer, site, limits, shutdown, guest).await,
                        Ok(Err(error)) => debug!(%peer, %error, "no TLS handshake"),
                        Err(_) => debug!(%peer, "no TLS handshake in time"),
                    }
                }),
            };
        }
    }
}

/// What one connection holds, given back when it ends.
struct Guest {
    #[expect(dead_code, reason = "held, never read")]
    place: OwnedSemaphorePermit,
    #[expect(dead_code, reason = "held, never read")]
    open: Open,
}

struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves one connection. While draining it answers what is in flight and then closes; at the drain deadline it is cut.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    site: Router,
    limits: Server,
    shutdown: Shutdown,
    guest: Guest,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max)
        .half_close(false);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(site));
    let mut connection = std::pin::pin!(connection);
    let mut asked_to_close = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%peer, %error, "connection ended with an error");
                }
                break;
            }
            () = shutdown.stopping().cancelled_owned(), if !asked_to_close => {
                asked_to_close = true;
                connection.as_mut().graceful_shutdown();
            }
            () = shutdown.aborted().cancelled_owned() => break,
        }
    }
    drop(guest);
}

fn build(cx: &mut Context<Settings>, metrics: Metrics) -> Result<Shared, Error> {
    let settings = &mut cx.settings;
    let pool = settings.database.pool;
    let data = Arc::new(Database::new(&settings.database.data, pool, metrics.clone()));
    let search = match settings.database.search == settings.database.data {
        true => data.clone(),
        false => Arc::new(Database::new(&settings.database.search, pool, metrics.clone())),
    };
    let cache = Cache::new(settings.cache.deadline, metrics.clone());
    let searches = Searches {
        data: data.clone(),
        search,
        embedder: Arc::new(HashedNgrams::new()),
        cache,
        ttl: settings.cache.ttl,
        stale: settings.cache.stale,
        metrics: metrics.clone(),
        flights: Mutex::default(),
    };
    let signing_keys = settings.security.signing_keys.take().unwrap_or_else(|| {
        warn!("security.signing_keys_file is not set: forms made here are refused by every other instance");
        random_ring()
    });
    cx.readiness.content(&content::hash(&settings.site.notice));
    let sessions = session_store(&settings.sessions)?;
    if let Store::Redis(store) = &sessions {
        let near = store.near_counts();
        cx.metrics.register(|registry| {
            let (hits, misses) = (near.hits, near.misses);
            registry.register(
                "app_session_near_hits",
                "Sessions whose copy in this process was the latest",
                hits,
            );
            registry.register(
                "app_session_near_misses",
                "Sessions that had to travel from the store",
                misses,
            );
        });
    }
    let readiness = cx.readiness.clone();
    Ok(Arc::new(App {
        instance: HeaderValue::from_str(&cx.identity.instance)
            .map_err(|_| format!("[service] instance {:?} cannot stand in a header", cx.identity.instance))?,
        notice: settings.site.notice.clone(),
        limits: settings.server.clone(),
        in_flight: Semaphore::new(settings.server.requests_max),
        sessions,
        session_deadline: settings.sessions.deadline,
        data,
        searches: Arc::new(searches),
        passwords: Passwords::new(&settings.security, metrics.clone()),
        signing_keys,
        ready: Arc::new(move || {
            let report = readiness.report();
            (report.http_status, report.body)
        }),
        metrics,
    }))
}

fn session_store(sessions: &Sessions) -> Result<Store, Error> {
    let policy = Policy {
        idle_timeout: sessions.idle_timeout,
        absolute_timeout: sessions.absolute_timeout,
        ..Policy::default()
    };
    Ok(match &sessions.backend {
        SessionBackend::Memory => Store::Memory(MemoryStore::new(policy)),
        SessionBackend::Redis { url, password } => {
            let settings = RedisSettings {
                url: url.clone(),
                password: Some(password.expose().to_owned()).filter(|password| !password.is_empty()),
                command_timeout: sessions.deadline,
                near_sessions_max: sessions.near_sessions_max,
                ..RedisSettings::default()
            };
            Store::Redis(RedisStore::start(&settings, policy)?)
        }
    })
}

pub(crate) fn random_ring() -> KeyRing {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    let secret = base64::engine::general_purpose::STANDARD.encode(bytes);
    KeyRing::from_toml(&format!("[[key]]\nid = 0\nstate = 'issue'\nsecret = '{secret}'"))
        .expect("this is a key ring")
}

/// Background tasks that tell readiness what is there. The cache is no dependency: nothing fails without it.
fn watch(cx: &Context<Settings>, app: &Shared) {
    let stop = cx.shutdown.stopping();
    for (name, database) in [("database", app.data.clone()), ("search", app.searches.search.clone())] {
        let dependency = cx.readiness.dependency(name);
        let (app, stop) = (app.clone(), stop.clone());
        cx.tasks.spawn(format!("{name}-check"), async move {
            tokio::select! {
                () = check(name, &app, &database, &dependency) => {}
                () = stop.cancelled_owned() => {}
            }
        });
    }
    let (dependency, mut health) = (cx.readiness.dependency("session-store"), app.sessions.health());
    let stopped = stop.clone();
    cx.tasks.spawn("session-store-check", async move {
        loop {
            match &*health.borrow_and_update() {
                Health::Reached => dependency.reached(),
                Health::Lost { reason } => dependency.lost(reason.clone()),
                Health::Connecting => {}
            }
            tokio::select! {
                // A store in memory has nobody who could tell of a change.
                changed = health.changed() => if changed.is_err() { return },
                () = stopped.cancelled() => return,
            }
        }
    });
    if let Some((url, password)) = cx.settings.cache.redis.clone() {
        cx.tasks.spawn("cache", app.searches.cache.clone().keep(url, password, stop));
    }
}

/// Asks for what requests need, so that "reached" means that they would succeed: tables and rows, not only a socket.
async fn check(name: &'static str, app: &App, database: &Database, dependency: &Dependency) {
    let mut backoff = Backoff::new(CHECK_BACKOFF_MIN, CHECK_BACKOFF_MAX);
    loop {
        let found = match name {
            "search" => probe(database, "SELECT EXISTS (SELECT FROM exercise_vectors)").await,
            _ => probe(&app.data, "SELECT EXISTS (SELECT FROM exercises)").await,
        };
        match found {
            Ok(true) => {
                dependency.reached();
                backoff.reset();
                tokio::time::sleep(CHECK_INTERVAL).await;
                continue;
            }
            Ok(false) => dependency.lost("there are no exercises in it; run app migrate"),
            Err(error) => dependency.lost(error.to_string()),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn probe(database: &Database, sql: &'static str) -> Result<bool, crate::db::DbError> {
    database
        .read("check", &sql, |connection, &sql| sqlx::query_scalar(sql).fetch_one(connection).boxed())
        .await
}
