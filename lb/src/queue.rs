//! Where requests wait when every backend that may take them is at its limit: first come, first served, across workers.
//!
//! A place that gets free is handed to the first in the line who can use it, while it is still counted: nobody who comes
//! later can take it in between, exactly one is woken, and whoever is woken has a place. Requests that find room never
//! come here; a request that ends looks at one counter.
//!
//! ```text
//!   join ──► waiting ──place──► has it (dropped unused: offered to the next)
//!               │ ├──look────► the pool has changed: choose again
//!               │ └──time────► leaves; 503 queue-timeout
//!               └ (line full: 503 queue-full)
//! ```
//! No wake-up is lost: whoever joins is in the line *before* it looks for room once more, and whoever gives a place back
//! has given it *before* it looks at the line. The orders of both are sequentially consistent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// The line of one pool. `P` is a place at a backend; it gives itself back when it is dropped.
#[derive(Debug)]
pub(crate) struct Queue<P> {
    /// How many wait; what everybody looks at.
    len: AtomicUsize,
    /// Held for some instructions, never across an await; not touched while nobody waits.
    line: Mutex<Line<P>>,
}

#[derive(Debug)]
struct Line<P> {
    next: u64,
    waiters: VecDeque<Waiter<P>>,
}

#[derive(Debug)]
struct Waiter<P> {
    number: u64,
    /// Ids of the backends that it can use.
    accepts: Vec<u64>,
    sender: oneshot::Sender<Given<P>>,
}

/// Why a wait ended well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given<P> {
    Place(P),
    /// The pool has changed; somebody new may have room.
    Look,
}

/// The line is as long as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl<P> Default for Queue<P> {
    fn default() -> Self {
        Self { len: AtomicUsize::new(0), line: Mutex::new(Line { next: 0, waiters: VecDeque::new() }) }
    }
}

impl<P> Queue<P> {
    /// How many wait now.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// Joins the end of the line. The caller must then look for room once more before it waits.
    pub(crate) fn join(&self, accepts: Vec<u64>, len_max: usize) -> Result<Waiting<'_, P>, Full> {
        let (sender, receiver) = oneshot::channel();
        let mut line = self.lock();
        if line.waiters.len() >= len_max {
            return Err(Full);
        }
        let number = line.next;
        line.next += 1;
        line.waiters.push_back(Waiter { number, accepts, sender });
        self.len.store(line.waiters.len(), Ordering::SeqCst);
        Ok(Waiting { queue: self, number, receiver })
    }

    /// Offers a place that is still counted to the first who can use it. If nobody can, `give_back` uncounts it, in a
    /// moment in which nobody can join.
    fn offer(&self, backend: u64, place: impl FnOnce() -> P, give_back: impl FnOnce()) {
        let mut line = self.lock();
        let Some(at) = line.waiters.iter().position(|waiter| waiter.accepts.contains(&backend)) else {
            give_back();
            return;
        };
        let waiter = line.waiters.remove(at).expect("it was just found there");
        self.len.store(line.waiters.len(), Ordering::SeqCst);
        drop(line);
        // Whoever has left in this moment drops the place, which offers it again.
        drop(waiter.sender.send(Given::Place(place())));
    }

    /// Makes the first `most` choose again: the pool has changed, and that many new places may be there.
    pub(crate) fn look(&self, most: usize) {
        if self.len() == 0 {
            return;
        }
        let mut line = self.lock();
        let most = most.min(line.waiters.len());
        let first: Vec<Waiter<P>> = line.waiters.drain(..most).collect();
        self.len.store(line.waiters.len(), Ordering::SeqCst);
        drop(line);
        for waiter in first {
            drop(waiter.sender.send(Given::Look));
        }
    }

    /// Somebody who panicked in here left a whole line behind: each step ends before the next begins.
    fn lock(&self) -> MutexGuard<'_, Line<P>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a counted place back: to the first who waits for it, or to nobody. `leave` uncounts it, `enter` counts it again if
/// there is room, `place` makes one that is counted. `surplus`: there are more than there should be, and this one goes, unless
/// another one went in the same moment.
pub(crate) fn release<P>(
    queue: &Queue<P>,
    backend: u64,
    place: impl FnOnce() -> P,
    leave: impl Fn(),
    enter: impl FnOnce() -> bool,
    surplus: bool,
) {
    if surplus || queue.len() == 0 {
        leave();
        // Whoever joined in between, or waited for all of the surplus to go, may have looked for room before there was any.
        if queue.len() == 0 || !enter() {
            return;
        }
    }
    queue.offer(backend, place, leave);
}

/// A place in the line; leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'q, P> {
    queue: &'q Queue<P>,
    number: u64,
    receiver: oneshot::Receiver<Given<P>>,
}

impl<P> Waiting<'_, P> {
    /// Waits for a place until `until`; `None` if the time is over.
    pub(crate) async fn given(&mut self, until: Instant) -> Option<Given<P>> {
        match tokio::time::timeout_at(until.into(), &mut self.receiver).await {
            Ok(Ok(given)) => Some(given),
            // Senders are dropped only after they were used.
            Ok(Err(_)) | Err(_) => self.receiver.try_recv().ok(),
        }
    }

    /// Accepts more than before, at the same position. `false`: a place is on its way already.
    pub(crate) fn accept(&self, accepts: Vec<u64>) -> bool {
        let mut line = self.queue.lock();
        let waiter = line.waiters.iter_mut().find(|waiter| waiter.number == self.number);
        waiter.map(|waiter| waiter.accepts = accepts).is_some()
    }
}

impl<P> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        let mut line = self.queue.lock();
        // Numbers grow along the line.
        if let Ok(at) = line.waiters.binary_search_by_key(&self.number, |waiter| waiter.number) {
            line.waiters.remove(at);
            self.queue.len.store(line.waiters.len(), Ordering::SeqCst);
        }
        drop(line);
        // Closing first: a place sent from now on returns to its sender, one sent before is dropped here.
        self.receiver.close();
        drop(self.receiver.try_recv());
    }
}

#[cfg(test)]
mod tests;
