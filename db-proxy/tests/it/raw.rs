//! A client that speaks the protocol byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use crate::cluster::PASSWORD;

/// A connection that has logged in.
pub struct Raw {
    pub stream: TcpStream,
    pub process_id: i32,
    pub secret: i32,
}

/// One message of the server.
pub type Message = (char, Vec<u8>);

/// A message with tag and length.
pub fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag as u8];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

pub fn query(sql: &str) -> Vec<u8> {
    message('Q', &[sql.as_bytes(), b"\0"].concat())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message('P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Bind without parameters to the unnamed portal.
pub fn bind(statement: &str) -> Vec<u8> {
    message('B', &[b"\0", statement.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

pub fn execute() -> Vec<u8> {
    message('E', b"\0\0\0\0\0")
}

pub fn sync() -> Vec<u8> {
    message('S', b"")
}

pub fn startup(parameters: &[&str]) -> Vec<u8> {
    let mut body = (3u32 << 16).to_be_bytes().to_vec();
    for text in parameters {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

impl Raw {
    pub fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, process_id: 0, secret: 0 }
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    pub fn connect_with(address: SocketAddr, parameters: &[&str]) -> Self {
        let mut raw = Self::dial(address);
        raw.send(&startup(&[&["user", "app", "database", "fitness"], parameters].concat()));
        assert_eq!(raw.log_in(PASSWORD), Ok(()));
        raw
    }

    /// SCRAM, up to the first ReadyForQuery; or the error's SQLSTATE.
    pub fn log_in(&mut self, password: &str) -> Result<(), String> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = self.receive();
            match (tag, body.get(3)) {
                ('R', Some(10)) => {
                    let data = scram.message();
                    let length = (data.len() as u32).to_be_bytes();
                    self.send(&message('p', &[b"SCRAM-SHA-256\0", &length[..], data].concat()));
                }
                ('R', Some(11)) => {
                    scram.update(&body[4..]).unwrap();
                    self.send(&message('p', scram.message()));
                }
                ('R', Some(12)) => scram.finish(&body[4..]).unwrap(),
                ('K', _) => {
                    self.process_id = i32::from_be_bytes(body[..4].try_into().unwrap());
                    self.secret = i32::from_be_bytes(body[4..].try_into().unwrap());
                }
                ('E', _) => return Err(code(&body)),
                ('Z', _) => return Ok(()),
                _ => {}
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn receive(&mut self) -> Message {
        self.try_receive().expect("a message")
    }

    pub fn try_receive(&mut self) -> std::io::Result<Message> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((char::from(header[0]), body))
    }

    /// Messages up to and with the next ReadyForQuery.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.receive();
            let last = message.0 == 'Z';
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// Sends, and returns the answer in short: tags, with values of rows, SQLSTATEs, command tags and the status.
    pub fn ask(&mut self, bytes: &[u8]) -> String {
        self.send(bytes);
        self.answer()
    }

    pub fn answer(&mut self) -> String {
        let messages = self.until_ready();
        messages.iter().filter(|(tag, _)| !matches!(tag, 'S' | 'N')).map(short).collect::<Vec<_>>().join(" ")
    }
}

fn short((tag, body): &Message) -> String {
    match tag {
        'E' => format!("E{}", code(body)),
        'D' => format!("D{}", values(body).join(",")),
        'C' => String::from_utf8_lossy(&body[..body.len() - 1]).replace(' ', "_"),
        'Z' => format!("Z{}", char::from(body[0])),
        other => other.to_string(),
    }
}

pub fn values(body: &[u8]) -> Vec<String> {
    let (mut values, mut rest) = (Vec::new(), &body[2..]);
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        values.push(String::from_utf8_lossy(&tail[..length]).into_owned());
        rest = &tail[length..];
    }
    values
}

pub fn code(body: &[u8]) -> String {
    let fields = body.split(|&byte| byte == 0);
    fields
        .filter_map(|field| field.strip_prefix(b"C"))
        .map(|code| String::from_utf8_lossy(code).into_owned())
        .next()
        .unwrap()
}
