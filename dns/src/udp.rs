//! The UDP loop of one socket, on a thread of its own that does nothing else: take what has arrived, answer it, send. No
//! runtime is involved, because waking one costs more than an answer. Nothing is queued here; the queue is the socket's
//! buffer, and what does not fit there the kernel drops.

use crate::answer::{Terms, Transport, Verdict};
use crate::batch::{Batch, PACKETS_MAX, Packet, Wait};
use crate::exchange::Exchange;
use crate::extras::Extras;
use crate::fast::fast;
use crate::metrics::{Drop, Metrics, Path};
use crate::query_log::{Entry, Log, QueryLog};
use crate::replay::{Recorder, Replay};
use crate::zone::Zones;
use arc_swap::ArcSwap;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, UdpSocket};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Of so many queries that the fast path could answer, one is answered by both paths and the answers are compared.
const COMPARE_EVERY: u32 = 4_096;
/// Pause after an error of the socket itself (out of memory, for one), so that it is not met in a spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// What every worker shares.
#[derive(Debug, Clone)]
pub struct Service {
    pub zones: Arc<ArcSwap<Zones>>,
    pub metrics: Metrics,
    pub udp_payload_bytes_max: u16,
    pub exchange: Arc<Exchange>,
    pub extras: Arc<Extras>,
    pub log: QueryLog,
}

impl Service {
    /// How a query from `client` that is here now is answered.
    pub fn terms(&self, transport: Transport, client: IpAddr) -> Terms<'_> {
        Terms {
            transport,
            udp_payload_bytes_max: self.udp_payload_bytes_max,
            client: Some(client),
            extras: Some(&self.extras),
            now_ms: now_ms(),
        }
    }
}

/// Makes a bound socket ready for [`serve`]: one that waits, and that on a wildcard tells which address was asked.
pub fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let address = socket.local_addr()?;
    if address.ip().is_unspecified() {
        if address.is_ipv4() {
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    Ok(())
}

/// Ends the waiting of a thread in [`serve`], once it was told to stop. Packets still arrive and are answered until the
/// socket's buffer is empty.
pub fn wake(socket: &UdpSocket) {
    // The kernel says that the socket is not connected, and wakes whoever waits all the same.
    let _ = SockRef::from(socket).shutdown(Shutdown::Read);
}

/// Serves one socket until told to stop, and then what had arrived before.
pub fn serve(socket: &UdpSocket, service: &Service, stopping: &CancellationToken) {
    go_on(&service.metrics, || turns(socket, service, stopping));
}

/// Begins the work anew for as long as it panics. A mistake of ours costs the packets of one batch: whoever finds a query that
/// brings it about must not silence every worker by sending it a few times.
fn go_on(metrics: &Metrics, mut work: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
        metrics.drop(Drop::Panic);
        error!("a query made this worker panic: its batch is lost, the worker goes on; please report it");
    }
}

fn turns(socket: &UdpSocket, service: &Service, stopping: &CancellationToken) {
    let mut worker = Worker {
        service,
        batch: Batch::default(),
        random: fastrand::Rng::new(),
        until_compared: 1,
        log: service.log.worker(),
    };
    loop {
        let stops = stopping.is_cancelled();
        match worker.turn(socket, if stops { Wait::No } else { Wait::ForOne }) {
            Ok(0) if stops => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stops {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                service.metrics.drop(Drop::Receive);
                warn!(%error, "cannot receive");
                std::thread::sleep(ERROR_PAUSE);
            }
        }
    }
}

struct Worker<'s> {
    service: &'s Service,
    batch: Batch,
    random: fastrand::Rng,
    until_compared: u32,
    log: Log,
}

/// Equal verdicts in a row, so that counting a batch is one addition more often than not.
#[derive(Default)]
struct Tally {
    last: Option<(Path, Verdict)>,
    count: u64,
}

impl Tally {
    fn add(&mut self, path: Path, verdict: Verdict, metrics: &Metrics) {
        if self.last != Some((path, verdict)) {
            self.flush(metrics);
            self.last = Some((path, verdict));
        }
        self.count += 1;
    }

    fn flush(&mut self, metrics: &Metrics) {
        if let Some((path, verdict)) = self.last {
            metrics.verdicts(Transport::Udp, verdict, self.count);
            metrics.answered_by(path, self.count);
        }
        self.count = 0;
    }
}

