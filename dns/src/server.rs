//! Puts the program together: loads the zones, binds, spawns, and lets the kit run it.

use crate::admin;
use crate::bind;
use crate::clients::Clients;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::notify::Secondary;
use crate::reload::Publisher;
use crate::roster::Roster;
use crate::tcp::{self, Listeners};
use crate::udp::{self, Service};
use service_kit::{Context, Error};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Starts the server and runs it until it is told to stop.
pub async fn start(mut cx: Context<Config>) -> Result<(), Error> {
    let config = cx.settings.clone();
    let mut metrics = None;
    cx.metrics.register(|registry| metrics = Some(Metrics::new(registry)));
    let metrics = metrics.expect("register calls its argument");
    let readiness = cx.readiness.dependency("zones");
    let (roster, requests) = Roster::start(config.steering.clone(), metrics.clone(), cx.tasks.clone())?;
    let publisher = Publisher::start(&config.zones, roster, metrics.clone(), readiness).await?;
    cx.admin_routes(admin::routes(publisher.zones(), requests));
    let service = Service {
        zones: publisher.zones(),
        metrics,
        udp_payload_bytes_max: config.udp_payload_bytes_max,
        extras: Arc::new(config.extras.clone().make(config.tcp.idle_timeout)?),
        exchange: config.transfers.exchange.clone(),
    };
    let listeners = Listeners {
        service: service.clone(),
        clients: Arc::new(Clients::new(&config.tcp)),
        limits: Arc::new(config.tcp.clone()),
        tasks: cx.tasks.clone(),
        shutdown: cx.shutdown.clone(),
    };
    for (index, address) in config.listen.iter().enumerate() {
        let bound = bind::bind(*address, cx.workers, config.udp_receive_buffer_bytes)?;
        let name = if index == 0 { "dns".to_string() } else { format!("dns-{}", index + 1) };
        cx.bound(&name, bound.address);
        serve_udp(&cx, &name, bound.udp, &service)?;
        let listener = tokio::net::TcpListener::from_std(bound.tcp)?;
        let accept = tcp::accept(listener, listeners.clone());
        cx.tasks.spawn(format!("tcp-listener {}", bound.address), accept);
    }
    notify(&cx, &config, &publisher, &service);
    let reloads = cx.reloads();
    let stopping = cx.shutdown.stopping();
    cx.tasks.spawn("reload", async move {
        stopping.run_until_cancelled(publisher.run(config.zones, reloads)).await;
    });
    cx.run().await
}

/// A task for each secondary that is to hear of new serials.
fn notify(cx: &Context<Config>, config: &Config, publisher: &Publisher, service: &Service) {
    for &address in &config.transfers.notify {
        let own = config.listen.iter().map(SocketAddr::ip);
        let secondary = Secondary {
            address,
            source: own.clone().find(|ip| !ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4()),
            key: config.transfers.notify_key.clone(),
            metrics: service.metrics.clone(),
            told: HashMap::new(),
        };
        let (zones, published, stopping) = (publisher.zones(), publisher.published(), cx.shutdown.stopping());
        cx.tasks.spawn(format!("notify {address}"), secondary.run(zones, published, stopping));
    }
}

/// One thread for each socket, so that a thread waits for one thing.
fn serve_udp(
    cx: &Context<Config>,
    name: &str,
    sockets: Vec<std::net::UdpSocket>,
    service: &Service,
) -> std::io::Result<()> {
    let mut waiting = Vec::with_capacity(sockets.len());
    for (index, socket) in sockets.into_iter().enumerate() {
        udp::prepare(&socket)?;
        waiting.push(socket.try_clone()?);
        let (service, stopping) = (service.clone(), cx.shutdown.stopping());
        let work = move || udp::serve(&socket, &service, &stopping);
        cx.tasks.spawn_thread(format!("udp-{index} {name}"), work)?;
    }
    let stopping = cx.shutdown.stopping();
    cx.tasks.spawn(format!("udp-stop {name}"), async move {
        stopping.cancelled().await;
        waiting.iter().for_each(udp::wake);
    });
    Ok(())
}
