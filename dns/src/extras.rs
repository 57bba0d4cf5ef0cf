//! What is said and done beside the records: who this server is, cookies, and limits on how often answers are given.

use crate::answer::Transport;
use crate::cookie::{Ring, Standing};
use crate::limiter::Limiter;
use crate::wire::options::{self, Options};
use crate::wire::{Class, Question, RecordType};
use std::net::IpAddr;

/// All of it, for the life of the program.
#[derive(Debug, Default)]
pub struct Extras {
    pub identity: Identity,
    pub cookies: Option<Ring>,
    /// Whether a client that knows cookies has to return ours before it gets records over UDP.
    pub cookies_required: bool,
    pub limiter: Option<Limiter>,
    /// Of TCP connections, in tenths of a second (RFC 7828 section 3.1).
    pub tcp_idle_tenths: u16,
}

/// What the server says of itself; empty texts are not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// To clients that ask with NSID (RFC 5001).
    pub nsid: String,
    /// At `version.bind` and `version.server`.
    pub version: String,
    /// At `hostname.bind` and `id.server` (RFC 4892).
    pub hostname: String,
}

impl Identity {
    /// The text for a question in class CH; `None` where there is nothing to say.
    pub fn chaos(&self, question: &Question) -> Option<&str> {
        let text = match question.name.key().as_ref() {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => &self.version,
            b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => &self.hostname,
            _ => return None,
        };
        let asked = [RecordType::TXT, RecordType::ANY].contains(&question.record_type);
        (asked && question.class == Class::CH && !text.is_empty()).then_some(text)
    }
}

/// What a query's options come to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The options of the answer.
    pub octets: Vec<u8>,
    /// How much the client's cookie is worth; `None` without one.
    pub standing: Option<Standing>,
}

impl Extras {
    /// Answers a query's options. `scope_bits` says how many bits of the subnet the answer rests on.
    pub fn answer(
        &self,
        asked: &Options,
        (client, transport): (Option<IpAddr>, Transport),
        scope_bits: u8,
        now_s: u32,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if asked.nsid && !self.identity.nsid.is_empty() {
            options::put_nsid(&mut outcome.octets, self.identity.nsid.as_bytes());
        }
        if let (Some(cookie), Some(ring), Some(client)) = (asked.cookie, &self.cookies, client) {
            let (standing, server) = ring.judge(cookie.client, cookie.server(), client, now_s);
            options::put_cookie(&mut outcome.octets, &cookie.client, &server);
            outcome.standing = Some(standing);
        }
        if let Some(subnet) = &asked.subnet {
            options::put_subnet(&mut outcome.octets, subnet, scope_bits);
        }
        if asked.tcp_keepalive && transport.is_stream() && self.tcp_idle_tenths > 0 {
            options::put_tcp_keepalive(&mut outcome.octets, self.tcp_idle_tenths);
        }
        outcome
    }
}