impl Worker<'_> {
    /// One batch; returns how many packets it had.
    fn turn(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        let count = self.batch.receive(socket.as_fd(), wait)?;
        let zones = self.service.zones.load();
        let logged_at_ms = self.log.is_on().then(now_ms);
        let mut tally = Tally::default();
        for at in 0..count {
            let start = self.batch.answer_bytes();
            if let Some((path, verdict)) = self.packet(at, &zones) {
                tally.add(path, verdict, &self.service.metrics);
                if let Verdict::Answered { .. } = verdict {
                    self.batch.answered(at, start);
                }
                if let Some(now_ms) = logged_at_ms {
                    self.line(at, start, (path, verdict), (&zones, now_ms));
                }
            }
        }
        tally.flush(&self.service.metrics);
        // A full buffer or an unreachable client: it will ask again. Waiting would hold up the others.
        for _ in 0..self.batch.send(socket.as_fd()) {
            self.service.metrics.drop(Drop::Send);
        }
        // Nothing more may come for a long time.
        if logged_at_ms.is_some() && count < PACKETS_MAX {
            self.log.flush();
        }
        Ok(count)
    }

    /// Adds the line of a packet whose answer was appended from `start` on.
    fn line(
        &mut self,
        at: usize,
        start: usize,
        (path, verdict): (Path, Verdict),
        (zones, now_ms): (&Zones, u64),
    ) {
        let (Packet { octets, source, .. }, answers) = self.batch.packet(at);
        let entry = Entry {
            now_ms,
            transport: Transport::Udp,
            client: source.ip(),
            query: octets,
            bytes: answers.len() - start,
            verdict,
            path,
            zones,
        };
        self.log.push(entry, || self.random.f64());
    }

    /// Appends the answer to one packet.
    fn packet(&mut self, at: usize, zones: &Zones) -> Option<(Path, Verdict)> {
        let Service { metrics, udp_payload_bytes_max, exchange, .. } = self.service;
        let (Packet { octets, cut, source }, out) = self.batch.packet(at);
        let random = &mut self.random;
        if cut || source.port() == 0 {
            metrics.drop(if cut { Drop::Oversized } else { Drop::Source });
            return None;
        }
        self.until_compared -= 1;
        if self.until_compared == 0 {
            self.until_compared = COMPARE_EVERY;
            let terms = self.service.terms(Transport::Udp, source.ip());
            return Some((Path::Slow, both(self.service, octets, zones, terms, random, out)));
        }
        let mut draw = |bound| random.usize(..bound);
        if self.service.extras.limiter.is_some() {
            let terms = self.service.terms(Transport::Udp, source.ip());
            return Some((Path::Slow, exchange.datagram(octets, zones, terms, &mut draw, out)));
        }
        match fast(octets, zones, *udp_payload_bytes_max, &mut draw, out) {
            Some(verdict) => Some((Path::Fast, verdict)),
            None => {
                let terms = self.service.terms(Transport::Udp, source.ip());
                Some((Path::Slow, exchange.datagram(octets, zones, terms, &mut draw, out)))
            }
        }
    }
}

/// Appends the slow path's answer and compares the fast path's with it. The fast path repeats the turns and draws of the
/// slow one, so that the shares of a cyclic set stay exact.
fn both(
    service: &Service,
    octets: &[u8],
    zones: &Zones,
    terms: Terms<'_>,
    random: &mut fastrand::Rng,
    out: &mut Vec<u8>,
) -> Verdict {
    let start = out.len();
    let mut recorder = Recorder::new(|bound| random.usize(..bound));
    let verdict = service.exchange.datagram(octets, zones, terms, &mut recorder, out);
    if terms.extras.is_some_and(|extras| extras.limiter.is_some()) {
        return verdict;
    }
    let mut replay = Replay::of(recorder);
    let mut other = Vec::new();
    let repeated = fast(octets, zones, service.udp_payload_bytes_max, &mut replay, &mut other);
    if repeated.is_some_and(|repeated| repeated != verdict || other != out[start..]) {
        service.metrics.path_mismatch.inc();
        error!(query = %octets.escape_ascii(), "both paths differ: this is a bug; the slow path's answer was sent");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_worker_outlives_its_panics() {
        let metrics = Metrics::new(&mut Registry::default());
        let mut turns = 0;
        go_on(&metrics, || {
            turns += 1;
            assert!(turns > 2, "on purpose");
        });
        assert_eq!((turns, metrics.dropped(Drop::Panic)), (3, 2));
    }
}
