//! The task's side: the listener while the link is up, and its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection::{carry, dial};
use super::counts::Counters;
use super::fault::Faults;

/// Not accepted yet; beyond it the kernel lets clients wait.
pub(super) const BACKLOG: u32 = 1024;

pub(super) enum Command {
    Cut(oneshot::Sender<io::Result<()>>),
    Restore(oneshot::Sender<io::Result<()>>),
}

/// SO_REUSEPORT, so that the reservation and the listener can hold the port together.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The task's side: the listener while the link is up, and its connections.
pub(super) struct Link {
    pub(super) server: SocketAddr,
    pub(super) faults: watch::Sender<Faults>,
    pub(super) counters: Arc<Counters>,
}

impl Link {
    pub(super) async fn run(
        &self,
        address: SocketAddr,
        first: TcpListener,
        mut inbox: mpsc::Receiver<Command>,
    ) {
        let mut listener = Some(first);
        let mut connections = JoinSet::new();
        let mut cut = CancellationToken::new();
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Cut(done)) => {
                        listener = None;
                        cut.cancel();
                        while connections.join_next().await.is_some() {}
                        cut = CancellationToken::new();
                        drop(done.send(Ok(())));
                    }
                    Some(Command::Restore(done)) => {
                        let restored = match listener.take() {
                            Some(open) => Ok(open),
                            None => bind(address).and_then(|socket| socket.listen(BACKLOG)),
                        };
                        drop(done.send(restored.map(|open| listener = Some(open))));
                    }
                },
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok(client) => {
                        connections.spawn(self.connection(client, cut.clone()));
                    }
                    // Out of descriptors, or a client that left: neither may end the proxy.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn connection(&self, client: TcpStream, cut: CancellationToken) -> impl Future<Output = ()> + use<> {
        let (server, counters) = (self.server, self.counters.clone());
        let faults = self.faults.subscribe();
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        counters.open.fetch_add(1, Ordering::Relaxed);
        let open = OpenGuard(counters);
        async move {
            let mut client = client;
            let mut server = tokio::select! {
                dialled = dial(&mut client, server, faults.clone(), &open.0) => dialled,
                () = cut.cancelled() => None,
            };
            let orderly = match &mut server {
                Some(server) => tokio::select! {
                    ended = carry(&mut client, server, faults, &open.0) => ended.is_ok(),
                    () = cut.cancelled() => false,
                },
                None => false,
            };
            if !orderly {
                open.0.reset.fetch_add(1, Ordering::Relaxed);
                // A peer that is gone already cannot be reset; nothing else can fail here.
                drop(client.set_zero_linger());
                drop(server.map(|server| server.set_zero_linger()));
            }
        }
    }
}

struct OpenGuard(Arc<Counters>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for ever while the link is cut.
async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        None => std::future::pending().await,
    }
}
