//! Prometheus metrics: each program registers one struct of typed metrics; the kit adds what every process has.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::Identity;

/// The registry of this process. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Metrics {
    // Locked at start and while /metrics is written, never by requests.
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    pub(crate) fn new(program: &'static str, version: &'static str, identity: &Identity) -> Self {
        let mut registry = Registry::default();
        let labels = vec![
            ("program", program.to_owned()),
            ("version", version.to_owned()),
            ("instance_name", identity.instance.clone()),
        ];
        registry.register("build", "What runs here", Info::new(labels));
        registry.register_collector(Box::new(Process));
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Adds metrics; call once per struct, at start.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes any text");
        text
    }
}

/// Memory, descriptors, threads and CPU of this process, read from /proc when asked.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", resident_bytes()),
            ("process_open_fds", "Open file descriptors", open_descriptors()),
            ("process_threads", "Threads", status_field("Threads:")),
            ("process_cpu_milliseconds", "User and system time since start", cpu_ms()),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(
                    name,
                    help,
                    None,
                    prometheus_client::metrics::MetricType::Gauge,
                )?)?;
            }
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<i64> {
    status_field("VmRSS:").map(|kilobytes| kilobytes * 1024)
}

fn open_descriptors() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

fn status_field(name: &str) -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_ms() -> Option<i64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let ms = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000 + time.tv_usec() / 1_000;
    Some(ms(usage.user_time()) + ms(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_tells_what_it_uses() {
        let identity = Identity { instance: "app-1".into(), generation: 1 };
        let text = Metrics::new("app", "1.2.3", &identity).text();
        for part in [
            "program=\"app\"",
            "version=\"1.2.3\"",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_cpu_milliseconds ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
