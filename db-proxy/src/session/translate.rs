//! One message of an open batch, as the server is to see it: statement names become the server's, and what the server lacks
//! is prepared first.

use std::rc::Rc;

use super::expect::{Expect, To};
use super::frontend::{Step, violation};
use super::statements::Statement;
use super::{End, Mode, Passing, Session};
use crate::classify::Class;
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::message::{Status, to_server};
use crate::wire::report::{Report, sqlstate};

/// Longest Describe, Execute or Close: they hold a name and little else.
const SMALL_BYTES_MAX: usize = 16 * 1024;

impl Session {
    /// Hands one message of an open batch to the server.
    pub(super) fn translate(&mut self, frame: Frame) -> Result<Step, End> {
        match frame.tag {
            b'Q' => Ok(self.on_query(frame)),
            b'P' => self.on_parse(frame),
            b'B' => self.on_bind(frame),
            b'D' | b'E' | b'C' => self.on_small(frame),
            b'S' => Ok(self.on_sync(frame)),
            b'H' => {
                self.pass(frame, false);
                Ok(Step::Taken)
            }
            b'F' => {
                self.expects.push(Expect::Query { to: To::Client, empty_as: None, verdict: None });
                self.mode = Mode::Boundary;
                self.pass(frame, false);
                Ok(Step::Taken)
            }
            b'X' => Err(End::Left),
            other => Err(End::Told(violation(&format!("unknown message type {:?}", char::from(other))))),
        }
    }

    fn on_query(&mut self, frame: Frame) -> Step {
        let whole_max = self.local.shared.config.classify_bytes_max + HEADER_BYTES + 1;
        let whole = self.inbox.len() >= frame.bytes;
        if !whole && frame.bytes <= whole_max {
            return Step::More;
        }
        let (mut verdict, mut empty_as) = (None, None);
        if whole {
            let body = &self.inbox[HEADER_BYTES..frame.bytes];
            let sql = frame::split_text(body).map_or(body, |(sql, _)| sql);
            let judged = self.local.statements.borrow_mut().verdict(sql);
            if judged.class() == Class::Deallocate && self.status != Status::Failed {
                empty_as = Some("DEALLOCATE");
                let body = body.to_vec();
                // A name nobody has is let pass here: the error would have to be the server's.
                self.deallocate(&body, &mut Vec::new());
            }
            verdict = Some(judged);
        }
        self.count(verdict.as_ref().map_or(Class::Write, |verdict| verdict.class()));
        self.names.unnamed = None;
        if let Some(server) = &mut self.server {
            server.unnamed = None;
        }
        if empty_as.is_some() {
            self.expects.push(Expect::Query { to: To::Client, empty_as, verdict: None });
            self.put_to_server(|out| to_server::query(out, ""));
            self.pass(frame, true);
        } else {
            self.expects.push(Expect::Query { to: To::Client, empty_as: None, verdict });
            self.pass(frame, false);
        }
        self.mode = Mode::Boundary;
        Step::Taken
    }

    fn count(&self, class: Class) {
        self.local.shared.metrics.statement(class, self.route);
    }

    fn put_to_server(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        fill(&mut out);
        self.to_server.extend_from_slice(&out);
    }

    fn on_parse(&mut self, frame: Frame) -> Result<Step, End> {
        let config = &self.local.shared.config;
        if frame.bytes > config.statement_bytes_max {
            let detail = format!(
                "it has {} bytes; statements.bytes_max of the proxy is {}",
                frame.bytes, config.statement_bytes_max
            );
            let hint = "send large values as parameters";
            return Err(End::Told(Report::fatal(
                sqlstate::TOO_LARGE,
                "statement too long to prepare",
                detail,
                hint,
            )));
        }
        if self.inbox.len() < frame.bytes {
            return Ok(Step::More);
        }
        let message = self.inbox[..frame.bytes].to_vec();
        let malformed = || End::Told(violation("malformed Parse message"));
        let (name, rest) = frame::split_text(&message[HEADER_BYTES..]).ok_or_else(malformed)?;
        let (sql, types) = frame::split_text(rest).ok_or_else(malformed)?;
        if name.is_empty() {
            self.parse_unnamed(sql, types, &message);
        } else {
            self.parse_named(name, sql, types)?;
        }
        self.take(frame.bytes);
        self.show_local();
        Ok(Step::Taken)
    }

