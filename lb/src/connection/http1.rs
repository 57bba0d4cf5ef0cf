//! HTTP/1.1 towards a client, and what a connection becomes that switches protocols.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::Client;
use super::io::{Prefixed, Watched};
use super::progress::{Progress, look_every};
use crate::config::Config;
use crate::proxy;
use crate::tunnel::Limits;

/// Serves one connection until either side ends it.
pub(super) async fn serve<S>(stream: S, client: Rc<Client>, config: Arc<Config>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let progress = Rc::new(Progress::http1(Instant::now(), config.pools[0].upstream.body_timeout));
    let io = TokioIo::new(Watched::new(stream, Rc::clone(&progress)));
    let service = service_fn(|request| {
        let (client, progress) = (Rc::clone(&client), Rc::clone(&progress));
        async move { Ok::<_, Infallible>(proxy::serve(client, progress, request).await) }
    });
    let mut builder = http1::Builder::new();
    let header_bytes_max = config.server.header_bytes_max;
    builder.header_read_timeout(None).max_buf_size(header_bytes_max).max_header_size(header_bytes_max);
    // Beyond its default of 100 hyper allocates for each request.
    if config.server.headers_max != 100 {
        builder.max_headers(config.server.headers_max);
    }
    let mut connection = builder.serve_connection(io, service);
    let (worker, peer) = (&client.worker, client.address);
    let mut watchdog = pin!(watch(&progress, &config));
    let mut stopping = pin!(worker.stopping.cancelled());
    let (mut told, mut ended_once) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = &ended {
                    debug!(%peer, %error, "client connection ended");
                }
                match ended {
                    Ok(()) if ended_once || client.switches() => break,
                    Err(error) if ended_once || !error.is_parse() => return,
                    // hyper neither flushes nor closes a connection on which anybody has offered a switch of protocols,
                    // whatever the answer was. Asked again it does, and otherwise there is nothing left to do.
                    Ok(()) | Err(_) => ended_once = true,
                }
                continue;
            }
            reason = watchdog.as_mut() => {
                progress.cut(reason);
                worker.shared.metrics.connection_cut(reason);
                debug!(%peer, reason, "client connection cut");
                return;
            }
            () = stopping.as_mut(), if !told => {}
        }
        told = true;
        if progress.is_asking() {
            // hyper would close it at once, and with it a request that is on its way. Its answer will be the last in any case.
            progress.hurry(Instant::now());
            watchdog.set(watch(&progress, &config));
        } else {
            Pin::new(&mut connection).graceful_shutdown();
        }
    }
    // hyper's own upgrades want a stream that may move between threads; ours never does. It gives the stream back all the
    // same, after the 101 is written, with what the client has sent behind its request.
    let Some(tunnel) = client.tunnel.take() else { return };
    let parts = connection.into_parts();
    let stream = Prefixed { stream: parts.io.into_inner().into_inner(), first: parts.read_buf };
    let limits = Limits { whole: config.server.tunnel_timeout, half: config.server.deadlines.body };
    tunnel.run(stream, limits, &worker.shared.metrics).await;
}

/// Returns when a deadline has passed.
async fn watch(progress: &Progress, config: &Config) -> &'static str {
    let limits = &config.server.deadlines;
    let look = look_every(config);
    loop {
        let now = Instant::now();
        if let Some(name) = progress.slow(limits, now) {
            return name;
        }
        let next = match progress.due(limits) {
            Some((due, name)) if due <= now => return name,
            Some((due, _)) => due.min(now + look),
            None => now + look,
        };
        tokio::time::sleep_until(next.into()).await;
    }
}
