//! The query log: a JSON line for each query, or for a share of them, given to the kit's writer by the batch. Off, it costs a
//! worker one look at a flag for each batch of packets.
//!
//! It tells what was asked and what became of it. Packets that are no queries have their counters, and whole zones that were
//! taken have lines in the program's own log.

mod line;

use crate::answer::{Transport, Verdict};
use crate::metrics::Path;
use crate::zone::Zones;
use arc_swap::ArcSwapOption;
use prometheus_client::metrics::counter::Counter;
use service_kit::Prefix;
use service_kit::lines::{self, Batch, Lines, Orders, Outlet, Target};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// `[query_log]`, parsed; nothing at all when it is off.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub target: Target,
    /// The share of queries that have a line.
    pub sample: f64,
    /// Bits of a client's address that are told.
    pub ipv4_prefix_bits: u8,
    pub ipv6_prefix_bits: u8,
}

/// What is in force; the same for all clones.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Read before the settings, which cost more.
    is_on: AtomicBool,
    settings: ArcSwapOption<Settings>,
}

/// Where workers get their own end.
#[derive(Debug, Clone)]
pub struct QueryLog {
    live: Live,
    outlet: Outlet,
}

/// Changes what is in force, and tells the writer.
#[derive(Debug, Clone)]
pub struct Control {
    live: Live,
    pub orders: Orders,
}

/// One worker's end.
#[derive(Debug)]
pub struct Log {
    live: Live,
    lines: Lines,
}

/// What a line tells.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'e> {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    pub transport: Transport,
    pub client: IpAddr,
    pub query: &'e [u8],
    /// Octets of the answer.
    pub bytes: usize,
    pub verdict: Verdict,
    pub path: Path,
    /// Of which it was answered.
    pub zones: &'e Zones,
}

/// The workers' end, the one for changes, and what is left for the writer.
pub fn channel(settings: Option<&Settings>, dropped: Counter) -> (QueryLog, Control, mpsc::Receiver<Batch>) {
    let (outlet, batches) = lines::channel(dropped);
    let live = Live::default();
    live.set(settings);
    let orders = Orders::new(settings.map(|settings| settings.target.clone()));
    (QueryLog { live: live.clone(), outlet }, Control { live, orders }, batches)
}

impl Live {
    fn set(&self, settings: Option<&Settings>) {
        self.0.settings.store(settings.cloned().map(Arc::new));
        self.0.is_on.store(settings.is_some(), Ordering::Relaxed);
    }
}

impl Control {
    /// Opens the file again, or another one, and takes the other settings into use.
    pub fn reload(&self, settings: Option<&Settings>) {
        self.live.set(settings);
        self.orders.reopen(settings.map(|settings| settings.target.clone()));
    }
}

impl QueryLog {
    pub fn is_on(&self) -> bool {
        self.live.0.is_on.load(Ordering::Relaxed)
    }

    pub fn worker(&self) -> Log {
        Log { live: self.live.clone(), lines: Lines::new(self.outlet.clone()) }
    }
}

impl Log {
    pub fn is_on(&self) -> bool {
        self.live.0.is_on.load(Ordering::Relaxed)
    }

    /// Adds a line for a query, if the sample wants it; `draw` gives a number from 0 to 1.
    pub fn push(&mut self, entry: Entry<'_>, draw: impl FnOnce() -> f64) {
        let settings = self.live.0.settings.load();
        let Some(settings) = settings.as_deref() else { return };
        if matches!(entry.verdict, Verdict::Ignored(_))
            || (settings.sample < 1.0 && draw() >= settings.sample)
        {
            return;
        }
        let client = entry.client.to_canonical();
        let bits = if client.is_ipv4() { settings.ipv4_prefix_bits } else { settings.ipv6_prefix_bits };
        let entry = Entry { client: Prefix::new(client, bits).network(), ..entry };
        self.lines.push(|out| line::write(out, &entry));
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        self.lines.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ignored, Rcode};

    const ANSWERED: Verdict = Verdict::Answered { rcode: Rcode::NoError, truncated: false };

    fn settings(sample: f64) -> Settings {
        Settings { target: Target::Stdout, sample, ipv4_prefix_bits: 32, ipv6_prefix_bits: 128 }
    }

    fn entry(verdict: Verdict, zones: &Zones) -> Entry<'_> {
        Entry {
            now_ms: 0,
            transport: Transport::Udp,
            client: [192, 0, 2, 1].into(),
            query: &[],
            bytes: 0,
            verdict,
            path: Path::Slow,
            zones,
        }
    }

    /// Ten queries whose draws go from 0 to 0.9: how many lines there are.
    #[track_caller]
    fn check(settings: Option<&Settings>, verdict: Verdict, expected: u64) {
        let (log, _, mut batches) = channel(settings, Counter::default());
        let mut worker = log.worker();
        for tenth in 0..10 {
            worker.push(entry(verdict, &Zones::default()), || f64::from(tenth) / 10.0);
        }
        worker.flush();
        assert_eq!(batches.try_recv().map_or(0, |batch| batch.lines()), expected);
        assert_eq!(worker.is_on(), settings.is_some());
    }

    #[test]
    fn a_share_of_the_queries_has_lines() {
        check(Some(&settings(1.0)), ANSWERED, 10);
        check(Some(&settings(0.3)), ANSWERED, 3);
        check(Some(&settings(0.0)), ANSWERED, 0);
        check(None, ANSWERED, 0);
        check(Some(&settings(1.0)), Verdict::Limited, 10);
        check(Some(&settings(1.0)), Verdict::Ignored(Ignored::Response), 0);
    }

    #[test]
    fn it_is_switched_while_workers_have_it() {
        let (log, control, mut batches) = channel(None, Counter::default());
        let zones = Zones::default();
        let mut worker = log.worker();
        worker.push(entry(ANSWERED, &zones), || 0.0);
        control.reload(Some(&settings(1.0)));
        assert!(worker.is_on() && log.is_on());
        worker.push(entry(ANSWERED, &zones), || 0.0);
        control.reload(None);
        assert!(!worker.is_on());
        worker.push(entry(ANSWERED, &zones), || 0.0);
        worker.flush();
        assert_eq!(batches.try_recv().map_or(0, |batch| batch.lines()), 1);
    }
}
