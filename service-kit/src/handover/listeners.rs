//! What a program listens on: sockets of the process before it first, and only then new ones.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::Named;
use crate::net;

/// Hands out listeners, and keeps a second handle of each for a successor.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    inherited: Vec<Named>,
    kept: Vec<Named>,
    keeps: bool,
}

impl Listeners {
    /// `keeps`: there may be a successor.
    pub(crate) fn new(inherited: Vec<Named>, keeps: bool) -> Self {
        Self { inherited, kept: Vec::new(), keeps }
    }

    /// One listener.
    pub(crate) fn one(&mut self, name: &str, wanted: SocketAddr) -> io::Result<TcpListener> {
        let listener = match self.inherited(name, wanted).pop() {
            Some(listener) => listener,
            None => net::bind_tcp(wanted)?,
        };
        self.keep(name, &listener)?;
        Ok(listener)
    }

    /// Listeners for `workers` threads, at least one each.
    pub(crate) fn group(
        &mut self,
        name: &str,
        wanted: SocketAddr,
        workers: usize,
    ) -> io::Result<Vec<Vec<TcpListener>>> {
        let mut listeners = self.inherited(name, wanted);
        if listeners.is_empty() {
            listeners = net::bind_tcp_group(wanted, workers)?;
        }
        for listener in &listeners {
            self.keep(name, listener)?;
        }
        deal(listeners, workers)
    }

    /// What the process before had and nobody asked for, and the handles for a successor.
    pub(crate) fn finish(self) -> (Vec<Named>, Vec<Named>) {
        (self.inherited, self.kept)
    }

    fn inherited(&mut self, name: &str, wanted: SocketAddr) -> Vec<TcpListener> {
        let fits = |socket: &mut Named| {
            let (got, any_port) = (socket.address, wanted.port() == 0);
            got == wanted || any_port && got.ip() == wanted.ip() && socket.name == name
        };
        self.inherited.extract_if(.., fits).map(|socket| socket.listener).collect()
    }

    fn keep(&mut self, name: &str, listener: &TcpListener) -> io::Result<()> {
        if self.keeps {
            let (address, listener) = (listener.local_addr()?, listener.try_clone()?);
            self.kept.push(Named { name: name.to_owned(), address, listener });
        }
        Ok(())
    }
}

/// Gives every socket to a worker, and every worker a socket. With more workers than sockets some share one, instead of new
/// sockets beside them: the kernel would send those connections before anybody accepts there.
fn deal(listeners: Vec<TcpListener>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let (sockets, workers) = (listeners.len(), workers.max(1));
    let mut dealt: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for worker in sockets..workers {
        dealt[worker].push(listeners[worker % sockets].try_clone()?);
    }
    for (index, listener) in listeners.into_iter().enumerate() {
        dealt[index % workers].push(listener);
    }
    Ok(dealt)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sockets and workers -> listeners of each worker.
    #[track_caller]
    fn check(sockets: usize, workers: usize, expected: &[usize]) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let dealt = deal(net::bind_tcp_group(any, sockets).unwrap(), workers).unwrap();
        assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_socket_and_every_worker_is_served() {
        check(2, 2, &[1, 1]);
        check(4, 2, &[2, 2]);
        check(3, 2, &[2, 1]);
        check(2, 5, &[1, 1, 1, 1, 1]);
    }

    #[test]
    fn what_was_there_is_used_by_address_and_the_rest_is_left() {
        let bind = |ip: [u8; 4]| net::bind_tcp_group(SocketAddr::from((ip, 0)), 1).unwrap().remove(0);
        let named = |name: &str, listener: TcpListener| Named {
            name: name.into(),
            address: listener.local_addr().unwrap(),
            listener,
        };
        let (http, other) = (named("http", bind([127, 0, 0, 1])), named("http", bind([127, 0, 0, 2])));
        let (http_address, other_address) = (http.address, other.address);
        let mut listeners = Listeners::new(vec![http, other], true);
        // By address, whatever it was called; port 0 is any port of that name at that address.
        let site = listeners.group("site", other_address, 2).unwrap();
        assert_eq!(site[1][0].local_addr().unwrap(), other_address);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_ne!(listeners.one("admin", any).unwrap().local_addr().unwrap(), http_address);
        let (left, kept) = listeners.finish();
        assert_eq!(left.iter().map(|it| it.address).collect::<Vec<_>>(), [http_address]);
        assert_eq!(kept.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["site", "admin"]);
    }
}
