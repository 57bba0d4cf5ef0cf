//! From the client to the server: where batches begin, where they go, and which need no server.

use bytes::Buf as _;

use super::batch::{Batch, look_ahead};
use super::{End, Mode, OUTBOX_BYTES_MAX, Passing, Session};
use crate::classify::{Class, Effect};
use crate::metrics::Route;
use crate::wire::frame::{self, BadLength, Frame, HEADER_BYTES};
use crate::wire::message::{Status, to_client};
use crate::wire::report::{Report, sqlstate};

/// What the client's side needs to go on.
pub(super) enum Next {
    /// Bytes, or replies, or room.
    Wait,
    /// A server for this batch.
    Checkout(Batch),
}

/// What became of one message.
pub(super) enum Step {
    Taken,
    /// It must be here as a whole, and is not.
    More,
}

impl From<BadLength> for End {
    fn from(error: BadLength) -> Self {
        Self::Told(violation(&error.to_string()))
    }
}

pub(super) fn violation(what: &str) -> Report {
    Report::fatal(sqlstate::PROTOCOL_VIOLATION, what, "reported by db-proxy", "check the client's driver")
}

impl Session {
    /// Works through what the client sent.
    pub(super) fn advance_client(&mut self) -> Result<Next, End> {
        loop {
            if self.to_server.len() >= OUTBOX_BYTES_MAX || self.outbox.len() >= OUTBOX_BYTES_MAX {
                return Ok(Next::Wait);
            }
            if self.from_client.bytes > 0 {
                if self.inbox.is_empty() {
                    return Ok(Next::Wait);
                }
                self.pass_to_server();
                continue;
            }
            let Some(frame) = frame::peek(&self.inbox)? else { return Ok(Next::Wait) };
            if matches!(frame.tag, b'd' | b'c' | b'f') {
                self.on_copy_message(frame);
                continue;
            }
            let step = match self.mode {
                Mode::Discarding => self.discard(frame)?,
                Mode::Open => self.translate(frame)?,
                Mode::Boundary if frame.tag == b'X' => match self.expects.is_empty() {
                    true => return Err(End::Left),
                    false => Step::More, // what was asked before is still answered
                },
                Mode::Boundary => match self.begin_batch()? {
                    Ok(step) => step,
                    Err(batch) => return Ok(Next::Checkout(batch)),
                },
            };
            if matches!(step, Step::More) {
                return Ok(Next::Wait);
            }
        }
    }

    /// Whether more than the usual must be read, because a message only makes sense as a whole.
    pub(super) fn needs_more(&self) -> bool {
        let config = &self.local.shared.config;
        let limit = match self.mode {
            Mode::Boundary if self.server.is_none() => config.batch_bytes_max,
            Mode::Open => config.statement_bytes_max.max(config.classify_bytes_max),
            _ => return false,
        };
        self.inbox.len() < limit.saturating_add(HEADER_BYTES)
            && matches!(frame::peek(&self.inbox), Ok(Some(frame)) if frame.bytes > self.inbox.len())
    }

    /// Removes bytes from the inbox, minding what the replay knows of them.
    pub(super) fn take(&mut self, count: usize) {
        self.inbox.advance(count);
        self.batch_left = self.batch_left.saturating_sub(count);
        self.replay.again = self.replay.again.saturating_sub(count);
        if self.inbox.is_empty() {
            self.inbox = bytes::BytesMut::new();
        }
    }

    pub(super) fn pass_to_server(&mut self) {
        let count = self.from_client.bytes.min(self.inbox.len());
        if !self.from_client.away {
            self.to_server.extend_from_slice(&self.inbox[..count]);
        }
        self.from_client.bytes -= count;
        self.take(count);
    }

    /// Passes the message on, or away, in whatever pieces it comes.
    pub(super) fn pass(&mut self, frame: Frame, away: bool) {
        self.from_client = Passing { bytes: frame.bytes, away };
        self.pass_to_server();
    }

    fn on_copy_message(&mut self, frame: Frame) {
        // Without a server, or with one that owes nothing, this is the rest of a copy that failed; Postgres ignores it too.
        let wanted = self.server.is_some() && !self.expects.is_empty() && self.mode != Mode::Discarding;
        if frame.tag != b'd' {
            self.expects.copy_ended();
        }
        self.pass(frame, !wanted);
    }

