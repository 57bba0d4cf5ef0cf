//! Puts the program together: loads the zones, binds, spawns, and lets the kit run it.

use crate::bind;
use crate::clients::Clients;
use crate::config::Config;
use crate::datagram::Socket;
use crate::metrics::Metrics;
use crate::reload::Publisher;
use crate::tcp::{self, Listeners};
use crate::udp::{self, Service};
use service_kit::{Context, Error, Shutdown};
use std::sync::Arc;

/// Starts the server and runs it until it is told to stop.
pub async fn start(mut cx: Context<Config>) -> Result<(), Error> {
    let config = cx.settings.clone();
    let mut metrics = None;
    cx.metrics.register(|registry| metrics = Some(Metrics::new(registry)));
    let metrics = metrics.expect("register calls its argument");
    let readiness = cx.readiness.dependency("zones");
    let publisher = Publisher::start(&config.zones, metrics.clone(), readiness).await?;
    let service =
        Service { zones: publisher.zones(), metrics, udp_payload_bytes_max: config.udp_payload_bytes_max };
    let listeners = Listeners {
        service: service.clone(),
        clients: Arc::new(Clients::new(&config.tcp)),
        limits: Arc::new(config.tcp),
        tasks: cx.tasks.clone(),
        shutdown: cx.shutdown.clone(),
    };
    let mut workers: Vec<Vec<std::net::UdpSocket>> = (0..cx.workers).map(|_| Vec::new()).collect();
    for (index, address) in config.listen.iter().enumerate() {
        let bound = bind::bind(*address, cx.workers, config.udp_receive_buffer_bytes)?;
        let name = if index == 0 { "dns".to_string() } else { format!("dns-{}", index + 1) };
        cx.bound(&name, bound.address);
        for (worker, socket) in workers.iter_mut().zip(bound.udp) {
            worker.push(socket);
        }
        let listener = tokio::net::TcpListener::from_std(bound.tcp)?;
        let accept = tcp::accept(listener, listeners.clone());
        cx.tasks.spawn(format!("tcp-listener {}", bound.address), accept);
    }
    for (index, sockets) in workers.into_iter().enumerate() {
        let (service, shutdown) = (service.clone(), cx.shutdown.clone());
        cx.tasks.spawn_worker(format!("udp-worker-{index}"), move || worker(sockets, service, shutdown))?;
    }
    let reloads = cx.reloads();
    let stopping = cx.shutdown.stopping();
    cx.tasks.spawn("reload", async move {
        stopping.run_until_cancelled(publisher.run(reloads)).await;
    });
    cx.run().await
}

/// One thread: a socket of each address.
async fn worker(sockets: Vec<std::net::UdpSocket>, service: Service, shutdown: Shutdown) {
    let loops = sockets.into_iter().map(|socket| {
        let socket = Socket::new(socket).expect("a bound socket can be watched");
        tokio::task::spawn_local(udp::serve(socket, service.clone(), shutdown.stopping()))
    });
    for ended in loops.collect::<Vec<_>>() {
        ended.await.expect("a UDP loop does not panic");
    }
}
