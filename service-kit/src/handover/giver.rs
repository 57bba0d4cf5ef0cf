//! The running process: waits for a successor and gives it the sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::wire::{hear_within, pass, say};
use super::{ANSWER_DEADLINE, Failure, Label, Message, Named, PROTOCOL, Place, place};

/// Processes that may ask at once; one gets an answer other than "busy".
const ASKING_MAX: usize = 8;

/// What the running process gives away, and to whom.
#[derive(Debug)]
pub(crate) struct Giver {
    pub(crate) program: &'static str,
    pub(crate) sockets: Vec<Named>,
    pub(crate) ready_timeout: Duration,
}

impl Giver {
    /// Ends when a successor has everything. `retire` is called before it is told so: whatever accepts must stop then.
    /// Dropping this ends the conversation with whoever is asking, who then goes on alone.
    pub(crate) async fn give(self, place: &Place, retire: impl Fn() + Send + Sync + 'static) {
        let giver = Arc::new(self);
        let retire = Arc::new(retire);
        let turn = Arc::new(Semaphore::new(1));
        let mut asking: JoinSet<bool> = JoinSet::new();
        loop {
            tokio::select! {
                accepted = place.listener.accept(), if asking.len() < ASKING_MAX => match accepted {
                    Ok((stream, _)) => {
                        let (giver, retire) = (Arc::clone(&giver), Arc::clone(&retire));
                        let turn = Arc::clone(&turn).try_acquire_owned().ok();
                        asking.spawn(async move { giver.answer(stream, turn, &*retire).await });
                    }
                    Err(error) => {
                        warn!(%error, "hand-over: cannot accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(given) = asking.join_next() => if given.unwrap_or(false) {
                    return;
                },
            }
        }
    }

    /// True once everything is the other's.
    async fn answer(
        &self,
        mut stream: UnixStream,
        turn: Option<OwnedSemaphorePermit>,
        retire: &(impl Fn() + Sync),
    ) -> bool {
        let pid = match place::check_peer(&stream) {
            Ok(pid) => pid.unwrap_or(0),
            Err(error) => {
                warn!(%error, "hand-over refused");
                return false;
            }
        };
        let outcome = match turn {
            Some(_turn) => self.give_to(&mut stream, pid, retire).await,
            None => Err(Failure::Refused("another process is taking over".into())),
        };
        let Err(error) = outcome else { return true };
        warn!(pid, %error, "hand-over came to nothing; serving on");
        let reason = match error {
            Failure::Refused(reason) => reason,
            other => other.to_string(),
        };
        // It may be gone; then there is nobody to tell.
        let refused = Message::Refused { reason };
        let _ = tokio::time::timeout(ANSWER_DEADLINE, say(&mut stream, &refused)).await;
        false
    }

    async fn give_to(&self, stream: &mut UnixStream, pid: i32, retire: &impl Fn()) -> Result<(), Failure> {
        let version = match hear_within(stream, ANSWER_DEADLINE).await? {
            Some(Message::Take { protocol, .. }) if protocol != PROTOCOL => {
                let reason = format!(
                    "it speaks version {protocol} of the protocol and we speak {PROTOCOL}; stop this process and start the other"
                );
                return Err(Failure::Refused(reason));
            }
            Some(Message::Take { program, .. }) if program != self.program => {
                return Err(Failure::Refused(format!("this is {}, not {program}", self.program)));
            }
            Some(Message::Take { version, .. }) => version,
            other => return Err(unexpected(other)),
        };
        info!(pid, version, sockets = self.sockets.len(), "hand-over begins");
        let label = |it: &Named| Label { name: it.name.clone(), address: it.address };
        let sockets = self.sockets.iter().map(label).collect();
        let sent = async {
            say(stream, &Message::Sockets { sockets }).await?;
            pass(stream, &self.sockets).await
        };
        tokio::time::timeout(ANSWER_DEADLINE, sent).await.unwrap_or(Err(Failure::Late(ANSWER_DEADLINE)))?;
        // Twice what the other allows itself, so that it is the one to say what it lacks.
        match hear_within(stream, 2 * self.ready_timeout).await? {
            Some(Message::Ready) if place::is_there(stream) => {}
            Some(Message::Ready) => return Err(unexpected(None)),
            other => return Err(unexpected(other)),
        }
        retire();
        info!(pid, "handed over: draining");
        // Gone now or not, the sockets are its own: a supervisor starts it again as it would us.
        let _ = tokio::time::timeout(ANSWER_DEADLINE, say(stream, &Message::Yours)).await;
        Ok(())
    }
}

fn unexpected(message: Option<Message>) -> Failure {
    match message {
        None => Failure::Gone,
        Some(message) => Failure::Garbled(format!("{message:?}")),
    }
}
