//! Connecting and logging in to a node, and small questions asked on the proxy's own behalf.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use service_kit::Secret;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::frame::{self, HEADER_BYTES};
use crate::wire::message::to_server;
use crate::wire::report::ServerError;

/// Longest message expected while logging in or answering a question of the proxy itself.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// As whom to log in where.
#[derive(Debug, Clone)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The database.
    pub database: String,
    /// Shown in `pg_stat_activity`.
    pub application_name: &'static str,
}

/// What cancels a connection's query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerKey {
    /// Of the server process.
    pub process_id: i32,
    /// Its secret.
    pub secret: Vec<u8>,
}

/// Why a connection could not be made, or ended.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens there, or the network says no.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] io::Error),
    /// The deadline passed.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection ended in the middle.
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    /// Postgres said no.
    #[error("Postgres refused with {}: {}", .0.code, .0.message)]
    Refused(ServerError),
    /// Something that this protocol does not have.
    #[error("unexpected answer: {0}")]
    Protocol(&'static str),
    /// SCRAM failed on the proxy's side: also when Postgres does not know the password.
    #[error("authentication failed: {0}")]
    Authentication(#[source] io::Error),
}

impl ConnectError {
    /// The metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::Broken(_) => "broken",
            Self::Refused(_) => "refused",
            Self::Protocol(_) => "protocol",
            Self::Authentication(_) => "authentication",
        }
    }

    /// Another attempt, here or elsewhere, may do better.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout(_) | Self::Broken(_) => true,
            Self::Refused(error) => matches!(error.code.as_str(), "57P01" | "57P02" | "57P03" | "53300"),
            Self::Protocol(_) | Self::Authentication(_) => false,
        }
    }
}

/// An open connection that has logged in.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// Received and not looked at.
    pub inbox: BytesMut,
    /// Cancels what runs here.
    pub key: ServerKey,
    /// ParameterStatus values of the log-in.
    pub parameters: BTreeMap<String, String>,
}

impl Connection {
    /// Connects and logs in within `limit`.
    pub async fn open(address: &str, login: &Login, limit: Duration) -> Result<Self, ConnectError> {
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(ConnectError::Unreachable)?;
            stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
            let mut connection = Self {
                stream,
                inbox: BytesMut::new(),
                key: ServerKey::default(),
                parameters: BTreeMap::new(),
            };
            connection.log_in(login).await?;
            Ok(connection)
        };
        timeout(limit, connecting).await.unwrap_or(Err(ConnectError::Timeout(limit)))
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), ConnectError> {
        let mut out = Vec::new();
        let parameters = [
            ("user", login.user.as_str()),
            ("database", &login.database),
            ("application_name", login.application_name),
            ("client_encoding", "UTF8"),
        ];
        to_server::startup(&mut out, &parameters);
        self.write(&out).await?;
        let mut scram = None;
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'R' => self.authenticate(&body, login, &mut scram).await?,
                b'S' => {
                    if let Some((name, rest)) = frame::split_text(&body) {
                        let value = frame::split_text(rest).map_or(&b""[..], |(value, _)| value);
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        self.parameters.insert(text(name), text(value));
                    }
                }
                b'K' => {
                    let (id, secret) =
                        body.split_first_chunk().ok_or(ConnectError::Protocol("a short key"))?;
                    self.key = ServerKey { process_id: i32::from_be_bytes(*id), secret: secret.to_vec() };
                }
                b'Z' => return Ok(()),
                b'E' => return Err(ConnectError::Refused(ServerError::parse(&body))),
                b'N' | b'v' => {}
                _ => return Err(ConnectError::Protocol("an unknown message while logging in")),
            }
        }
    }

    async fn authenticate(
        &mut self,
        body: &[u8],
        login: &Login,
        scram: &mut Option<ScramSha256>,
    ) -> Result<(), ConnectError> {
        let (code, data) =
            body.split_first_chunk().ok_or(ConnectError::Protocol("a short authentication request"))?;
        let mut out = Vec::new();
        match (u32::from_be_bytes(*code), scram.as_mut()) {
            (0, _) => {}
            (5, _) => {
                let salt = data.try_into().map_err(|_| ConnectError::Protocol("a short salt"))?;
                let mut hash = postgres_protocol::authentication::md5_hash(
                    login.user.as_bytes(),
                    login.password.expose().as_bytes(),
                    salt,
                )
                .into_bytes();
                hash.push(0);
                to_server::password(&mut out, &hash);
            }
            (10, _) => {
                let mut mechanisms = data.split(|&byte| byte == 0);
                if !mechanisms.any(|mechanism| mechanism == b"SCRAM-SHA-256") {
                    return Err(ConnectError::Protocol("no SASL mechanism in common"));
                }
                let password = login.password.expose().as_bytes();
                let exchange = scram.insert(ScramSha256::new(password, ChannelBinding::unsupported()));
                to_server::sasl_initial(&mut out, "SCRAM-SHA-256", exchange.message());
            }
            (11, Some(exchange)) => {
                exchange.update(data).map_err(ConnectError::Authentication)?;
                to_server::password(&mut out, exchange.message());
            }
            (12, Some(exchange)) => exchange.finish(data).map_err(ConnectError::Authentication)?,
            // A password in clear would go over the wire in clear.
            (3, _) => return Err(ConnectError::Protocol("clear-text passwords are not sent; use SCRAM")),
            _ => return Err(ConnectError::Protocol("an unknown way to authenticate")),
        }
        self.write(&out).await
    }

    /// Runs `sql` and returns its rows as text. The caller bounds the time.
    pub async fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ConnectError> {
        let mut out = Vec::new();
        to_server::query(&mut out, sql);
        self.write(&out).await?;
        let (mut rows, mut error) = (Vec::new(), None);
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'D' => rows.push(row(&body).ok_or(ConnectError::Protocol("a malformed row"))?),
                b'E' => error = Some(ServerError::parse(&body)),
                b'Z' => return error.map_or(Ok(rows), |error| Err(ConnectError::Refused(error))),
                _ => {}
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectError> {
        self.stream.write_all(bytes).await.map_err(ConnectError::Broken)
    }

    async fn message(&mut self) -> Result<(u8, BytesMut), ConnectError> {
        loop {
            let header =
                frame::peek(&self.inbox).map_err(|_| ConnectError::Protocol("an impossible length"))?;
            if let Some(frame) = header {
                if frame.bytes > MESSAGE_BYTES_MAX {
                    return Err(ConnectError::Protocol("a message too long for a log-in"));
                }
                if self.inbox.len() >= frame.bytes {
                    let mut message = self.inbox.split_to(frame.bytes);
                    message.advance(HEADER_BYTES);
                    return Ok((frame.tag, message));
                }
            }
            if self.stream.read_buf(&mut self.inbox).await.map_err(ConnectError::Broken)? == 0 {
                return Err(ConnectError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => {
                values.push(None);
                rest = tail;
            }
            Ok(length) => {
                let (value, tail) = tail.split_at_checked(length)?;
                values.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = tail;
            }
        }
    }
    Some(values)
}
