//! A proxy in front of Postgres that can cut a connection at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Passes everything through; when armed, the next COMMIT is delivered, its answer is waited for and thrown away, and
/// both sides are hung up on.
#[derive(Debug)]
pub(crate) struct CommitCutter {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    armed: AtomicBool,
    cuts: AtomicU32,
}

impl CommitCutter {
    pub(crate) async fn start(postgres_port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, postgres_port, shared.clone()));
            }
        });
        Ok(Self { port, state })
    }

    pub(crate) fn cut_next(&self) {
        self.state.armed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn cuts(&self) -> u32 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, port: u16, state: Arc<State>) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                let commits = bytes.windows(6).any(|window| window == b"COMMIT");
                server.write_all(bytes).await?;
                if commits && state.armed.swap(false, Ordering::SeqCst) {
                    state.cuts.fetch_add(1, Ordering::SeqCst);
                    // The answer proves that it happened.
                    let answer = server.read(&mut answered).await?;
                    assert!(answer > 0, "Postgres hung up first");
                    return Ok(());
                }
            }
            read = server.read(&mut answered) => {
                let bytes = &answered[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}
