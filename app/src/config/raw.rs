//! The configuration as it is written, with every default.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service_kit::Secret;

/// What the file says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    pub(super) server: RawServer,
    pub(super) tls: RawTls,
    pub(super) site: RawSite,
    pub(super) sessions: RawSessions,
    pub(super) cache: RawCache,
    pub(super) database: RawDatabase,
    pub(super) security: RawSecurity,
    pub(super) migrate: RawMigrate,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) listen: SocketAddr,
    pub(super) connections_max: usize,
    pub(super) requests_max: usize,
    pub(super) request_timeout_ms: u64,
    pub(super) header_timeout_ms: u64,
    pub(super) header_bytes_max: usize,
    pub(super) body_bytes_max: usize,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            connections_max: 4096,
            requests_max: 512,
            request_timeout_ms: 15_000,
            header_timeout_ms: 75_000,
            header_bytes_max: 32 * 1024,
            body_bytes_max: 64 * 1024,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) listen: String,
    pub(super) certificate_file: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSite {
    pub(super) notice: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSessions {
    pub(super) backend: String,
    pub(super) redis_url: String,
    pub(super) redis_password: Secret,
    pub(super) redis_password_file: PathBuf,
    pub(super) idle_timeout_ms: u64,
    pub(super) absolute_timeout_ms: u64,
    pub(super) deadline_ms: u64,
    pub(super) near_sessions_max: usize,
}

impl Default for RawSessions {
    fn default() -> Self {
        Self {
            backend: "memory".into(),
            redis_url: String::new(),
            redis_password: Secret::default(),
            redis_password_file: PathBuf::new(),
            idle_timeout_ms: 24 * 3_600_000,
            absolute_timeout_ms: 7 * 24 * 3_600_000,
            deadline_ms: 500,
            near_sessions_max: 10_000,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCache {
    pub(super) redis_url: String,
    pub(super) redis_password: Secret,
    pub(super) redis_password_file: PathBuf,
    pub(super) ttl_ms: u64,
    pub(super) stale_ms: u64,
    pub(super) deadline_ms: u64,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            redis_url: String::new(),
            redis_password: Secret::default(),
            redis_password_file: PathBuf::new(),
            ttl_ms: 15 * 60_000,
            stale_ms: 24 * 3_600_000,
            deadline_ms: 80,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDatabase {
    pub(super) data_dsn: String,
    pub(super) search_dsn: String,
    pub(super) password: Secret,
    pub(super) password_file: PathBuf,
    pub(super) connections_max: u32,
    pub(super) connect_timeout_ms: u64,
    pub(super) acquire_timeout_ms: u64,
    pub(super) query_timeout_ms: u64,
}

impl Default for RawDatabase {
    fn default() -> Self {
        Self {
            data_dsn: "postgres://app@127.0.0.1:6432/fitness".into(),
            search_dsn: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            connections_max: 8,
            connect_timeout_ms: 250,
            acquire_timeout_ms: 1_000,
            query_timeout_ms: 5_000,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSecurity {
    pub(super) signing_keys_file: PathBuf,
    pub(super) password_hashes_at_once: usize,
    pub(super) password_waiters_max: usize,
    pub(super) password_wait_ms: u64,
}

impl Default for RawSecurity {
    fn default() -> Self {
        Self {
            signing_keys_file: PathBuf::new(),
            password_hashes_at_once: 2,
            password_waiters_max: 64,
            password_wait_ms: 4_000,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawMigrate {
    pub(super) dsn: String,
    pub(super) search_dsn: String,
    pub(super) password: Secret,
    pub(super) password_file: PathBuf,
    pub(super) wait_ms: u64,
    pub(super) generated_exercises: usize,
}

impl Default for RawMigrate {
    fn default() -> Self {
        Self {
            dsn: String::new(),
            search_dsn: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            wait_ms: 120_000,
            generated_exercises: 0,
        }
    }
}
