//! From the server to the client: every message is matched with what is owed, and passed on in as few pieces as possible.

use std::rc::Rc;

use bytes::{Buf as _, BytesMut};
use tracing::debug;

use super::expect::{Expect, Outcome, To};
use super::{End, OUTBOX_BYTES_MAX, Passing, Session};
use crate::classify::{Class, Effect};
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::message::{Status, to_client};
use crate::wire::report::{Report, ServerError, sqlstate};

/// Longest message that must be seen as a whole. Errors with long statements in their context are the longest.
const WHOLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// More of an answer than this is shown before it is known whether the batch works out, and ends its chance of a retry.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// What a message made of the session's course.
enum Course {
    On,
    /// The batch is sent again elsewhere: the rest of what the server said does not matter.
    Again,
}

impl Session {
    /// Works through what the server sent.
    pub(super) fn advance_server(&mut self) -> Result<(), End> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let mut inbox = std::mem::take(&mut server.inbox);
        let outcome = self.advance_bytes(&mut inbox);
        match &mut self.server {
            Some(server) if !inbox.is_empty() => server.inbox = inbox,
            _ => {}
        }
        outcome
    }

    fn advance_bytes(&mut self, inbox: &mut BytesMut) -> Result<(), End> {
        while !inbox.is_empty() && self.outbox.len() < OUTBOX_BYTES_MAX {
            if self.from_server.bytes > 0 {
                self.pass_to_client(inbox);
                continue;
            }
            let header = frame::peek(inbox).map_err(|_| End::Cut("the server sent an impossible length"))?;
            let Some(frame) = header else { break };
            if needs_whole(frame.tag) && inbox.len() < frame.bytes {
                if frame.bytes > WHOLE_BYTES_MAX {
                    return Err(End::Cut("the server sent a message of unreasonable length"));
                }
                break;
            }
            if let Course::Again = self.on_frame(frame, inbox)? {
                inbox.clear();
            }
        }
        Ok(())
    }

    fn pass_to_client(&mut self, inbox: &mut BytesMut) {
        let count = self.from_server.bytes.min(inbox.len());
        if !self.from_server.away {
            self.show(&inbox[..count]);
        }
        inbox.advance(count);
        self.from_server.bytes -= count;
    }

    /// Appends bytes to the answer.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        if self.replay.possible && !self.replay.shown {
            self.held.extend_from_slice(bytes);
            if self.held.len() > HELD_BYTES_MAX {
                self.commit_to_answer();
            }
        } else {
            self.outbox.extend_from_slice(bytes);
        }
    }

    /// From here on the client sees the answer, and it cannot be asked for again.
    fn commit_to_answer(&mut self) {
        self.replay.shown = true;
        if !self.held.is_empty() {
            self.outbox.extend_from_slice(&self.held);
            self.held.clear();
        }
    }

    /// What is owed cannot be asked for again any more; what is held is shown first, so that nothing overtakes it.
    pub(super) fn give_up_replay(&mut self) {
        self.commit_to_answer();
        self.replay.forget();
    }

    /// Replies of the proxy whose turn has come.
    pub(super) fn show_local(&mut self) {
        while let Some(local) = self.expects.pop_local() {
            match local {
                Expect::ParseLocal { .. } => self.show(&to_client::PARSE_COMPLETE),
                _ => self.show(&to_client::CLOSE_COMPLETE),
            }
        }
    }

    fn on_frame(&mut self, frame: Frame, inbox: &mut BytesMut) -> Result<Course, End> {
        if frame.tag == b'E' {
            let error = ServerError::parse(&inbox[HEADER_BYTES..frame.bytes]);
            if let Course::Again = self.on_error(&error)? {
                return Ok(Course::Again);
            }
        }
        let empty_as = match (frame.tag, self.expects.front()) {
            (b'I', Some(Expect::Query { empty_as, .. })) => *empty_as,
            _ => None,
        };
        let Outcome { mut swallow, done, failed, unexpected } = self.expects.on_message(frame.tag);
        if unexpected {
            debug!(tag = %char::from(frame.tag), "a message that was not owed");
            if let Some(server) = &mut self.server {
                server.tainted = true;
            }
        }
        match frame.tag {
            // What is shown now cannot be taken back.
            b'D' | b'd' | b'C' | b'I' | b's' | b'G' | b'H' | b'E' if !swallow => self.commit_to_answer(),
            b'S' => swallow |= inbox[HEADER_BYTES..].starts_with(b"in_hot_standby\0"),
            _ => {}
        }
        if let (b'C', b"ROLLBACK\0") = (frame.tag, inbox.get(HEADER_BYTES..frame.bytes).unwrap_or_default()) {
            self.rolled_back = true;
        }
        if !failed.is_empty() || frame.tag == b'E' {
            self.undo(failed);
        }
        if frame.tag == b'Z' {
            let status = inbox.get(HEADER_BYTES).copied().and_then(Status::from_byte);
            self.on_ready(status.ok_or(End::Cut("the server sent an unknown status"))?, done, swallow);
        } else if let Some(Expect::Execute { verdict: Some(verdict) }) = done {
            self.effects.extend(verdict.effects.iter().cloned());
        }
        if let Some(tag) = empty_as {
            swallow = true;
            let mut out = Vec::new();
            to_client::command_complete(&mut out, tag);
            self.show(&out);
        }
        self.from_server = Passing { bytes: frame.bytes, away: swallow };
        self.pass_to_client(inbox);
        if frame.tag == b'Z' && !swallow {
            self.next_batch();
        }
        self.show_local();
        Ok(Course::On)
    }

    fn on_ready(&mut self, status: Status, done: Option<Expect>, swallow: bool) {
        self.status = status;
        if let Some(Expect::Query { verdict: Some(verdict), .. }) = done
            && !self.batch_failed
        {
            self.effects.extend(verdict.effects.iter().cloned());
        }
        if swallow {
            return;
        }
        self.commit_to_answer();
        self.settle_effects();
        self.batch_failed = false;
    }

    /// The answer to a batch is complete: the next one may be asked for again, if it could at all.
    fn next_batch(&mut self) {
        let replay = &mut self.replay;
        if let Some(length) = replay.lengths.pop_front() {
            if replay.lengths.is_empty() {
                replay.bytes.clear();
            } else {
                replay.bytes.drain(..length);
            }
        }
        if replay.lengths.is_empty() {
            replay.possible = false;
        }
        (replay.shown, replay.attempts, replay.avoid) = (false, 0, 0);
    }

    /// Applies what the statements left behind, once their transaction has succeeded.
    fn settle_effects(&mut self) {
        if self.effects.is_empty() {
            if self.status == Status::Idle {
                self.rolled_back = false;
            }
            return;
        }
        let unsettled = |effect: &Effect| {
            matches!(effect, Effect::Disturbs | Effect::RollbackTo | Effect::Deallocate { .. })
        };
        if self.effects.iter().any(unsettled) {
            self.settle_disturbances();
        }
        if self.status != Status::Idle {
            return;
        }
        let effects = std::mem::take(&mut self.effects);
        let kept = !self.rolled_back && !self.batch_failed;
        self.rolled_back = false;
        if !kept {
            return;
        }
        for effect in effects {
            let parameters = Rc::make_mut(&mut self.parameters);
            match effect {
                Effect::Set { name, sql } => parameters.set(&name, &sql),
                Effect::Reset { name } => parameters.reset(&name, &self.startup),
                Effect::ResetAll | Effect::DiscardAll => self.on_reset(effect == Effect::DiscardAll),
                Effect::Disturbs | Effect::RollbackTo | Effect::Deallocate { .. } => {}
            }
        }
    }

    /// The client is back at its startup values, but the server at its own defaults: it is cleaned and told again.
    fn on_reset(&mut self, statements_too: bool) {
        self.parameters = Rc::clone(&self.startup);
        if statements_too {
            self.names = super::batch::Names::default();
        }
        if let Some(server) = &mut self.server {
            server.disturbed = true;
            if statements_too {
                server.prepared.clear();
                server.unnamed = None;
            }
        }
    }

    /// What makes the server unfit for others whether the transaction succeeds or not.
    fn settle_disturbances(&mut self) {
        let rolled_back_to = self.effects.contains(&Effect::RollbackTo);
        let deallocated =
            self.effects.iter().any(|effect| matches!(effect, Effect::Deallocate { name: None }));
        if rolled_back_to {
            // Which SETs were before the savepoint is not tracked.
            self.effects.retain(|effect| {
                !matches!(effect, Effect::Set { .. } | Effect::Reset { .. } | Effect::ResetAll)
            });
        }
        self.effects.retain(|effect| {
            !matches!(effect, Effect::Disturbs | Effect::RollbackTo | Effect::Deallocate { .. })
        });
        if let Some(server) = &mut self.server {
            server.disturbed = true;
            if deallocated {
                server.prepared.clear();
                server.unnamed = None;
            }
        }
    }

    /// Takes back what was assumed of statements that will get no reply.
    fn undo(&mut self, failed: Vec<Expect>) {
        self.batch_failed = true;
        for expect in failed {
            let (client_name, statement) = match expect {
                Expect::Parse { client_name, statement, .. } => (client_name, statement),
                Expect::ParseLocal { client_name } => (Some(client_name), None),
                // The message before may have been its own batch's end: the client still waits for that many answers.
                Expect::Query { to: To::Client, .. } => {
                    self.give_up_replay();
                    continue;
                }
                _ => continue,
            };
            if let (Some(statement), Some(server)) = (statement, &mut self.server) {
                server.prepared.forget(statement.id);
                if server.unnamed.as_ref().is_some_and(|unnamed| Rc::ptr_eq(unnamed, &statement)) {
                    server.unnamed = None;
                }
            }
            if let Some(name) = client_name {
                self.names.remove(&name);
            }
        }
    }

    fn on_error(&mut self, error: &ServerError) -> Result<Course, End> {
        let may_ask_again = self.may_ask_again();
        if may_ask_again && error.needs_primary() {
            self.learn_write();
            self.ask_again("needs-primary");
            return Ok(Course::Again);
        }
        if may_ask_again && error.is_local_to_node() {
            self.avoid_node();
            self.ask_again(if error.is_fatal() { "node-stopped" } else { "recovery-conflict" });
            return Ok(Course::Again);
        }
        if error.is_fatal() {
            self.on_server_lost(&format!("Postgres said {}: {}", error.code, error.message))?;
            return Ok(Course::Again);
        }
        if let Some(Expect::Query { to: To::Nobody, .. }) = self.expects.front() {
            let detail = format!("Postgres says {}: {}", error.code, error.message);
            let message = "the session's parameters could not be set on a server";
            return Err(End::Told(Report::fatal(
                sqlstate::CONNECTION_FAILURE,
                message,
                detail,
                "check options and SETs of the client",
            )));
        }
        if error.is_stale_plan() {
            self.drop_stale_plan();
        }
        Ok(Course::On)
    }

    /// DDL changed a statement's rows: it is prepared afresh next time.
    fn drop_stale_plan(&mut self) {
        let statement = self.expects.iter().find_map(|expect| match expect {
            Expect::Bind { statement: Some(statement) } => Some(Rc::clone(statement)),
            _ => None,
        });
        if let (Some(statement), Some(server)) = (statement, &mut self.server)
            && server.prepared.forget(statement.id)
        {
            server.stale.push(statement);
        }
    }

    pub(super) fn learn_write(&mut self) {
        let Some(&length) = self.replay.lengths.front() else { return };
        let (bytes, names) = (&self.replay.bytes[..length], &self.names);
        let statements = &mut self.local.statements.borrow_mut();
        let learnt = super::batch::look_ahead(bytes, usize::MAX, names, statements, |verdict| {
            if verdict.class() == Class::Read {
                verdict.learn_write();
            }
        });
        debug_assert!(learnt.is_ok(), "these bytes were looked at before");
    }
}

fn needs_whole(tag: u8) -> bool {
    matches!(tag, b'Z' | b'E' | b'C' | b'S')
}
