//! Something that an address record can point at: a small HTTP server in this process, really gone when it is killed.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Longest request head that is read.
const HEAD_BYTES_MAX: usize = 8_192;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhere\n";

/// A target that lives until it is killed or dropped.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Target {
    pub(crate) async fn start(address: SocketAddr) -> Result<Self> {
        let mut target = Self { address, serving: None };
        target.revive().await?;
        Ok(target)
    }

    /// Listens again after a kill.
    pub(crate) async fn revive(&mut self) -> Result<()> {
        let address = self.address;
        let listener = TcpListener::bind(address).await.with_context(|| format!("target at {address}"))?;
        self.serving = Some(tokio::spawn(serve(listener)));
        Ok(())
    }

    /// Closes the listener and every connection: from now on the address refuses.
    pub(crate) async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Aborted, as asked; its sockets are closed by then.
            let _ = serving.await;
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn serve(listener: TcpListener) {
    // Dropped with this task, and with it all connections.
    let mut connections = JoinSet::new();
    loop {
        // An error is one connection's, or a lack of descriptors, which the client will report.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        if stream.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        while let Some(end) = head.windows(4).position(|it| it == b"\r\n\r\n") {
            head.drain(..end + 4);
            stream.write_all(ANSWER).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::HttpClient;

    #[tokio::test]
    async fn a_killed_target_refuses_until_it_lives_again() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut target = Target::start(free).await.unwrap();
        let open = TcpStream::connect(free).await.unwrap();
        assert_eq!(HttpClient::new(free).get("/").await.unwrap().text(), "here\n");
        target.kill().await;
        assert!(TcpStream::connect(free).await.is_err());
        // The connection from before is gone as well, in one way or another.
        let mut left = open;
        assert!(matches!(left.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        target.revive().await.unwrap();
        assert_eq!(HttpClient::new(free).get("/").await.unwrap().text(), "here\n");
    }
}
