//! The cases, out of the TOML files of `tests/conformance`.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::layout;

const FILES: [&str; 3] = ["requests.toml", "headers.toml", "exchanges.toml"];
/// What the origin answers unless the case says otherwise.
const REPLY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// When the origin answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReplyAt {
    /// Once it has the whole request.
    #[default]
    End,
    /// Once it has the head.
    Head,
}

#[derive(Debug, Deserialize)]
struct File {
    case: Vec<Raw>,
}

/// Texts are bytes, one a character (ISO 8859-1), and `{{x*70000}}` is so many of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    section: String,
    #[serde(default)]
    send: String,
    then: Option<String>,
    #[serde(default)]
    end: bool,
    answers: Option<usize>,
    h2: Option<Vec<String>>,
    data: Option<String>,
    reply: Option<String>,
    #[serde(default)]
    reply_at: ReplyAt,
    #[serde(default)]
    reply_end: bool,
    #[serde(default)]
    reply_delay_ms: u64,
    #[serde(default)]
    show: Vec<String>,
    #[serde(default)]
    show_answer: Vec<String>,
    reason: Option<String>,
}

/// One exchange.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// Unique within its section.
    pub(super) name: String,
    /// Of the list of pitfalls that it is about: `5a`.
    pub(super) section: String,
    /// What the client sends; with `fields`, the body.
    pub(super) send: Vec<u8>,
    /// What it sends after the first answer.
    pub(super) then: Option<Vec<u8>>,
    /// It ends its direction after that.
    pub(super) end: bool,
    /// So many answers are waited for.
    pub(super) answers: usize,
    /// The fields of an HTTP/2 request, in order; whether there is a body.
    pub(super) fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    pub(super) has_data: bool,
    /// What the origin sends back.
    pub(super) reply: Vec<u8>,
    /// It is not the usual 200.
    pub(super) reply_matters: bool,
    pub(super) reply_at: ReplyAt,
    /// The origin closes behind its answer.
    pub(super) reply_end: bool,
    pub(super) reply_delay_ms: u64,
    /// Fields that are in the table as the origin got them; `trailer:x` is one behind the body.
    pub(super) show: Vec<String>,
    /// The same as the client got them.
    pub(super) show_answer: Vec<String>,
    /// Why the balancer may let through what HAProxy does not.
    pub(super) reason: Option<String>,
}

/// All cases, in the order of the files.
pub(super) fn all() -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for name in FILES {
        let path = layout::repository().join("tests/conformance").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        for raw in file.case {
            let case = Case::new(raw).with_context(|| path.display().to_string())?;
            let is_new =
                cases.iter().all(|other| (&other.section, &other.name) != (&case.section, &case.name));
            ensure!(is_new, "{}: two cases of {} are called '{}'", path.display(), case.section, case.name);
            cases.push(case);
        }
    }
    Ok(cases)
}

impl Case {
    fn new(raw: Raw) -> Result<Self> {
        let name = raw.name;
        let bytes = |text: &str| bytes(text).with_context(|| format!("case '{name}'"));
        let fields = match &raw.h2 {
            None => None,
            Some(lines) => Some(lines.iter().map(|line| field(&bytes(line)?)).collect::<Result<_>>()?),
        };
        let send = if fields.is_some() { raw.data.as_deref().unwrap_or_default() } else { &raw.send };
        Ok(Self {
            send: bytes(send)?,
            then: raw.then.as_deref().map(bytes).transpose()?,
            reply: bytes(raw.reply.as_deref().unwrap_or(REPLY))?,
            reply_matters: raw.reply.is_some(),
            section: raw.section,
            end: raw.end,
            answers: raw.answers.unwrap_or(1),
            fields,
            has_data: raw.data.is_some(),
            reply_at: raw.reply_at,
            reply_end: raw.reply_end,
            reply_delay_ms: raw.reply_delay_ms,
            show: raw.show,
            show_answer: raw.show_answer,
            reason: raw.reason,
            name,
        })
    }

    /// Method and target, as they are sent.
    pub(super) fn line(&self) -> Vec<u8> {
        let field = |name: &[u8]| {
            let fields = self.fields.iter().flatten();
            fields.filter(|field| field.0 == name).map(|field| field.1.clone()).next().unwrap_or_default()
        };
        if self.fields.is_some() {
            return [field(b":method"), field(b":path")].join(&b' ');
        }
        let line = self.send.split(|byte| *byte == b'\r').next().unwrap_or_default();
        line[..line.iter().rposition(|byte| *byte == b' ').unwrap_or(line.len())].to_vec()
    }
}

/// `name: value`; a name may begin with a colon.
fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let at = line.windows(2).position(|pair| pair == b": ").context("a field of HTTP/2 is `name: value`")?;
    Ok((line[..at].to_vec(), line[at + 2..].to_vec()))
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (repeat, after) = after.split_once("}}").context("'{{' without '}}'")?;
        let (what, count) = repeat.split_once('*').context("expected {{x*COUNT}}")?;
        plain(before, &mut bytes)?;
        plain(&what.repeat(count.parse()?), &mut bytes)?;
        rest = after;
    }
    plain(rest, &mut bytes)?;
    Ok(bytes)
}

fn plain(text: &str, bytes: &mut Vec<u8>) -> Result<()> {
    for letter in text.chars() {
        bytes.push(u8::try_from(letter).with_context(|| format!("{letter:?} is no byte: write its UTF-8"))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_bytes() {
        assert_eq!(bytes("a\r\n\u{e9}{{x*3}}b{{y*2}}").unwrap(), b"a\r\n\xe9xxxbyy");
        assert!(bytes("\u{20ac}").is_err());
        assert!(bytes("{{x}}").is_err());
    }

    #[test]
    fn every_file_is_read() {
        let cases = all().unwrap();
        assert!(cases.len() > 300, "{}", cases.len());
    }
}
