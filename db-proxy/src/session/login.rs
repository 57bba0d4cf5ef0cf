//! From accept to the first query: the startup packet and SCRAM, under one deadline.

use std::io;

use base64::Engine as _;
use bytes::{Buf as _, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scram::{Exchange, ScramError, Verifier};
use crate::server::Shared;
use crate::wire::frame::{self, HEADER_BYTES};
use crate::wire::message::to_client;
use crate::wire::report::{Report, sqlstate};
use crate::wire::startup::{self, BadStartup, CancelKey, First, Startup};

/// Longest message of a client that has not logged in.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Why a client was not let in.
#[derive(Debug, Error)]
pub(super) enum LoginError {
    /// It went away.
    #[error("the client left while logging in: {0}")]
    Gone(#[from] io::Error),
    /// Its first packet is wrong.
    #[error(transparent)]
    Startup(#[from] BadStartup),
    /// It does not follow the protocol.
    #[error("protocol violation while logging in: {0}")]
    Protocol(&'static str),
    /// It failed to prove who it is.
    #[error("user {user:?}: {error}")]
    Scram {
        /// As it said.
        user: String,
        /// How.
        error: ScramError,
    },
}

impl LoginError {
    /// The metric label.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Gone(_) => "gone",
            Self::Startup(_) => "startup",
            Self::Protocol(_) => "protocol",
            Self::Scram { error: ScramError::Malformed(_), .. } => "malformed",
            Self::Scram { error: ScramError::Proof, .. } => "password",
        }
    }

    /// What the client is told; nothing that helps guessing.
    pub(super) fn report(&self) -> Option<Report> {
        let (code, message, hint) = match self {
            Self::Gone(_) => return None,
            Self::Startup(BadStartup::Version { .. } | BadStartup::Replication) => {
                (sqlstate::NOT_SUPPORTED, self.to_string(), "")
            }
            Self::Startup(_) | Self::Protocol(_) | Self::Scram { error: ScramError::Malformed(_), .. } => (
                sqlstate::PROTOCOL_VIOLATION,
                self.to_string(),
                "check that the client speaks Postgres protocol 3",
            ),
            Self::Scram { user, error: ScramError::Proof } => (
                sqlstate::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
                "check the user's name and password, and that auth.users of the proxy lists it",
            ),
        };
        Some(Report::fatal(code, message, "reported by db-proxy at log-in", hint))
    }
}

/// Who came.
#[derive(Debug)]
pub(super) enum Visitor {
    /// Somebody who may log in.
    Client(Startup),
    /// Somebody who cancels another's query.
    Cancel(CancelKey),
}

/// A client's connection before its session.
#[derive(Debug)]
pub(super) struct Door {
    /// The socket.
    pub(super) stream: TcpStream,
    /// Received and not looked at.
    pub(super) inbox: BytesMut,
}

impl Door {
    /// Somebody connected.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, inbox: BytesMut::new() }
    }

    /// Reads the first packet, declining encryption before it.
    pub(super) async fn receive(&mut self) -> Result<Visitor, LoginError> {
        // Once each, as libpq asks; more is no client.
        for _ in 0..3 {
            match self.first_packet().await? {
                request @ (First::Ssl | First::GssEncryption) => {
                    if !self.inbox.is_empty() {
                        // Whoever sits on the wire could have put them before the handshake.
                        return Err(LoginError::Protocol("bytes behind a request for encryption"));
                    }
                    let _ = request;
                    self.stream.write_all(b"N").await?;
                }
                First::Cancel(key) => return Ok(Visitor::Cancel(key)),
                First::Startup(startup) => return Ok(Visitor::Client(startup)),
            }
        }
        Err(LoginError::Protocol("too many requests for encryption"))
    }

    /// Makes the client prove that it knows the password.
    pub(super) async fn authenticate(
        &mut self,
        startup: &Startup,
        shared: &Shared,
    ) -> Result<(), LoginError> {
        let mut out = Vec::new();
        if startup.minor > 0 || !startup.unknown_options.is_empty() {
            to_client::negotiate_version(&mut out, &startup.unknown_options);
        }
        to_client::sasl_mechanisms(&mut out);
        self.stream.write_all(&out).await?;

        let verifier = shared.verifiers.get(&startup.user).cloned();
        let verifier = verifier.unwrap_or_else(|| Verifier::mock(&shared.mock_secret, &startup.user));
        let failed = |error| LoginError::Scram { user: startup.user.clone(), error };

        let initial = self.message(b'p').await?;
        let (mechanism, rest) =
            frame::split_text(&initial).ok_or(LoginError::Protocol("no SASL mechanism"))?;
        if mechanism != b"SCRAM-SHA-256" {
            return Err(LoginError::Protocol("a SASL mechanism that was not offered"));
        }
        let (length, client_first) = rest.split_first_chunk().ok_or(LoginError::Protocol("no SASL data"))?;
        if u32::from_be_bytes(*length) as usize != client_first.len() {
            return Err(LoginError::Protocol("SASL data of another length than said"));
        }
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let nonce = base64::engine::general_purpose::STANDARD.encode(random);
        let exchange = Exchange::begin(verifier, client_first, &nonce).map_err(failed)?;

        out.clear();
        to_client::sasl_continue(&mut out, exchange.server_first().as_bytes());
        self.stream.write_all(&out).await?;
        let client_final = self.message(b'p').await?;
        let proof = exchange.finish(&client_final).map_err(failed)?;
        out.clear();
        to_client::sasl_final_and_ok(&mut out, proof.as_bytes());
        self.stream.write_all(&out).await?;
        Ok(())
    }

    /// Tells why not, and waits for nothing.
    pub(super) async fn refuse(mut self, report: &Report) {
        let mut out = Vec::new();
        report.put(&mut out);
        let _ = self.stream.write_all(&out).await;
        let _ = self.stream.shutdown().await;
    }

    async fn first_packet(&mut self) -> Result<First, LoginError> {
        loop {
            if let Some(length) = startup::packet_bytes(&self.inbox)?
                && self.inbox.len() >= length
            {
                let packet = self.inbox.split_to(length);
                return Ok(startup::parse(&packet)?);
            }
            self.read().await?;
        }
    }

    async fn message(&mut self, tag: u8) -> Result<BytesMut, LoginError> {
        loop {
            let header =
                frame::peek(&self.inbox).map_err(|_| LoginError::Protocol("an impossible length"))?;
            if let Some(frame) = header {
                if frame.tag != tag {
                    return Err(LoginError::Protocol("another message than the one that is due"));
                }
                if frame.bytes > MESSAGE_BYTES_MAX {
                    return Err(LoginError::Protocol("a message too long for a log-in"));
                }
                if self.inbox.len() >= frame.bytes {
                    let mut message = self.inbox.split_to(frame.bytes);
                    message.advance(HEADER_BYTES);
                    return Ok(message);
                }
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), LoginError> {
        match self.stream.read_buf(&mut self.inbox).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}
