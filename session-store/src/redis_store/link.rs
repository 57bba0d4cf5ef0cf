//! The one connection to Redis: kept up in the background, lent to callers, never waited for.
//!
//! ```text
//!  connecting --connected, PING and ROLE say primary--> reached --check failed--> lost --+
//!      ^                                                                                 |
//!      +---------------------------- backoff, 50 ms to 1 s ------------------------------+
//! ```
//!
//! Callers never connect and never repeat: when there is no connection they hear so at once, and when a command fails
//! or is late they only ask for a check. So one slow answer does not cut everybody else off, while a server that is
//! stopped or demoted is left after one deadline. The name is resolved again at each connect.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, Value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::RedisSettings;
use crate::error::StoreError;
use crate::health::Health;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

pub(super) struct Link {
    shared: Arc<Shared>,
    command_timeout: Duration,
    inflight: Semaphore,
    keeper: JoinHandle<()>,
}

struct Shared {
    /// Held to copy the handle, never across an await.
    connection: Mutex<Option<MultiplexedConnection>>,
    health: watch::Sender<Health>,
    suspect: Notify,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Link {
    pub(super) fn start(settings: &RedisSettings) -> Result<Self, StoreError> {
        let client = client(settings)?;
        let shared = Arc::new(Shared {
            connection: Mutex::new(None),
            health: watch::Sender::new(Health::Connecting),
            suspect: Notify::new(),
        });
        let keeper = Keeper { client, shared: Arc::clone(&shared), settings: settings.clone() };
        Ok(Self {
            shared,
            command_timeout: settings.command_timeout,
            inflight: Semaphore::new(settings.inflight_max),
            keeper: tokio::spawn(keeper.run()),
        })
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Lends the connection for one question, which gets the command deadline.
    pub(super) async fn ask(
        &self,
        question: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<Value, RedisError>,
    ) -> Result<Value, StoreError> {
        let Ok(_permit) = self.inflight.try_acquire() else {
            return Err(StoreError::unavailable("too many calls are waiting for Redis"));
        };
        let Some(mut connection) = self.shared.connection() else {
            let reason = match &*self.shared.health.borrow() {
                Health::Lost { reason } => reason.clone(),
                Health::Connecting | Health::Reached => "not connected yet".to_owned(),
            };
            return Err(StoreError::Unavailable { reason });
        };
        match timeout(self.command_timeout, question(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            // Somebody else's key under our prefix: Redis is well.
            Ok(Err(error)) if is_wrong_type(&error) => Err(StoreError::damaged(error.to_string())),
            Ok(Err(error)) => {
                self.shared.suspect.notify_one();
                Err(StoreError::unavailable(error.to_string()))
            }
            Err(_) => {
                self.shared.suspect.notify_one();
                Err(StoreError::unavailable(late(self.command_timeout)))
            }
        }
    }
}

impl Shared {
    fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, connection: Option<MultiplexedConnection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

fn client(settings: &RedisSettings) -> Result<Client, StoreError> {
    let invalid = |_| StoreError::Invalid { reason: "the Redis URL does not parse" };
    let mut info = settings.url.as_str().into_connection_info().map_err(invalid)?;
    if let Some(password) = &settings.password {
        let login = info.redis_settings().clone().set_password(password);
        info = info.set_redis_settings(login);
    }
    Client::open(info).map_err(invalid)
}

fn is_wrong_type(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "WRONGTYPE"))
}

fn late(deadline: Duration) -> String {
    format!("no answer within {} ms", deadline.as_millis())
}

/// The task that owns the connection's life. It ends with the [`Link`].
struct Keeper {
    client: Client,
    shared: Arc<Shared>,
    settings: RedisSettings,
}

impl Keeper {
    async fn run(self) {
        let mut pause = BACKOFF_MIN;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    pause = BACKOFF_MIN;
                    self.shared.replace(Some(connection.clone()));
                    self.transition(Health::Reached);
                    let reason = self.watch_over(connection).await;
                    self.shared.replace(None);
                    self.transition(Health::Lost { reason });
                }
                Err(reason) => self.transition(Health::Lost { reason }),
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        // Our own deadlines are around every await, with a reason that names them.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let limit = self.settings.connect_timeout;
        let mut connection =
            timeout(limit, self.client.get_multiplexed_async_connection_with_config(&config))
                .await
                .map_err(|_| format!("no connection within {} ms", limit.as_millis()))?
                .map_err(|error| error.to_string())?;
        self.check(&mut connection).await?;
        Ok(connection)
    }

    /// Returns what is wrong, when something is.
    async fn watch_over(&self, mut connection: MultiplexedConnection) -> String {
        loop {
            let _ = timeout(self.settings.check_interval, self.shared.suspect.notified()).await;
            if let Err(reason) = self.check(&mut connection).await {
                return reason;
            }
        }
    }

    /// PING is refused while Redis loads its data or may not write; ROLE tells a primary from a replica, which a
    /// failover can make of the server that we talk to.
    async fn check(&self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        let mut question = redis::pipe();
        question.cmd("PING").ignore().cmd("ROLE");
        let limit = self.settings.command_timeout;
        let (role,): (Vec<Value>,) = timeout(limit, question.query_async(connection))
            .await
            .map_err(|_| late(limit))?
            .map_err(|error| error.to_string())?;
        match role.first() {
            Some(Value::BulkString(word)) if word == b"master" => Ok(()),
            _ => Err("the server is not a primary".to_owned()),
        }
    }

    /// One log line for each change of state, not for each failed attempt.
    fn transition(&self, to: Health) {
        self.shared.health.send_if_modified(|health| {
            match (&*health, &to) {
                (Health::Lost { .. }, Health::Lost { .. }) => {}
                (_, Health::Lost { reason }) => tracing::warn!(reason, "session store lost"),
                (_, Health::Reached) => tracing::info!("session store reached"),
                (_, Health::Connecting) => {}
            }
            let changed = *health != to;
            *health = to;
            changed
        });
    }
}

/// Half to all of the pause, so that servers that lost Redis together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    pause / 2 + pause.mul_f64(f64::from(byte[0]) / 510.0)
}
