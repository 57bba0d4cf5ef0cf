//! One question and its answer over a socket; deadlines are the caller's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::DnsError;
use super::message::{answers, encode};

pub(super) async fn over_udp(server: SocketAddr, query: &Message) -> Result<Message, DnsError> {
    let io = |error: std::io::Error| DnsError::Io { server, reason: error.to_string() };
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(io)?;
    socket.connect(server).await.map_err(io)?;
    socket.send(&encode(server, query)?).await.map_err(io)?;
    let mut datagram = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut datagram).await.map_err(io)?;
        // Rubbish and stray answers are not ours: the caller's deadline ends the wait.
        match Message::from_vec(&datagram[..length]) {
            Ok(answer) if answers(query, &answer) => return Ok(answer),
            _ => {}
        }
    }
}

pub(super) async fn over_tcp(server: SocketAddr, query: &Message) -> Result<Message, DnsError> {
    let io = |error: std::io::Error| DnsError::Io { server, reason: error.to_string() };
    let bad = |reason: String| DnsError::Malformed { server, reason };
    let mut stream = TcpStream::connect(server).await.map_err(io)?;
    let bytes = encode(server, query)?;
    let length = u16::try_from(bytes.len()).map_err(|_| bad("query over 64 KiB".into()))?;
    stream.write_all(&[&length.to_be_bytes(), &bytes[..]].concat()).await.map_err(io)?;
    let length = stream.read_u16().await.map_err(io)?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.map_err(io)?;
    let answer = Message::from_vec(&bytes).map_err(|error| bad(error.to_string()))?;
    if answers(query, &answer) { Ok(answer) } else { Err(bad("it answers another question".into())) }
}
