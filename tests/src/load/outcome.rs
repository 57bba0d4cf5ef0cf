//! How one request ended, and what an observer is told of it.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::plan::{ClientKind, RequestSpec};
use crate::http_client::Response;

/// Why a request failed; of a request with several tries, the last one's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// The name gave no address.
    #[serde(rename = "dns")]
    Dns,
    /// No connection: refused, unreachable, or no answer to the connect within its deadline.
    #[serde(rename = "connect")]
    Connect,
    /// Connected, and no complete response within the deadline.
    #[serde(rename = "timeout")]
    Timeout,
    /// The connection ended before the response's head was complete.
    #[serde(rename = "reset")]
    Reset,
    /// The response was no HTTP/1.1.
    #[serde(rename = "protocol")]
    Protocol,
    /// Status 5xx.
    #[serde(rename = "5xx")]
    ServerError,
    /// Status 4xx.
    #[serde(rename = "4xx")]
    ClientError,
    /// Status 3xx: redirects are not followed.
    #[serde(rename = "3xx")]
    Redirect,
    /// A complete 2xx whose content the observer refused, or whose body was over the limit.
    #[serde(rename = "content")]
    Content,
    /// Never sent: too many requests were in flight in this client.
    #[serde(rename = "generator-saturated")]
    Saturated,
}

impl ErrorClass {
    /// Every class, so that reports name those that did not occur too.
    pub const ALL: [Self; 10] = [
        Self::Dns,
        Self::Connect,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::ServerError,
        Self::ClientError,
        Self::Redirect,
        Self::Content,
        Self::Saturated,
    ];

    /// The class as reports name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::ServerError => "5xx",
            Self::ClientError => "4xx",
            Self::Redirect => "3xx",
            Self::Content => "content",
            Self::Saturated => "generator-saturated",
        }
    }

    pub(super) fn of_status(status: StatusCode) -> Option<Self> {
        match status.as_u16() / 100 {
            2 => None,
            3 => Some(Self::Redirect),
            4 => Some(Self::ClientError),
            5 => Some(Self::ServerError),
            _ => Some(Self::Protocol),
        }
    }
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// A complete response, whatever its status.
    Complete(Response),
    /// A response whose head came and whose body was cut.
    Truncated {
        /// The status of the head.
        status: StatusCode,
        /// What the connection said.
        reason: String,
    },
    /// No complete response.
    Failed {
        /// Why.
        class: ErrorClass,
        /// In words.
        reason: String,
    },
}

impl Outcome {
    /// The class of a failure; none for a complete 2xx and for a truncated body, which is counted apart.
    #[must_use]
    pub fn error_class(&self) -> Option<ErrorClass> {
        match self {
            Self::Complete(response) => ErrorClass::of_status(response.status),
            Self::Truncated { .. } => None,
            Self::Failed { class, .. } => Some(*class),
        }
    }

    /// Whether it was a complete 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Complete(response) if response.status.is_success())
    }
}

/// One finished request, as an observer sees it.
#[derive(Debug)]
pub struct Observed<'a> {
    /// Its number, from 0.
    pub sequence: u64,
    /// The kind of client that sent it.
    pub client: ClientKind,
    /// The visitor.
    pub user: usize,
    /// What was sent.
    pub request: &'a RequestSpec,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// The address of the last try.
    pub address: Option<SocketAddr>,
    /// Addresses tried.
    pub tries: u32,
    /// Its due time, from the load's start.
    pub due: Duration,
    /// From the due time to the end.
    pub latency: Duration,
}

/// What an observer makes of a complete 2xx; of anything else its answer is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The content is right.
    Accept,
    /// The content is wrong: counts as failed, class `content`.
    Reject,
}