    fn parse_unnamed(&mut self, sql: &[u8], types: &[u8], message: &[u8]) {
        let known = self.names.unnamed.as_ref().filter(|known| *known.sql == *sql && *known.types == *types);
        let statement =
            known.cloned().unwrap_or_else(|| self.local.statements.borrow_mut().unnamed(sql, types));
        self.names.unnamed = Some(Rc::clone(&statement));
        if let Some(server) = &mut self.server {
            server.unnamed = Some(Rc::clone(&statement));
        }
        let client_name = Some(Box::default());
        self.expects.push(Expect::Parse { to: To::Client, statement: Some(statement), client_name });
        self.to_server.extend_from_slice(message);
    }

    fn parse_named(&mut self, name: &[u8], sql: &[u8], types: &[u8]) -> Result<(), End> {
        let config = &self.local.shared.config;
        if let Some(taken) = self.names.get(name).cloned()
            && self.replay.again == 0
        {
            // Postgres shall say that the name is taken, at its place among the replies: preparing what it has does that.
            self.prepare_on_server(&taken);
            self.expects.push(Expect::Parse { to: To::Client, statement: None, client_name: None });
            self.put_to_server(|out| to_server::parse(out, &taken.name, &taken.sql, &taken.types));
            return Ok(());
        }
        let (count, bytes) = self.names.size();
        if count >= config.statements_per_client_max
            || bytes + sql.len() > config.statement_bytes_per_client_max
        {
            let detail = format!(
                "it has {count} of {bytes} bytes; statements.per_client_max and per_client_bytes_max are {} and {}",
                config.statements_per_client_max, config.statement_bytes_per_client_max
            );
            let hint = "close statements, or let the driver keep fewer";
            let code = sqlstate::LIMIT_EXCEEDED;
            return Err(End::Told(Report::fatal(code, "too many prepared statements", detail, hint)));
        }
        let statement = self.local.statements.borrow_mut().named(sql, types);
        self.names.insert(name, Rc::clone(&statement));
        let server_has_it = self.server_has(&statement);
        if server_has_it {
            self.expects.push(Expect::ParseLocal { client_name: name.into() });
        } else {
            self.put_to_server(|out| to_server::parse(out, &statement.name, sql, types));
            let client_name = Some(name.into());
            self.expects.push(Expect::Parse { to: To::Client, statement: Some(statement), client_name });
        }
        Ok(())
    }

    /// Whether the server has the statement, after closing it there if its plan is stale. If not, it is taken to have it
    /// from now on.
    fn server_has(&mut self, statement: &Rc<Statement>) -> bool {
        let Some(server) = &mut self.server else { return true };
        if let Some(at) = server.stale.iter().position(|stale| stale.id == statement.id) {
            server.stale.swap_remove(at);
            self.expects.push(Expect::Close { to: To::Nobody });
            self.put_to_server(|out| to_server::close_statement(out, &statement.name));
        }
        self.server.as_mut().is_some_and(|server| server.prepared.touch(statement))
    }

    fn prepare_on_server(&mut self, statement: &Rc<Statement>) {
        if !self.server_has(statement) {
            self.put_to_server(|out| {
                to_server::parse(out, &statement.name, &statement.sql, &statement.types);
            });
            let statement = Some(Rc::clone(statement));
            self.expects.push(Expect::Parse { to: To::Nobody, statement, client_name: None });
        }
    }

    /// Makes sure that the server has the statement that the client means; `None`: the name goes as it is.
    fn resolve(&mut self, name: &[u8]) -> Option<Rc<Statement>> {
        let statement = Rc::clone(self.names.get(name)?);
        if !name.is_empty() {
            self.prepare_on_server(&statement);
            return Some(statement);
        }
        let server = self.server.as_mut()?;
        if !server.unnamed.as_ref().is_some_and(|unnamed| Rc::ptr_eq(unnamed, &statement)) {
            server.unnamed = Some(Rc::clone(&statement));
            self.put_to_server(|out| to_server::parse(out, "", &statement.sql, &statement.types));
            let statement = Some(Rc::clone(&statement));
            self.expects.push(Expect::Parse { to: To::Nobody, statement, client_name: None });
        }
        Some(statement)
    }

