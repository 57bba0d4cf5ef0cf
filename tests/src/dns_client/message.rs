//! Questions and answers, without a socket.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::{Addresses, DnsError};

/// What we announce over EDNS: the common limit that needs no IP fragments.
const UDP_PAYLOAD_BYTES: u16 = 1232;

pub(super) fn is_servers_fault(message: &Message) -> bool {
    matches!(message.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused)
}

pub(super) fn question(name: &str, record_type: RecordType) -> Result<Query, DnsError> {
    let mut parsed = Name::from_ascii(name).map_err(|_| DnsError::Name(name.into()))?;
    parsed.set_fqdn(true);
    Ok(Query::query(parsed, record_type))
}

pub(super) fn query_of(question: &Query) -> Message {
    let mut query = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    // As stubs do; resolvers refuse the others, and authorities do not care.
    query.metadata.recursion_desired = true;
    query.add_query(question.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD_BYTES);
    query.set_edns(edns);
    query
}

/// Whether a message answers this very query: anyone can send a datagram to our port.
pub(super) fn answers(query: &Message, answer: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && (answer.queries == query.queries || answer.queries.is_empty())
}

pub(super) fn addresses_in(name: &str, message: &Message) -> Result<Addresses, DnsError> {
    if message.metadata.response_code != ResponseCode::NoError {
        return Err(DnsError::Code { name: name.into(), code: message.metadata.response_code });
    }
    let mut addresses = Vec::new();
    let mut ttl_s = u32::MAX;
    for record in &message.answers {
        match &record.data {
            RData::A(address) => addresses.push(IpAddr::V4(address.0)),
            RData::AAAA(address) => addresses.push(IpAddr::V6(address.0)),
            RData::CNAME(_) => {}
            _ => continue,
        }
        ttl_s = ttl_s.min(record.ttl);
    }
    if addresses.is_empty() {
        return Err(DnsError::NoAddress(name.into()));
    }
    Ok(Addresses { addresses, ttl: Duration::from_secs(u64::from(ttl_s)) })
}

pub(super) fn encode(server: SocketAddr, query: &Message) -> Result<Vec<u8>, DnsError> {
    query.to_vec().map_err(|error| DnsError::Malformed { server, reason: error.to_string() })
}
