//! Puts the program together: loads the zones, binds, spawns, and lets the kit run it.

use crate::admin;
use crate::bind;
use crate::clients::Clients;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::notify::Secondary;
use crate::query_log::{self, Control, QueryLog};
use crate::reload::Publisher;
use crate::roster::Roster;
use crate::tcp::{self, Listeners, Speaks};
use crate::tls::{DOT, HTTP, Secure};
use crate::udp::{self, Service};
use service_kit::{Context, Error, lines};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

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
    let (log, log_control) = log_queries(&cx, &config, &metrics)?;
    let service = Service {
        zones: publisher.zones(),
        metrics,
        udp_payload_bytes_max: config.udp_payload_bytes_max,
        extras: Arc::new(config.extras.clone().make(config.tcp.idle_timeout)?),
        exchange: config.transfers.exchange.clone(),
        log,
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
        let accept = tcp::accept(listener, Speaks::Tcp, listeners.clone());
        cx.tasks.spawn(format!("tcp-listener {}", bound.address), accept);
    }
    let secured = serve_encrypted(&cx, &config, &listeners)?;
    notify(&cx, &config, &publisher, &service);
    // The query log is written until nobody is left who could add to it.
    drop((service, listeners));
    let reloads = cx.reloads();
    let stopping = cx.shutdown.stopping();
    cx.tasks.spawn("reload", async move {
        let also = |config: &Config| {
            secured.reload(config);
            log_control.reload(config.query_log.as_ref());
        };
        stopping.run_until_cancelled(publisher.run(config.zones, reloads, also)).await;
    });
    cx.run().await
}

/// Starts the thread that writes the query log; it ends when everything is written and every worker is gone.
fn log_queries(
    cx: &Context<Config>,
    config: &Config,
    metrics: &Metrics,
) -> Result<(QueryLog, Control), Error> {
    let dropped = metrics.query_log_dropped.clone();
    let (log, control, batches) = query_log::channel(config.query_log.as_ref(), dropped.clone());
    let counts = (metrics.query_log_written.clone(), dropped);
    let never = CancellationToken::new();
    let writer = lines::write("query log", control.orders.clone(), batches, counts, never);
    cx.tasks.spawn_worker("query-log", move || writer)?;
    Ok((log, control))
}

/// What is served over TLS, for certificates to be replaced.
struct Secured(Vec<Arc<Secure>>);

impl Secured {
    fn reload(&self, config: &Config) {
        match &config.encrypted {
            Some(encrypted) => {
                for secure in &self.0 {
                    if let Err(error) = secure.replace(&encrypted.certificates) {
                        error!(%error, "certificates kept: the new ones cannot be used");
                    }
                }
            }
            None if !self.0.is_empty() => {
                warn!("tls.listen and https.listen change only with a restart: certificates kept");
            }
            None => {}
        }
    }
}

/// Binds and serves DNS over TLS, where it is wanted.
fn serve_encrypted(cx: &Context<Config>, config: &Config, listeners: &Listeners) -> Result<Secured, Error> {
    let Some(encrypted) = &config.encrypted else { return Ok(Secured(Vec::new())) };
    let secure = |protocols| {
        Secure::new(&encrypted.certificates, protocols, encrypted.handshake_timeout).map(Arc::new)
    };
    let (tls, https) = (secure(DOT)?, secure(HTTP)?);
    let kinds = [
        ("tls", &encrypted.tls_listen, Speaks::Tls(tls.clone())),
        ("https", &encrypted.https_listen, Speaks::Https(https.clone(), encrypted.https.clone())),
    ];
    for (name, addresses, speaks) in kinds {
        for (index, address) in addresses.iter().enumerate() {
            let listener = service_kit::net::bind_tcp(*address)?;
            let bound = listener.local_addr()?;
            cx.bound(&if index == 0 { name.to_string() } else { format!("{name}-{}", index + 1) }, bound);
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let accept = tcp::accept(listener, speaks.clone(), listeners.clone());
            cx.tasks.spawn(format!("{name}-listener {bound}"), accept);
        }
    }
    Ok(Secured(vec![tls, https]))
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
