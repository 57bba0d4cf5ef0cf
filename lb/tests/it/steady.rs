//! The same exchange again and again, for counting what one costs: clients in step and an origin, on blocking sockets and
//! with memory of their own, so that what is counted is the balancer's.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const REQUEST: &[u8] =
    b"GET /small HTTP/1.1\r\nHost: bench.example.com\r\nUser-Agent: steady\r\nAccept: */*\r\n\r\n";
const BODY: [u8; 128] = [b'x'; 128];
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers every request alike, a health check with a page that says `ready`, for as long as the process lives.
pub(crate) fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let health: &[u8] = br#"{"status":"ready","instance":"origin","generation":"1"}"#;
    let page = |body: &[u8]| {
        let head = "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: ";
        [format!("{head}{}\r\n\r\n", body.len()).as_bytes(), body].concat()
    };
    let (small, health) = (page(&BODY), page(health));
    let (mut buffer, mut filled) = ([0; 8_192], 0);
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        // One at a time: who sends the next request before it has this answer is not the balancer.
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            let page = if buffer.starts_with(b"GET /small ") { &small } else { &health };
            if stream.write_all(page).is_err() {
                return;
            }
            filled = 0;
        }
    }
}

/// Clients that keep their connections.
pub(crate) struct Clients {
    streams: Vec<TcpStream>,
    answer: Vec<u8>,
}

impl Clients {
    /// Connects them; each has had one answer, all of the same length.
    pub(crate) fn connect(balancer: SocketAddr, count: usize) -> Self {
        let mut answer = Vec::new();
        let connect = |_| {
            let mut stream = TcpStream::connect(balancer).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(REQUEST).unwrap();
            answer.clear();
            let mut byte = [0];
            while !answer.ends_with(&BODY) {
                stream.read_exact(&mut byte).unwrap();
                answer.extend(byte);
            }
            stream
        };
        let streams = (0..count).map(connect).collect();
        Self { streams, answer }
    }

    /// Each sends a request, then each reads its answer, so often; returns how many requests those were.
    pub(crate) fn rounds(&mut self, rounds: usize) -> u64 {
        for _ in 0..rounds {
            for stream in &mut self.streams {
                stream.write_all(REQUEST).unwrap();
            }
            for stream in &mut self.streams {
                stream.read_exact(&mut self.answer).unwrap();
                let right = self.answer.starts_with(b"HTTP/1.1 200 OK\r\n") && self.answer.ends_with(&BODY);
                assert!(right, "{}", String::from_utf8_lossy(&self.answer));
            }
        }
        u64::try_from(rounds * self.streams.len()).unwrap()
    }
}
