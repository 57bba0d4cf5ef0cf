//! What a subject made of a case, in words and in what can be compared.

use super::case::Case;
use super::exchange::Exchange;
use super::http1::{self, Kind};
use super::origin::Seen;

/// One cell of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) text: String,
    /// Requests that reached the origin, whole or not, and the whole ones.
    reached: (usize, usize),
    /// The client got what the origin answered.
    answered: bool,
    /// Bytes of bodies and tunnels that got through: to the origin, to the client.
    bytes: (usize, usize),
    /// Fields of those to be shown that got through.
    fields: Vec<String>,
}

impl Decision {
    /// Whether more gets through than another lets through.
    pub(super) fn is_laxer_than(&self, other: &Self) -> bool {
        self.reached.0 > other.reached.0
            || self.reached.1 > other.reached.1
            || self.answered && !other.answered
            || self.bytes.0 > other.bytes.0
            || self.bytes.1 > other.bytes.1
            || self.fields.iter().any(|name| !other.fields.contains(name))
    }
}

pub(super) fn decide(case: &Case, exchange: &Exchange, seen: &[Seen]) -> Decision {
    let whole = seen.iter().filter(|request| request.message.whole).count();
    let finals: Vec<_> = exchange.answers.iter().filter(|answer| answer.status() != 101).collect();
    let switched = exchange.answers.iter().any(|answer| answer.status() == 101);
    let status = finals.first().map(|answer| answer.status());
    let origin_status = origin_status(case);
    let answered = !seen.is_empty() && (status == origin_status || switched && origin_status == Some(101));
    let mut fields = Vec::new();
    let mut text = if seen.is_empty() {
        outcome(exchange)
    } else {
        let mut parts = vec![request(case, seen)];
        parts.extend(shown(&case.show, &mut fields, |name| seen[0].message.value(name)));
        if !seen[0].tunnel.is_empty() {
            parts.push(format!("{} B behind it", seen[0].tunnel.len()));
        }
        parts.retain(|part| !part.is_empty());
        parts.join("; ")
    };
    if !seen.is_empty() {
        let mut parts = vec![answer(case, exchange)];
        let first = exchange.answers.first();
        if case.fields.is_none() {
            parts.extend(shown(&case.show_answer, &mut fields, |name| first.and_then(|it| it.value(name))));
        }
        parts.retain(|part| !part.is_empty());
        if !parts.is_empty() {
            text = format!("{text} → {}", parts.join("; "));
        }
    }
    let to_origin = seen.iter().map(|it| it.message.body.len() + it.tunnel.len()).sum();
    let to_client = if answered {
        finals.iter().map(|it| it.body.len()).sum::<usize>() + exchange.tunnel.len()
    } else {
        0
    };
    Decision { text, reached: (seen.len(), whole), answered, bytes: (to_origin, to_client), fields }
}

/// How it ended for the client.
fn outcome(exchange: &Exchange) -> String {
    let statuses = exchange.answers.iter().map(|answer| answer.status().to_string());
    let statuses: Vec<_> =
        exchange.informational.iter().filter(|it| **it != 101).map(u16::to_string).chain(statuses).collect();
    match (statuses.is_empty(), exchange.ended_by, exchange.closed) {
        (false, ..) => statuses.join(", "),
        (true, Some(how), _) => how.to_owned(),
        (true, None, true) => "closed".to_owned(),
        (true, None, false) => "silence".to_owned(),
    }
}

/// What reached the origin: `forwarded`, and how it differs from what was sent.
fn request(case: &Case, seen: &[Seen]) -> String {
    let message = &seen[0].message;
    let mut text = "forwarded".to_owned();
    let line = message.line.rsplit_once(' ').map_or("", |(line, _)| line);
    if line.as_bytes() != case.line() {
        text.push_str(&format!(" as `{}`", short(line)));
    }
    if !message.body.is_empty() {
        text.push_str(&format!(" with {} B", message.body.len()));
    }
    if !message.whole {
        text.push_str(", cut");
    }
    if seen.len() > 1 {
        text.push_str(&format!(", {} requests", seen.len()));
    }
    text
}

/// What the client got, if it is not the usual answer to each request.
fn answer(case: &Case, exchange: &Exchange) -> String {
    let is_usual = |it: &http1::Message| it.status() == 200 && it.whole;
    if !case.reply_matters
        && exchange.informational.is_empty()
        && !exchange.answers.is_empty()
        && exchange.answers.iter().all(is_usual)
    {
        return String::new();
    }
    let mut text = outcome(exchange);
    if let Some(last) = exchange.answers.last() {
        let bytes = last.body.len();
        // Bodies of refusals are everybody's own.
        if bytes > 0 && Some(last.status()) == origin_status(case) {
            text.push_str(&format!(" with {bytes} B"));
        }
        if !last.whole {
            text.push_str(", cut");
        }
    }
    if !exchange.tunnel.is_empty() {
        text.push_str(&format!(", {} B behind it", exchange.tunnel.len()));
    }
    text
}

/// `name=value` or `no name` of each, noting those that are there.
fn shown(names: &[String], fields: &mut Vec<String>, value: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut texts = Vec::new();
    for name in names {
        let plain = name.replace("trailer:", "trailer ");
        texts.push(match value(name) {
            Some(value) => {
                fields.push(name.clone());
                format!("{plain}: `{}`", short(&value))
            }
            None => format!("no {plain}"),
        });
    }
    texts
}

/// The status that the origin's answer ends with, if it is one.
fn origin_status(case: &Case) -> Option<u16> {
    let mut bytes = &case.reply[..];
    while let Some((message, used)) = http1::read(bytes, Kind::Answer { to_head: false, ended: true }) {
        let status = message.status();
        if status >= 200 || status == 101 {
            return Some(status);
        }
        bytes = &bytes[used..];
    }
    None
}

/// Printable, of bounded length, and no end of a cell.
fn short(text: &str) -> String {
    let shown: String = text.chars().take(60).flat_map(char::escape_default).collect();
    let shown = shown.replace("\\'", "'").replace("\\\"", "\"").replace('|', "\\|").replace('`', "'");
    if text.chars().count() > 60 { format!("{shown}…") } else { shown }
}
