//! Moving bytes: both sockets at once, so that neither side can block the other for good.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{End, Mode, OUTBOX_BYTES_MAX, Session};
use crate::wire::report::{Report, sqlstate};

/// Read at once; also the most that a session keeps of a client that must wait.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    // Shared by all sessions of a worker: an idle session owns no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// For what a session waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// For a client without a transaction to say something.
    Idle,
    /// For a client that holds a server.
    Transaction,
    /// For a client to read.
    ClientRead,
    /// For a server; the probes find out when it is dead.
    Server,
}

/// What ended a wait.
enum Woken {
    Moved,
    Expired,
    ServerLost(String),
    ClientLost,
}

impl Session {
    /// Waits until some byte has moved.
    pub(super) async fn wait(&mut self) -> Result<(), End> {
        let wait = self.set_deadline();
        let woken = std::future::poll_fn(|cx| self.poll_move(cx)).await;
        match woken {
            Woken::Moved => {
                self.waits = None;
                Ok(())
            }
            Woken::ClientLost => Err(End::Left),
            Woken::ServerLost(reason) => self.on_server_lost(&reason),
            Woken::Expired => Err(expired(wait)),
        }
    }

    fn set_deadline(&mut self) -> Wait {
        let wait = if !self.outbox.is_empty() {
            Wait::ClientRead
        } else if self.server.is_none() {
            Wait::Idle
        } else if self.expects.is_empty() || self.expects.is_copy_in() || self.mode == Mode::Open {
            Wait::Transaction
        } else {
            Wait::Server
        };
        let config = &self.local.shared.config;
        let limit: Option<Duration> = match wait {
            Wait::Idle => config.client_idle_timeout,
            Wait::Transaction => config.transaction_idle_timeout,
            Wait::ClientRead => Some(config.client_write_timeout),
            Wait::Server => None,
        };
        let now = self.local.now.get();
        let since = match self.waits {
            Some((same, since)) if same == wait => since,
            _ => now,
        };
        self.waits = Some((wait, since));
        self.handle.deadline.set(limit.map(|limit| since + limit));
        wait
    }

    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        self.handle.sleep(cx.waker());
        if self.handle.expired.take() {
            return Poll::Ready(Woken::Expired);
        }
        if self.handle.severed.take() && self.server.is_some() {
            return Poll::Ready(Woken::ServerLost("the node is no longer what it was".to_owned()));
        }
        if self.handle.stopping.get() && self.is_at_rest() && self.outbox.is_empty() && self.inbox.is_empty()
        {
            return Poll::Ready(Woken::Moved);
        }
        let mut moved = false;
        if let Poll::Ready(woken) = self.poll_write(cx, &mut moved) {
            return Poll::Ready(woken);
        }
        if let Poll::Ready(woken) = self.poll_read(cx, &mut moved) {
            return Poll::Ready(woken);
        }
        if moved { Poll::Ready(Woken::Moved) } else { Poll::Pending }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<Woken> {
        match poll_flush(&mut self.client, &mut self.outbox, cx) {
            Poll::Ready(Err(_)) => return Poll::Ready(Woken::ClientLost),
            Poll::Ready(Ok(written)) => *moved |= written,
            Poll::Pending => {}
        }
        if let Some(server) = &mut self.server {
            match poll_flush(&mut server.stream, &mut self.to_server, cx) {
                // What the server said before it went may still be readable, and tells more than the broken pipe.
                Poll::Ready(Err(_)) => self.to_server.clear(),
                Poll::Ready(Ok(written)) => *moved |= written,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<Woken> {
        SCRATCH.with_borrow_mut(|scratch| {
            if let Some(server) = &mut self.server
                && self.outbox.len() < OUTBOX_BYTES_MAX
            {
                match poll_some(&mut server.stream, scratch, cx) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Woken::ServerLost("the server closed the connection".to_owned()));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Woken::ServerLost(error.to_string())),
                    Poll::Ready(Ok(count)) => {
                        server.inbox.extend_from_slice(&scratch[..count]);
                        *moved = true;
                    }
                    Poll::Pending => {}
                }
            }
            if !self.client_left && (self.inbox.len() < READ_BYTES || self.needs_more()) {
                match poll_some(&mut self.client, scratch, cx) {
                    Poll::Ready(Ok(0)) => self.client_left = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(Woken::ClientLost),
                    Poll::Ready(Ok(count)) => self.inbox.extend_from_slice(&scratch[..count]),
                    Poll::Pending => return Poll::Pending,
                }
                *moved = true;
            }
            Poll::Pending
        })
    }
}

fn expired(wait: Wait) -> End {
    let (code, message, hint) = match wait {
        Wait::Idle => (
            sqlstate::IDLE_SESSION,
            "terminating connection due to idle-session timeout",
            "server.client_idle_timeout_ms of the proxy is the limit",
        ),
        Wait::Transaction => (
            sqlstate::IDLE_IN_TRANSACTION,
            "terminating connection due to idle-in-transaction timeout",
            "end transactions soon; server.transaction_idle_timeout_ms of the proxy is the limit",
        ),
        Wait::ClientRead | Wait::Server => return End::Cut("it did not read its answer in time"),
    };
    End::Told(Report::fatal(code, message, "reported by db-proxy", hint))
}

/// Writes as much as goes; ready with whether anything went.
fn poll_flush<S: AsyncWrite + Unpin>(
    stream: &mut S,
    out: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let mut written = false;
    while !out.is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, out) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => {
                out.advance(count);
                written = true;
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if written => break,
            Poll::Pending => return Poll::Pending,
        }
    }
    if written && out.is_empty() {
        // An idle session keeps no buffer.
        *out = BytesMut::new();
    }
    Poll::Ready(Ok(written))
}

fn poll_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    into: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
