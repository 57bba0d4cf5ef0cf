//! The new process: asks for the sockets, and later says that it is ready for them.

use tokio::net::UnixStream;
use tracing::info;

use super::wire::{hear, hear_within, receive, say};
use super::{ANSWER_DEADLINE, Failure, Message, Named, PROTOCOL, Terms, place};

/// Sockets that are ours as soon as we say that we are ready.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) sockets: Vec<Named>,
    stream: UnixStream,
}

/// What the giver says in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It accepts nothing more.
    Yours,
    /// It ended meanwhile; there is only us.
    Alone,
}

/// Asks whoever runs at `terms.socket`; `None` when nobody does.
pub(crate) async fn take(
    terms: &Terms,
    program: &'static str,
    version: &'static str,
) -> Result<Option<Taken>, Failure> {
    let Some(mut stream) = place::connect(&terms.socket).await? else { return Ok(None) };
    let pid = place::check_peer(&stream)?.unwrap_or(0);
    let ask = Message::Take { protocol: PROTOCOL, program: program.into(), version: version.into() };
    // One that refuses may do so, and be gone, before it has heard us; why, is in its answer.
    let _ = say(&mut stream, &ask).await;
    let sockets = match hear_within(&mut stream, ANSWER_DEADLINE).await? {
        Some(Message::Sockets { sockets }) => {
            tokio::time::timeout(ANSWER_DEADLINE, receive(&stream, sockets))
                .await
                .unwrap_or(Err(Failure::Late(ANSWER_DEADLINE)))?
        }
        Some(Message::Refused { reason }) => return Err(Failure::Refused(reason)),
        // It was about to end; as if we had come a little later.
        None => return Ok(None),
        Some(other) => return Err(Failure::Garbled(format!("{other:?}"))),
    };
    info!(pid, sockets = sockets.len(), "taking over from the running process");
    Ok(Some(Taken { sockets, stream }))
}

impl Taken {
    /// Ends when the giver has anything to say before we are ready: it is gone (`Ok`), or it refused after all.
    pub(crate) async fn giver_speaks(&mut self) -> Result<(), Failure> {
        match hear(&mut self.stream).await? {
            None => Ok(()),
            Some(Message::Refused { reason }) => Err(Failure::Refused(reason)),
            Some(other) => Err(Failure::Garbled(format!("{other:?}"))),
        }
    }

    /// Says that we are ready; returns when the giver accepts nothing more.
    pub(crate) async fn ready(mut self) -> Result<Answer, Failure> {
        // Whether it is gone shows in the answer.
        let _ = say(&mut self.stream, &Message::Ready).await;
        match hear_within(&mut self.stream, ANSWER_DEADLINE).await? {
            Some(Message::Yours) => Ok(Answer::Yours),
            None => Ok(Answer::Alone),
            Some(Message::Refused { reason }) => Err(Failure::Refused(reason)),
            Some(other) => Err(Failure::Garbled(format!("{other:?}"))),
        }
    }
}
