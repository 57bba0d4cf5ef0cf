//! One connection and the task that drives it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::error::HttpError;

/// A connection whose driver task ends, and whose socket closes, when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Drives what `connection` is in a task of its own. Its error reaches the request that is in flight; nobody else needs it.
    pub(super) fn driven<T>(
        sender: SendRequest<Full<Bytes>>,
        connection: http1::Connection<T, Full<Bytes>>,
    ) -> Self
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        Self { sender, driver: tokio::spawn(async move { drop(connection.await) }) }
    }
}

/// Opens a connection; the deadline is the caller's.
pub(crate) async fn open(address: SocketAddr) -> Result<Connection, HttpError> {
    let stream = dial(address).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| HttpError::Connect { address, reason: error.to_string() })?;
    Ok(Connection::driven(sender, connection))
}

pub(super) async fn dial(address: SocketAddr) -> Result<TcpStream, HttpError> {
    let failed = |error: std::io::Error| HttpError::Connect { address, reason: error.to_string() };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}
