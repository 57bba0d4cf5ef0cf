//! What ours looks at: real listeners that answer health checks, until they are closed.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::answers::Pools;
use super::zone;
use crate::lease;

/// The port of all of them.
pub(super) const PORT: u16 = 8080;
/// Hosts of the leased network: those of the first pool, and those of the second.
const FIRST: u8 = 101;
const SECOND: u8 = 111;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The listeners of the first pool can be closed; those of the second stay.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) pools: Pools,
    first: Vec<Option<Listening>>,
    _second: Vec<Listening>,
}

/// Ends when dropped.
#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Targets {
    /// Opens all of them.
    pub(super) async fn open_all(network: u16) -> Result<Self> {
        let pool =
            |from: u8| (from..from + zone::ADDRESSES).map(|host| lease::address(network, host)).collect();
        let pools = Pools { first: pool(FIRST), second: pool(SECOND) };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (one, other) in pools.first.iter().zip(&pools.second) {
            first.push(Some(listen(*one).await?));
            second.push(listen(*other).await?);
        }
        Ok(Self { pools, first, _second: second })
    }

    /// Nobody listens there once this returns. The number is one of the first pool's, counted round and round.
    pub(super) async fn close(&mut self, number: usize) {
        let at = number % self.first.len();
        if let Some(mut listening) = self.first[at].take() {
            listening.0.abort();
            // It ends by being aborted, which is an error for whoever waits.
            let _ = (&mut listening.0).await;
        }
    }

    /// Listens there again.
    pub(super) async fn open(&mut self, number: usize) -> Result<()> {
        let at = number % self.first.len();
        self.first[at] = Some(listen(self.pools.first[at]).await?);
        Ok(())
    }
}

async fn listen(address: Ipv4Addr) -> Result<Listening> {
    let address = SocketAddr::from((address, PORT));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("a target listens on {address}"))?;
    Ok(Listening(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(answer(stream))),
                // Out of descriptors, or gone before it was taken.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    })))
}

/// One request of a check, which fits a packet; one that only connects asks nothing.
async fn answer(mut stream: TcpStream) {
    if stream.read(&mut [0; 1_024]).await.is_ok_and(|octets| octets > 0) {
        let _ = stream.write_all(ANSWER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::HttpClient;
    use crate::lease::Lease;

    #[tokio::test]
    async fn a_target_is_there_until_it_is_closed_and_again_once_it_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let lease = Lease::for_test(root.path()).unwrap();
        let mut targets = Targets::open_all(lease.network()).await.unwrap();
        let client = HttpClient::new(SocketAddr::from((targets.pools.first[1], PORT)));
        assert_eq!(client.get("/livez").await.unwrap().status, 200);
        targets.close(5).await;
        assert!(client.get("/livez").await.is_err());
        targets.open(5).await.unwrap();
        assert_eq!(client.get("/livez").await.unwrap().status, 200);
    }
}
