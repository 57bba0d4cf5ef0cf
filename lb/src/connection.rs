//! One client connection, from accept to close: opened ([`opening`]), then spoken on ([`http1`], [`http2`]).
//!
//! hyper has one timer for a request's head and none for anything else, and a timer per request costs. Here the socket
//! and the bodies only note what they wait for since when ([`progress`]), and one watchdog per connection looks at the notes a
//! few times per deadline. So a deadline is kept to about a quarter of the shortest one.
//!
//! The code is made once for plain sockets and once for TLS: a plain connection pays nothing for the other.

mod http1;
mod http2;
mod io;
mod opening;
mod progress;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use tokio::net::TcpStream;
use tracing::debug;

use crate::config::Config;
use crate::headers::{self, Scheme};
use crate::limits::Seat;
use crate::proxy_protocol::Pair;
use crate::ticket::Memo;
use crate::tunnel::Tunnel;
use crate::worker::{Shared, Worker};
pub(crate) use io::Prefixed;
use opening::{Opened, Stream, Unopened};
pub(crate) use progress::{CUTS, Progress};

/// What is expected on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Https,
}

/// The version of HTTP on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Who is at the other end of a connection, and how it is spoken to.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    /// As the socket or a PROXY header says.
    pub(crate) address: SocketAddr,
    /// Its IP address as backends are told.
    pub(crate) address_value: HeaderValue,
    /// Both ends, where backends are told of them.
    pub(crate) pair: Option<Pair>,
    pub(crate) scheme: Scheme,
    pub(crate) protocol: Protocol,
    /// Of the sticky cookie that was opened last.
    pub(crate) memo: RefCell<Memo>,
    /// Left here by the request that switched protocols.
    tunnel: RefCell<Option<Tunnel>>,
}

impl Client {
    /// It becomes a tunnel.
    fn switches(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    /// The connection is the tunnel's once the answer that says so is written.
    pub(crate) fn switch(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }
}

/// Serves one connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, speaks: Speaks, worker: Rc<Worker>) {
    let config = Arc::clone(&worker.shared.snapshot.load().config);
    let shared = &worker.shared;
    // Before a handshake is paid for. A proxy's clients are counted by the addresses that it names.
    let Some(_seat) = take_seat(shared, peer, &config) else { return };
    let last_call = async {
        worker.stopping.cancelled().await;
        tokio::time::sleep(config.server.deadlines.linger).await;
        Err(Unopened::FirstByte)
    };
    let opened = tokio::select! {
        biased;
        opened = opening::open(stream, peer, speaks, &config, &shared.tls, &shared.metrics) => opened,
        late = last_call => late,
    };
    let Opened { stream, client, server } = match opened {
        Ok(opened) => opened,
        Err(unopened) => {
            if let Some(kind) = unopened.kind() {
                shared.metrics.connection_cut(kind);
            }
            debug!(%peer, reason = %unopened, "client connection closed before a request");
            return;
        }
    };
    let named = if client.ip() == peer.ip() { Some(None) } else { take_seat(shared, client, &config) };
    let Some(_named_seat) = named else { return };
    let protocol = match stream {
        Stream::Http1(_) | Stream::TlsHttp1(_) => Protocol::Http1,
        Stream::Http2(_) | Stream::TlsHttp2(_) => Protocol::Http2,
    };
    let client = Rc::new(Client {
        worker,
        address: client,
        address_value: headers::address_value(client.ip()),
        pair: server.map(|server| Pair { client, server }),
        scheme: if speaks == Speaks::Https { Scheme::Https } else { Scheme::Http },
        protocol,
        memo: RefCell::default(),
        tunnel: RefCell::new(None),
    });
    // Boxed: what a plain connection of HTTP/1.1 holds must not grow to the size of the largest of the four.
    match stream {
        Stream::Http1(stream) => http1::serve(stream, client, config).await,
        Stream::TlsHttp1(stream) => Box::pin(http1::serve(*stream, client, config)).await,
        Stream::Http2(stream) => Box::pin(http2::serve(stream, client, config)).await,
        Stream::TlsHttp2(stream) => Box::pin(http2::serve(*stream, client, config)).await,
    }
}

/// A place in the count of a client's connections; `None`: it has all that it may have.
fn take_seat(shared: &Shared, client: SocketAddr, config: &Config) -> Option<Option<Seat>> {
    let seat = shared.counts.connection(client.ip(), &config.limits);
    if seat.is_none() {
        shared.metrics.connection_cut("address-limit");
        debug!(%client, "client connection refused: its address has as many as it may have");
    }
    seat
}
