//! The backend behind every subject: takes what comes, notes it, and answers what the case says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::case::{Case, ReplyAt};
use super::http1::{self, Kind, Message};

/// How long what was noted may go on changing.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// A request as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) message: Message,
    /// What followed a switch of protocols.
    pub(super) tunnel: Vec<u8>,
}

/// What it answers, and what has arrived since it was told so. The lock is held for no longer than a copy.
#[derive(Debug, Default)]
struct Notes {
    script: Option<Arc<Case>>,
    /// Counts the cases: what a connection of an earlier one still brings is nobody's.
    turn: u64,
    seen: Vec<Seen>,
}

type Shared = Arc<Mutex<Notes>>;

/// One listener; ends when dropped.
#[derive(Debug)]
pub(super) struct Origin {
    notes: Shared,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    pub(super) async fn listen(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("origin at {address}"))?;
        let notes = Shared::default();
        let shared = Arc::clone(&notes);
        let task = tokio::spawn(async move {
            loop {
                // An error is one connection's.
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        });
        Ok(Self { notes, task })
    }

    /// From now on it answers as this case says, and nothing has arrived.
    pub(super) fn expect(&self, case: &Case) {
        let mut notes = lock(&self.notes);
        notes.script = Some(Arc::new(case.clone()));
        notes.turn += 1;
        notes.seen.clear();
    }

    /// What has arrived, once nothing was added to it for so long.
    pub(super) async fn seen(&self, quiet: Duration) -> Vec<Seen> {
        let started = Instant::now();
        let mut before = lock(&self.notes).seen.clone();
        loop {
            tokio::time::sleep(quiet).await;
            let now = lock(&self.notes).seen.clone();
            if now == before || started.elapsed() > SETTLE_MAX {
                return now;
            }
            before = now;
        }
    }
}

fn lock(notes: &Shared) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where one connection's current request is noted.
struct Entry {
    turn: u64,
    index: usize,
    script: Arc<Case>,
    answered: bool,
}

impl Entry {
    fn begin(notes: &Shared) -> Option<Self> {
        let mut notes = lock(notes);
        let script = notes.script.clone()?;
        notes.seen.push(Seen::default());
        Some(Self { turn: notes.turn, index: notes.seen.len() - 1, script, answered: false })
    }

    fn note(&self, notes: &Shared, change: impl FnOnce(&mut Seen)) {
        let mut notes = lock(notes);
        if notes.turn == self.turn
            && let Some(seen) = notes.seen.get_mut(self.index)
        {
            change(seen);
        }
    }
}

async fn serve(mut stream: TcpStream, notes: Shared) {
    let (mut buffer, mut current) = (Vec::new(), None::<Entry>);
    loop {
        while let Some((message, used)) = http1::read(&buffer, Kind::Request) {
            let whole = message.whole;
            if current.is_none() {
                current = Entry::begin(&notes);
            }
            let Some(entry) = &mut current else { return };
            let to_head = message.line.starts_with("HEAD ");
            entry.note(&notes, |seen| seen.message = message);
            if (whole || entry.script.reply_at == ReplyAt::Head) && !entry.answered {
                entry.answered = true;
                if answer(&mut stream, &entry.script, to_head).await.is_none() {
                    return;
                }
            }
            if !whole {
                break;
            }
            buffer.drain(..used);
            if entry.script.reply.starts_with(b"HTTP/1.1 101 ") {
                return tunnel(stream, &notes, entry, buffer).await;
            }
            current = None;
        }
        match stream.read_buf(&mut buffer).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}

/// `None` if nothing more is to be said on this connection.
async fn answer(stream: &mut TcpStream, script: &Case, to_head: bool) -> Option<()> {
    if script.reply_delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(script.reply_delay_ms)).await;
    }
    let body = if to_head && !script.reply_matters { b"ok".len() } else { 0 };
    stream.write_all(&script.reply[..script.reply.len() - body]).await.ok()?;
    if !script.reply_end {
        return Some(());
    }
    stream.shutdown().await.ok()?;
    // Read what is on its way: a reset could overtake the answer.
    let mut rest = [0; 4_096];
    let drained = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), drained).await;
    None
}

async fn tunnel(mut stream: TcpStream, notes: &Shared, entry: &Entry, mut bytes: Vec<u8>) {
    loop {
        entry.note(notes, |seen| seen.tunnel.clone_from(&bytes));
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}
