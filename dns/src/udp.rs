//! The UDP loop of one socket: take a packet, answer it, send, on the worker's own thread and without a task for each
//! packet. Nothing is queued here; the queue is the socket's buffer, and what does not fit there the kernel drops.

use crate::answer::{Terms, Transport, Verdict, answer};
use crate::datagram::{Datagram, Socket};
use crate::metrics::{Drop, Metrics};
use crate::zone::Zones;
use arc_swap::ArcSwap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The longest query read. Longer ones are not for a server without updates and transfers.
const QUERY_BYTES_MAX: usize = 4_096;
/// Packets between two looks at whether to stop.
const BURST_MAX: usize = 64;
/// Pause after an error of the socket itself (out of memory, for one), so that it is not met in a spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// What every worker shares.
#[derive(Debug, Clone)]
pub struct Service {
    pub zones: Arc<ArcSwap<Zones>>,
    pub metrics: Metrics,
    pub udp_payload_bytes_max: u16,
}

/// Serves one socket until told to stop, and then what had arrived before.
pub async fn serve(socket: Socket, service: Service, stopping: CancellationToken) {
    let mut buffers =
        Buffers { query: vec![0; QUERY_BYTES_MAX], answer: Vec::with_capacity(QUERY_BYTES_MAX) };
    let mut random = fastrand::Rng::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            _ = socket.readable() => {}
        }
        if let Burst::Failed = burst(&socket, &service, &mut buffers, &mut random) {
            tokio::time::sleep(ERROR_PAUSE).await;
        }
        // A socket that is never empty must not keep the other sockets of this thread waiting.
        tokio::task::yield_now().await;
    }
    while let Burst::More = burst(&socket, &service, &mut buffers, &mut random) {}
}

struct Buffers {
    query: Vec<u8>,
    answer: Vec<u8>,
}

enum Burst {
    /// The socket may hold more.
    More,
    Empty,
    Failed,
}

fn burst(socket: &Socket, service: &Service, buffers: &mut Buffers, random: &mut fastrand::Rng) -> Burst {
    for _ in 0..BURST_MAX {
        match socket.receive(&mut buffers.query) {
            Ok(datagram) => packet(socket, service, buffers, &datagram, random),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Burst::Empty,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                service.metrics.drop(Drop::Receive);
                warn!(%error, "cannot receive");
                return Burst::Failed;
            }
        }
    }
    Burst::More
}

fn packet(
    socket: &Socket,
    service: &Service,
    buffers: &mut Buffers,
    datagram: &Datagram,
    random: &mut fastrand::Rng,
) {
    let metrics = &service.metrics;
    if datagram.cut {
        return metrics.drop(Drop::Oversized);
    }
    if datagram.source.port() == 0 {
        return metrics.drop(Drop::Source);
    }
    let terms = Terms { transport: Transport::Udp, udp_payload_bytes_max: service.udp_payload_bytes_max };
    buffers.answer.clear();
    let query = &buffers.query[..datagram.bytes];
    let zones = service.zones.load();
    let verdict = answer(query, &zones, terms, &mut |bound| random.usize(..bound), &mut buffers.answer);
    metrics.verdict(Transport::Udp, verdict);
    if let Verdict::Answered { .. } = verdict
        && socket.send(&buffers.answer, datagram).is_err()
    {
        // A full buffer or an unreachable client: it will ask again. Waiting would hold up the others.
        metrics.drop(Drop::Send);
    }
}