    fn on_bind(&mut self, frame: Frame) -> Result<Step, End> {
        let here = &self.inbox[HEADER_BYTES..frame.bytes.min(self.inbox.len())];
        let names =
            frame::split_text(here).and_then(|(portal, rest)| Some((portal, frame::split_text(rest)?.0)));
        let Some((portal, name)) = names.map(|(portal, name)| (portal.to_vec(), name.to_vec())) else {
            let hopeless = self.inbox.len() >= frame.bytes.min(SMALL_BYTES_MAX);
            return if hopeless {
                Err(End::Told(violation("malformed Bind message")))
            } else {
                Ok(Step::More)
            };
        };
        let statement = self.resolve(&name);
        self.bound = statement.as_ref().map(|statement| Rc::clone(&statement.verdict));
        let head_bytes = HEADER_BYTES + portal.len() + 1 + name.len() + 1;
        let rest_bytes = frame
            .bytes
            .checked_sub(head_bytes)
            .ok_or_else(|| End::Told(violation("malformed Bind message")))?;
        let server_name = server_name(&name, statement.as_deref());
        self.put_to_server(|out| to_server::bind_head(out, &portal, &server_name, rest_bytes));
        self.expects.push(Expect::Bind { statement });
        self.take(head_bytes);
        self.from_client = Passing { bytes: rest_bytes, away: false };
        self.pass_to_server();
        Ok(Step::Taken)
    }

    fn on_small(&mut self, frame: Frame) -> Result<Step, End> {
        if frame.bytes > SMALL_BYTES_MAX {
            return Err(End::Told(violation("a name of unreasonable length")));
        }
        if self.inbox.len() < frame.bytes {
            return Ok(Step::More);
        }
        let body = self.inbox[HEADER_BYTES..frame.bytes].to_vec();
        match (frame.tag, body.split_first()) {
            (b'E', _) => {
                let verdict = self.bound.clone();
                self.count(verdict.as_ref().map_or(Class::Write, |verdict| verdict.class()));
                self.expects.push(Expect::Execute { verdict });
                self.pass(frame, false);
            }
            (b'D', Some((b'S', name))) => {
                let name = name.strip_suffix(b"\0").unwrap_or(name);
                let statement = self.resolve(name);
                let server_name = server_name(name, statement.as_deref());
                self.put_to_server(|out| to_server::describe_statement(out, &server_name));
                self.expects.push(Expect::DescribeStatement);
                self.pass(frame, true);
            }
            (b'D', Some((b'P', _))) => {
                self.expects.push(Expect::DescribePortal);
                self.pass(frame, false);
            }
            (b'C', Some((b'S', name))) if name.len() > 1 => {
                self.names.remove(name.strip_suffix(b"\0").unwrap_or(name));
                self.expects.push(Expect::CloseLocal);
                self.pass(frame, true);
                self.show_local();
            }
            (b'C', Some((kind @ (b'S' | b'P'), _))) => {
                if *kind == b'S' {
                    self.names.unnamed = None;
                    self.server.iter_mut().for_each(|server| server.unnamed = None);
                }
                self.expects.push(Expect::Close { to: To::Client });
                self.pass(frame, false);
            }
            _ => return Err(End::Told(violation("malformed Describe or Close message"))),
        }
        Ok(Step::Taken)
    }

    fn on_sync(&mut self, frame: Frame) -> Step {
        // While the server reads copy data it ignores Sync.
        if !self.expects.is_copy_in() {
            self.expects.push(Expect::Sync);
        }
        self.mode = Mode::Boundary;
        self.pass(frame, false);
        Step::Taken
    }
}

/// A name that no client has must not reach a statement of another one.
fn server_name(name: &[u8], statement: Option<&Statement>) -> String {
    match statement {
        Some(_) if name.is_empty() => String::new(),
        Some(statement) => statement.name.to_string(),
        None if name.starts_with(b"dbp_") => format!("unknown {}", String::from_utf8_lossy(name)),
        None => String::from_utf8_lossy(name).into_owned(),
    }
}
