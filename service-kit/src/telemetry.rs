//! Logs: one line per state change, pretty for people or JSON for machines, with a filter that can be changed at run time.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::Invalid;
use crate::config::{Kit, LogFormat};

/// Changes the filter of the running program.
#[derive(Clone)]
pub(crate) struct LogFilter {
    change: Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl LogFilter {
    pub(crate) fn set(&self, text: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        (self.change)(filter)
    }
}

pub(crate) fn start(kit: &Kit) -> Result<LogFilter, Invalid> {
    let filter = EnvFilter::try_new(&kit.log_filter).map_err(|error| {
        Invalid::new(
            "log.filter",
            &kit.log_filter,
            error.to_string(),
            "write for example info or info,lb=debug",
        )
    })?;
    let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(filter);
    let lines = match kit.log_format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Pretty => fmt::layer()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    // A second program in one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(LogFilter { change: Arc::new(move |new| handle.reload(new).map_err(|error| error.to_string())) })
}
