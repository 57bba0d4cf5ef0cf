//! Clients that mean harm or know no better, with a good client beside them who must not notice.

use crate::running::{Plan, Server, ZONE, eventually, framed};
use crate::support::{query, with_edns};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn server() -> Server {
    Plan::new().zone("z", ZONE).with("DNS_TCP__IDLE_TIMEOUT_MS", "500").start()
}

/// Runs `attack` while good clients ask over both transports; then the server must be as it was: alive, its
/// descriptors given back, its memory not grown by more than 10 MB.
fn beside_a_good_client(attack: impl FnOnce(&Server)) {
    let mut server = server();
    for _ in 0..50 {
        server.udp(&query("set.z.", "A"));
        server.connect().ask(&query("set.z.", "A"));
    }
    let baseline = eventually("an idle server", || {
        (server.metric("dns_tcp_connections{transport=\"tcp\"}") == 0).then(|| server.descriptors())
    });
    let memory = server.resident_bytes();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(server.udp(&query("set.z.", "A")).answers.len(), 3);
                assert_eq!(server.connect().ask(&query("www.z.", "A")).answers.len(), 4);
                asked += 2;
            }
            asked
        });
        attack(&server);
        done.store(true, Ordering::Relaxed);
        assert!(good.join().unwrap() > 0);
    });
    assert!(server.is_running(), "{}", server.log());
    eventually("descriptors to be given back", || (server.descriptors() <= baseline).then_some(()));
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 10 << 20, "grew by {grown} octets");
    assert_eq!(server.admin_page("/livez").0, 200, "{}", server.log());
}

/// Octets that depend on `seed` alone.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect()
}

fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    let good = query("set.z.", "A");
    let changed = |at: usize, octet: u8| {
        let mut packet = good.clone();
        packet[at] = octet;
        packet
    };
    let mut long_name = good[..12].to_vec();
    long_name.extend(std::iter::repeat_n([1, b'a'], 200).flatten());
    long_name.extend([0, 0, 1, 0, 1]);
    let mut endless = good[..12].to_vec();
    endless.extend(std::iter::repeat_n([63; 64], 60).flatten());
    let mut looping = good[..12].to_vec();
    looping.extend([0xC0, 12, 0, 1, 0, 1]);
    let mut full_counts = good.clone();
    full_counts[6..12].fill(0xFF);
    let mut compressed = changed(11, 1);
    compressed.extend([0xC0, 12, 0, 41, 4, 0xD0, 0, 0, 0, 0, 0, 0]);
    let mut options = with_edns(good.clone(), 1_232, 0, false);
    let at = options.len() - 2;
    options[at..].copy_from_slice(&[0xFF, 0xFF]);
    vec![
        ("empty", Vec::new()),
        ("one octet", vec![0]),
        ("half a header", good[..6].to_vec()),
        ("a header alone", good[..12].to_vec()),
        ("a response", changed(2, 0x81)),
        ("an update", changed(2, 0x28)),
        ("opcode 15", changed(2, 0x78)),
        ("no question", changed(5, 0)),
        ("255 questions", changed(5, 255)),
        ("all counts full", full_counts),
        ("a label without end", changed(12, 63)),
        ("a reserved label type", changed(12, 0x80)),
        ("a name too long", long_name),
        ("a name without end", endless),
        ("a pointer to itself", looping),
        ("OPT under a name", compressed),
        ("options that overrun", options),
        ("class CH", changed(good.len() - 1, 3)),
        ("AXFR", changed(good.len() - 3, 252)),
        ("trailing octets", [good.clone(), vec![0; 300]].concat()),
        ("zeros", vec![0; 512]),
        ("ones", vec![0xFF; 512]),
        ("noise", noise(1, 1_400)),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: z\r\n\r\n".to_vec()),
        ("TLS", [vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3], noise(2, 500)].concat()),
    ]
}

fn udp(server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket
}

fn tcp(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Waits until the server has closed, whatever it says before.
fn closed_by_server(mut stream: TcpStream, what: &str) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        // Closing with octets unread resets the connection.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what}: not closed: {error}"),
    }
}

#[test]
fn payloads_over_udp() {
    beside_a_good_client(|server| {
        let socket = udp(server);
        for (_, payload) in payloads() {
            socket.send(&payload).unwrap();
        }
        for seed in 0..2_000 {
            let _ = socket.send(&noise(seed, 40 + seed as usize % 1_400));
        }
        let _ = socket.send(&noise(3, 60_000));
        let good = with_edns(query("set.z.", "A"), 1_232, 0, false);
        for length in 0..good.len() {
            let _ = socket.send(&good[..length]);
        }
        eventually("the long one to be counted", || {
            (server.metric("dns_packets_dropped_total{reason=\"oversized\"}") == 1).then_some(())
        });
    });
}

#[test]
fn payloads_over_tcp_framed_and_bare() {
    beside_a_good_client(|server| {
        for (what, payload) in payloads() {
            for octets in [framed(&payload), payload] {
                let mut stream = tcp(server);
                // The server may have closed before all is written.
                let _ = stream.write_all(&octets);
                closed_by_server(stream, what);
            }
        }
    });
}

#[test]
fn truncated_at_each_octet() {
    beside_a_good_client(|server| {
        let good = framed(&with_edns(query("www.z.", "A"), 1_232, 0, true));
        let half_open: Vec<_> = (0..good.len())
            .map(|length| {
                let mut stream = tcp(server);
                stream.write_all(&good[..length]).unwrap();
                stream
            })
            .collect();
        for length in 0..good.len() {
            let mut stream = tcp(server);
            stream.write_all(&good[..length]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            closed_by_server(stream, &format!("closed after {length} octets"));
        }
        for (length, stream) in half_open.into_iter().enumerate() {
            closed_by_server(stream, &format!("silent after {length} octets"));
        }
    });
}

#[test]
fn a_megabyte_of_noise() {
    beside_a_good_client(|server| {
        for seed in 0..20 {
            let mut stream = tcp(server);
            let _ = stream.write_all(&noise(seed, 1 << 20));
            closed_by_server(stream, "noise");
        }
    });
}

#[test]
fn connections_that_reset_at_once() {
    beside_a_good_client(|server| {
        for at in 0..300 {
            let mut stream = tcp(server);
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            if at % 2 == 0 {
                let _ = stream.write_all(&framed(&query("set.z.", "A")));
            }
        }
    });
}

#[test]
fn out_of_descriptors_it_waits_and_goes_on() {
    let mut server = Plan::new()
        .zone("z", ZONE)
        .with("DNS_TCP__CONNECTIONS_PER_CLIENT_MAX", "1000")
        .with("DNS_TCP__IDLE_TIMEOUT_MS", "60000")
        .start();
    let open = server.descriptors();
    server.limit_descriptors(open + 5);
    let held: Vec<_> = (0..40).map(|_| tcp(&server)).collect();
    eventually("the limit to be met", || server.log().contains("cannot accept").then_some(()));
    assert_eq!(server.udp(&query("set.z.", "A")).answers.len(), 3, "UDP needs no descriptor");
    drop(held);
    assert_eq!(server.connect().ask(&query("set.z.", "A")).answers.len(), 3);
    assert!(server.is_running());
}
