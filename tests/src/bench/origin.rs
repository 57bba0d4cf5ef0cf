//! The backend of every subject: as little as HTTP/1.1 allows, answers made once, one thread.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longest request head that is read.
const HEAD_BYTES_MAX: usize = 16_384;

/// What is asked for, and what must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// 128 bytes.
    Small,
    /// 64 KiB.
    Large,
}

impl Page {
    /// The path that asks for it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Small => "/small",
            Self::Large => "/large",
        }
    }

    /// The body that answers it.
    pub fn body(self) -> Bytes {
        let length = match self {
            Self::Small => 128,
            Self::Large => 65_536,
        };
        // No two neighbouring blocks are alike, so a block that is missing, doubled or moved shows.
        (0_u32..length).map(|at| b'a' + u8::try_from((at + at / 97) % 26).expect("less than 26")).collect()
    }
}

/// Listens at all addresses and answers until its runtime ends. Must run inside a `LocalSet`.
pub async fn serve(addresses: Vec<SocketAddr>) -> Result<()> {
    for (number, address) in addresses.into_iter().enumerate() {
        let listener = TcpListener::bind(address).await.with_context(|| format!("origin at {address}"))?;
        let answers = Rc::new(Answers::new(number));
        tokio::task::spawn_local(async move {
            loop {
                // An error is one connection's, or a lack of descriptors, which the client will report.
                let Ok((stream, _)) = listener.accept().await else { continue };
                let answers = Rc::clone(&answers);
                tokio::task::spawn_local(async move { answers.connection(stream).await });
            }
        });
    }
    Ok(())
}

/// Whole answers, heads included.
struct Answers {
    small: Bytes,
    large: Bytes,
    health: Bytes,
    missing: Bytes,
}

impl Answers {
    fn new(number: usize) -> Self {
        let health = format!(r#"{{"status":"ready","instance":"origin-{number}","generation":"1"}}"#);
        Self {
            small: answer("200 OK", "text/plain", &Page::Small.body()),
            large: answer("200 OK", "text/plain", &Page::Large.body()),
            health: answer("200 OK", "application/json", health.as_bytes()),
            missing: answer("404 Not Found", "text/plain", b"no such page"),
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; HEAD_BYTES_MAX];
        let mut filled = 0;
        loop {
            while let Some(end) = super::closed_loop::head_end(&buffer[..filled]) {
                let head = &buffer[..end];
                stream.write_all(self.to(head)).await?;
                if head.windows(17).any(|window| window.eq_ignore_ascii_case(b"connection: close")) {
                    return Ok(());
                }
                buffer.copy_within(end..filled, 0);
                filled -= end;
            }
            match stream.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                count => filled += count,
            }
        }
    }

    fn to(&self, head: &[u8]) -> &[u8] {
        let line = head.strip_prefix(b"GET ").unwrap_or_default();
        if line.starts_with(b"/small ") {
            &self.small
        } else if line.starts_with(b"/large ") {
            &self.large
        } else if line.starts_with(b"/readyz ") {
            &self.health
        } else {
            &self.missing
        }
    }
}

fn answer(status: &str, kind: &str, body: &[u8]) -> Bytes {
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: origin\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}
