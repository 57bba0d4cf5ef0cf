//! A byte stream in memory for hyper: what it reads is given in pieces, what it writes is kept. Nothing ever waits.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::head::Heads;

/// After so many turns in which nothing moved, nothing will; reading a body, a piece each turn, moves nothing either.
pub(super) const IDLE_TURNS_MAX: usize = 16;

/// What happens when the bytes are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The other side closes.
    End,
    /// The other side is silent.
    Wait,
}

#[derive(Debug)]
pub(super) struct Memory {
    pub(super) input: Vec<u8>,
    pub(super) at: usize,
    /// Bytes given at a time, at least 1.
    pub(super) piece: usize,
    pub(super) then: Then,
    pub(super) output: Rc<RefCell<Vec<u8>>>,
    /// It reads nothing before something was written: it is asked first.
    pub(super) answers: bool,
    /// Sees everything that is read, as it does on a client's connection.
    pub(super) heads: Option<Rc<RefCell<Heads>>>,
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let left = &self.input[self.at..];
        let is_asked = !self.answers || !self.output.borrow().is_empty();
        if !is_asked || left.is_empty() && self.then == Then::Wait {
            return Poll::Pending;
        }
        let next = &left[..self.piece.min(left.len()).min(buffer.remaining())];
        buffer.put_slice(next);
        if let Some(heads) = &self.heads {
            heads.borrow_mut().feed(next);
        }
        let read = next.len();
        self.at += read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        self.output.borrow_mut().extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Drives a future over memory: its result, or nothing once it stands still. `moved` grows with whatever it does.
pub(super) fn drive<F: Future>(
    future: F,
    moved: impl Fn() -> usize,
    idle_turns_max: usize,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let (mut idle, mut before) = (0, moved());
    while idle < idle_turns_max {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return Some(result);
        }
        let now = moved();
        idle = if now == before { idle + 1 } else { 0 };
        before = now;
    }
    None
}
