//! Why a name gave no addresses.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;

/// Why a name gave no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The text is no domain name.
    #[error("{0:?} is no domain name")]
    Name(String),
    /// No server was configured.
    #[error("no DNS server is configured")]
    NoServer,
    /// No try was answered in time.
    #[error("no answer about {name} from {servers:?} after {tries} tries")]
    Timeout {
        /// The name asked for.
        name: String,
        /// Who was asked.
        servers: Vec<SocketAddr>,
        /// How often.
        tries: usize,
    },
    /// The server refused or failed, or the name does not exist.
    #[error("{name}: {code}")]
    Code {
        /// The name asked for.
        name: String,
        /// The response code.
        code: ResponseCode,
    },
    /// The name exists and has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// The socket failed.
    #[error("asking {server}: {reason}")]
    Io {
        /// Who was asked.
        server: SocketAddr,
        /// The system's words.
        reason: String,
    },
    /// The answer could not be read.
    #[error("the answer of {server} cannot be read: {reason}")]
    Malformed {
        /// Who answered.
        server: SocketAddr,
        /// The decoder's words.
        reason: String,
    },
}
