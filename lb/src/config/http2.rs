//! `[http2]`: limits of HTTP/2 towards clients. Everything else (deadlines, header bytes, requests per connection) is that of
//! `[server]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::Invalid;

use super::values::{at_least_one, ms};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    cleartext: bool,
    streams_max: u64,
    stream_window_bytes: u64,
    connection_window_bytes: u64,
    send_buffer_bytes_max: u64,
    resets_max: u64,
    ping_interval_ms: u64,
    ping_timeout_ms: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            cleartext: true,
            streams_max: 100,
            stream_window_bytes: 262_144,
            connection_window_bytes: 1_048_576,
            send_buffer_bytes_max: 131_072,
            resets_max: 200,
            ping_interval_ms: 20_000,
            ping_timeout_ms: 10_000,
        }
    }
}

/// Limits of one HTTP/2 connection.
#[derive(Debug, Clone)]
pub(crate) struct Http2 {
    /// Also without TLS, to clients that begin with HTTP/2's preface.
    pub(crate) cleartext: bool,
    /// At the same time.
    pub(crate) streams_max: u32,
    /// Bytes of request bodies that a client may send ahead: of one stream, of all together.
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    /// Bytes of one answer that wait for the client's window.
    pub(crate) send_buffer_max: usize,
    /// How many more requests a client may cancel than it lets finish.
    pub(crate) resets_max: u64,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) ping_timeout: Duration,
}

pub(super) fn parse(raw: &Raw) -> Result<Http2, Invalid> {
    let window = |key: &str, value: u64| {
        u32::try_from(value)
            .ok()
            .filter(|bytes| (65_535..=16_777_216).contains(bytes))
            .ok_or_else(|| Invalid::new(key, value, "out of range", "write 65535 to 16777216 bytes"))
    };
    let streams_max = at_least_one("http2.streams_max", raw.streams_max)?;
    Ok(Http2 {
        cleartext: raw.cleartext,
        streams_max: u32::try_from(streams_max).unwrap_or(u32::MAX),
        stream_window: window("http2.stream_window_bytes", raw.stream_window_bytes)?,
        connection_window: window("http2.connection_window_bytes", raw.connection_window_bytes)?,
        send_buffer_max: match raw.send_buffer_bytes_max {
            16_384..=16_777_216 => usize::try_from(raw.send_buffer_bytes_max).expect("at most 16 MiB"),
            other => {
                let remedy = "write 16384 to 16777216 bytes";
                return Err(Invalid::new("http2.send_buffer_bytes_max", other, "out of range", remedy));
            }
        },
        resets_max: raw.resets_max,
        ping_interval: match raw.ping_interval_ms {
            0 => None,
            some => Some(ms("http2.ping_interval_ms", some)?),
        },
        ping_timeout: ms("http2.ping_timeout_ms", raw.ping_timeout_ms)?,
    })
}
