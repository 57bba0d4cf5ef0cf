//! Connections that were used once and then stay open.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bench::origin::Page;

/// Opens `count` connections, one after the other, each with one request that is answered.
pub(super) async fn open(target: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let request = format!("GET {} HTTP/1.1\r\nHost: bench.example.com\r\n\r\n", Page::Small.path());
    let body = Page::Small.body();
    let mut buffer = vec![0; 4_096];
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let nth = || format!("idle connection {number}");
        let mut stream = TcpStream::connect(target).await.with_context(nth)?;
        stream.write_all(request.as_bytes()).await.with_context(nth)?;
        let mut filled = 0;
        while !buffer[..filled].ends_with(&body) {
            let read = stream.read(&mut buffer[filled..]).await.with_context(nth)?;
            ensure!(read > 0, "{} ended: {}", nth(), String::from_utf8_lossy(&buffer[..filled]));
            filled += read;
        }
        streams.push(stream);
    }
    Ok(streams)
}
