//! The program's configuration.

use std::path::PathBuf;
use std::time::Duration;

use redis::IntoConnectionInfo;
use serde::{Deserialize, Serialize};
use service_kit::{Invalid, Secret, Settings};

use crate::redis_store::RedisSettings;

/// What the program works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Redis to watch and to work on.
    pub redis: RedisSettings,
    /// Time between two timed reads.
    pub read_interval: Duration,
    /// How many keys the count of sessions looks at in a second, at most.
    pub scan_keys_per_second: u32,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    store: StoreRaw,
    watch: WatchRaw,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StoreRaw {
    redis_url: String,
    redis_password: Secret,
    redis_password_file: PathBuf,
    key_prefix: String,
    connect_timeout_ms: u64,
    command_timeout_ms: u64,
    inflight_max: usize,
}

impl Default for StoreRaw {
    fn default() -> Self {
        Self {
            redis_url: "redis://127.0.0.1:6379".to_owned(),
            redis_password: Secret::default(),
            redis_password_file: PathBuf::new(),
            key_prefix: "session:".to_owned(),
            connect_timeout_ms: 1_000,
            command_timeout_ms: 250,
            inflight_max: 1_024,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WatchRaw {
    read_interval_ms: u64,
    scan_keys_per_second: u32,
}

impl Default for WatchRaw {
    fn default() -> Self {
        Self { read_interval_ms: 1_000, scan_keys_per_second: 1_000 }
    }
}

impl Settings for Config {
    type Raw = Raw;

    fn parse(raw: Raw) -> Result<Self, Invalid> {
        let Raw { store, watch } = raw;
        check_url(&store.redis_url)?;
        let password = service_kit::secret::resolve(
            "store.redis_password",
            &store.redis_password,
            &store.redis_password_file,
        )?;
        let read_interval = milliseconds("watch.read_interval_ms", watch.read_interval_ms)?;
        Ok(Self {
            redis: RedisSettings {
                url: store.redis_url,
                password: (!password.is_empty()).then(|| password.expose().to_owned()),
                key_prefix: store.key_prefix,
                connect_timeout: milliseconds("store.connect_timeout_ms", store.connect_timeout_ms)?,
                command_timeout: milliseconds("store.command_timeout_ms", store.command_timeout_ms)?,
                inflight_max: within("store.inflight_max", store.inflight_max, 1, 65_536)?,
                ..RedisSettings::default()
            },
            read_interval,
            scan_keys_per_second: within(
                "watch.scan_keys_per_second",
                watch.scan_keys_per_second,
                10,
                1_000_000,
            )?,
        })
    }
}

fn check_url(url: &str) -> Result<(), Invalid> {
    let remedy = "write redis://[user@]host[:port][/database]";
    let info = url
        .into_connection_info()
        .map_err(|error| Invalid::new("store.redis_url", "[not shown]", error.to_string(), remedy))?;
    if info.redis_settings().password().is_some() {
        let reason = "a password in an address ends up in logs and process lists";
        let remedy = "put it into the file that store.redis_password_file names";
        return Err(Invalid::new("store.redis_url", "[not shown]", reason, remedy));
    }
    Ok(())
}

fn milliseconds(key: &str, value: u64) -> Result<Duration, Invalid> {
    within(key, value, 1, 3_600_000).map(Duration::from_millis)
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    key: &str,
    value: T,
    min: T,
    max: T,
) -> Result<T, Invalid> {
    if value < min || value > max {
        let reason = format!("must be from {min} to {max}");
        return Err(Invalid::new(key, value, reason, "leave the key out for its default"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use service_kit::config::{parse_text, parse_text_with};

    use super::*;

    const SHIPPED: &str = include_str!("../../deploy/config/session-store.toml");

    /// The shipped file names a secret that only containers have.
    const NO_SECRET: (&str, &str) = ("SESSION_STORE_STORE__REDIS_PASSWORD_FILE", "");

    #[track_caller]
    fn check_refused(text: &str, parts: &[&str]) {
        let error = parse_text::<Config>("session-store", text).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error}");
        }
    }

    #[test]
    fn the_shipped_file_parses() {
        let config = parse_text_with::<Config>("session-store", SHIPPED, &[NO_SECRET]).unwrap();
        assert_eq!(config.redis.url, "redis://redis-session:6379");
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        let shipped = parse_text_with::<Config>("session-store", SHIPPED, &[NO_SECRET]).unwrap();
        let default = parse_text::<Config>("session-store", "").unwrap();
        assert_eq!(shipped.redis.command_timeout, default.redis.command_timeout);
        assert_eq!(shipped.redis.connect_timeout, default.redis.connect_timeout);
        assert_eq!(shipped.redis.inflight_max, default.redis.inflight_max);
        assert_eq!(shipped.redis.key_prefix, default.redis.key_prefix);
        assert_eq!(shipped.read_interval, default.read_interval);
        assert_eq!(shipped.scan_keys_per_second, default.scan_keys_per_second);
    }

    #[test]
    fn the_environment_overrides() {
        let variables = [NO_SECRET, ("SESSION_STORE_STORE__REDIS_URL", "redis://127.64.1.41:6379")];
        let config = parse_text_with::<Config>("session-store", SHIPPED, &variables).unwrap();
        assert_eq!(config.redis.url, "redis://127.64.1.41:6379");
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        check_refused("[store]\nredis_url = 'somewhere'", &["store.redis_url", "redis://"]);
    }

    #[test]
    fn passwords_in_addresses_are_refused_and_not_repeated() {
        check_refused("[store]\nredis_url = 'redis://:hunter2@host'", &["redis_password_file"]);
        let error = parse_text::<Config>("session-store", "[store]\nredis_url = 'redis://:hunter2@host'");
        assert!(!error.unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn numbers_have_bounds() {
        check_refused("[store]\ncommand_timeout_ms = 0", &["store.command_timeout_ms", "from 1 to"]);
        check_refused("[watch]\nscan_keys_per_second = 0", &["watch.scan_keys_per_second", "from 10 to"]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        check_refused("[store]\nurl = 'redis://host'", &["url"]);
    }
}