    fn discard(&mut self, frame: Frame) -> Result<Step, End> {
        match frame.tag {
            b'X' => Err(End::Left),
            b'S' => {
                let mut out = Vec::new();
                to_client::ready(&mut out, Status::Idle);
                self.outbox.extend_from_slice(&out);
                self.mode = Mode::Boundary;
                self.pass(frame, true);
                Ok(Step::Taken)
            }
            _ => {
                self.pass(frame, true);
                Ok(Step::Taken)
            }
        }
    }

    /// Decides over the batch that begins here: open it on the server in hand, wait, answer it, or ask for a server.
    fn begin_batch(&mut self) -> Result<Result<Step, Batch>, End> {
        if self.server.is_some() {
            // In a transaction the server is fixed; a primary takes anything.
            let in_transaction = self.expects.is_empty() && self.status != Status::Idle;
            if in_transaction || self.route == Route::Primary {
                self.give_up_replay();
                self.mode = Mode::Open;
                return Ok(Ok(Step::Taken));
            }
        }
        let ahead = {
            let bytes_max = self.local.shared.config.batch_bytes_max;
            look_ahead(&self.inbox, bytes_max, &self.names, &mut self.local.statements.borrow_mut(), |_| {})?
        };
        let Some(batch) = ahead else { return Ok(Ok(Step::More)) };
        if self.server.is_some() {
            // A replica that is still answering gets more reads; for anything else its answers must be in first.
            let more_reads = batch.is_repeatable() && batch.class == Class::Read && self.replay.possible;
            if !more_reads || self.replay.bytes.len() + batch.bytes > self.local.shared.config.batch_bytes_max
            {
                return Ok(Ok(Step::More));
            }
            self.open_batch(batch);
            return Ok(Ok(Step::Taken));
        }
        if batch.local && batch.complete {
            self.answer_locally(batch);
            return Ok(Ok(Step::Taken));
        }
        Ok(Err(batch))
    }

    /// The server in hand takes the batch.
    pub(super) fn open_batch(&mut self, batch: Batch) {
        self.mode = Mode::Open;
        if batch.is_repeatable()
            && (self.expects.iter().all(|expect| !expect.ends_batch()) || self.replay.possible)
        {
            self.replay.possible = true;
            self.replay.bytes.extend_from_slice(&self.inbox[..batch.bytes]);
            self.replay.lengths.push_back(batch.bytes);
            self.batch_left = batch.bytes;
        } else {
            self.give_up_replay();
        }
    }

    /// Batches of which no server needs to know.
    fn answer_locally(&mut self, batch: Batch) {
        let (mut out, mut left) = (Vec::new(), batch.bytes);
        self.local.shared.metrics.statement(batch.class, Route::Local);
        while let Ok(Some(frame)) = frame::peek(&self.inbox)
            && left > 0
        {
            let body = self.inbox[HEADER_BYTES..frame.bytes].to_vec();
            match frame.tag {
                b'C' => {
                    if let Some((b'S', name)) = body.split_first() {
                        self.names.remove(name.strip_suffix(b"\0").unwrap_or(name));
                    }
                    out.extend(to_client::CLOSE_COMPLETE);
                }
                b'Q' if batch.class == Class::Nothing => {
                    to_client::empty_query(&mut out);
                    to_client::ready(&mut out, Status::Idle);
                }
                b'Q' => {
                    self.deallocate(&body, &mut out);
                    to_client::ready(&mut out, Status::Idle);
                }
                _ => to_client::ready(&mut out, Status::Idle),
            }
            left -= frame.bytes;
            self.take(frame.bytes);
        }
        self.outbox.extend_from_slice(&out);
    }

    /// DEALLOCATE as a simple query: names are the proxy's. Returns the command's tag, or writes the error.
    pub(super) fn deallocate(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        let sql = frame::split_text(body).map_or(body, |(sql, _)| sql);
        let verdict = self.local.statements.borrow_mut().verdict(sql);
        match verdict.effects.first() {
            Some(Effect::Deallocate { name: Some(name) }) if !self.names.remove(name.as_bytes()) => {
                let message = format!("prepared statement \"{name}\" does not exist");
                Report::error("26000", message, "reported by db-proxy", "").put(out);
                return false;
            }
            Some(Effect::Deallocate { name: None }) => {
                self.names.clear();
                to_client::command_complete(out, "DEALLOCATE ALL");
            }
            _ => to_client::command_complete(out, "DEALLOCATE"),
        }
        true
    }
}
