//! Cancelling without hitting the wrong query.
//!
//! A client's key leads to its slot, and the slot to the server that works for it at this moment. While a cancel request
//! is on its way the slot says so, and the session keeps the server out of the pool until the request's connection has
//! ended: after that Postgres has delivered its signal, and it cannot reach the next client's query.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::backend::connection::ServerKey;
use crate::wire::message::to_server;
use crate::wire::startup::CancelKey;

/// Longest time for a cancel request to a node.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct State {
    target: Option<(String, ServerKey)>,
    requests: u32,
}

/// One client's place.
#[derive(Debug, Default)]
pub struct Slot {
    // Held for a few instructions.
    state: Mutex<State>,
    finished: Notify,
}

impl Slot {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server works for the client from now on.
    pub fn attach(&self, address: &str, key: &ServerKey) {
        self.state().target = Some((address.to_owned(), key.clone()));
    }

    /// The server's work is done. `false`: a request is on its way; wait with [`Self::requests_done`] and call again.
    pub fn detach(&self) -> bool {
        let mut state = self.state();
        // No request may start from here on, whatever happens to those that run.
        state.target = None;
        state.requests == 0
    }

    /// Waits until no request is on its way.
    pub async fn requests_done(&self) {
        loop {
            let finished = self.finished.notified();
            if self.state().requests == 0 {
                return;
            }
            finished.await;
        }
    }

    fn begin(&self) -> Option<(String, ServerKey)> {
        let mut state = self.state();
        let target = state.target.clone()?;
        state.requests += 1;
        Some(target)
    }

    fn end(&self) {
        self.state().requests -= 1;
        self.finished.notify_waiters();
    }
}

/// All clients by their keys.
#[derive(Debug, Default, Clone)]
pub struct Cancels {
    // Locked at log-in, at the end of a session and by cancel requests.
    slots: Arc<Mutex<HashMap<CancelKey, Arc<Slot>>>>,
}

/// A client's registration; it ends with it.
#[derive(Debug)]
pub struct Registration {
    cancels: Cancels,
    /// Told to the client.
    pub key: CancelKey,
    /// The client's place.
    pub slot: Arc<Slot>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancels.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Cancels {
    /// Gives a client an unpredictable key.
    pub fn register(&self) -> Result<Registration, getrandom::Error> {
        let slot = Arc::new(Slot::default());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let random = getrandom::u64()?;
            // Positive process ids, as clients print them.
            let process_id = ((random >> 32) as u32 & 0x7fff_ffff).cast_signed();
            let key = CancelKey { process_id, secret: (random as u32).cast_signed() };
            if let std::collections::hash_map::Entry::Vacant(place) = slots.entry(key) {
                place.insert(Arc::clone(&slot));
                return Ok(Registration { cancels: self.clone(), key, slot });
            }
        }
    }

    /// Serves one cancel request to its end. `false`: there was nothing to cancel.
    pub async fn cancel(&self, key: CancelKey) -> bool {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let Some(slot) = slot else { return false };
        let Some((address, server)) = slot.begin() else { return false };
        let sent = timeout(REQUEST_LIMIT, request(&address, &server)).await;
        slot.end();
        matches!(sent, Ok(Ok(())))
    }
}

async fn request(address: &str, server: &ServerKey) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut packet = Vec::new();
    to_server::cancel(&mut packet, server.process_id, &server.secret);
    stream.write_all(&packet).await?;
    // Postgres closes after it has signalled; only then is it over.
    let mut nothing = [0; 1];
    stream.read(&mut nothing).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_a_request_under_way_is_held_back() {
        let slot = Slot::default();
        assert!(slot.begin().is_none(), "an idle client");
        slot.attach("a:1", &ServerKey::default());
        assert!(slot.begin().is_some());
        assert!(!slot.detach(), "a request is on its way");
        assert!(slot.begin().is_none(), "too late for a second one");
        slot.end();
        assert!(slot.detach());
    }

    #[tokio::test]
    async fn unknown_keys_cancel_nothing() {
        let cancels = Cancels::default();
        let registration = cancels.register().unwrap();
        assert!(!cancels.cancel(CancelKey { secret: !registration.key.secret, ..registration.key }).await);
        let key = registration.key;
        drop(registration);
        assert!(!cancels.cancel(key).await);
    }
}
