//! Backends found through DNS, with a server that answers whatever the test wants.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use crate::backend::Backend;
use crate::client::get;
use crate::process::{Lb, Setup, sum};

/// What the server says.
#[derive(Clone)]
enum Zone {
    Addresses(Vec<Ipv4Addr>),
    Failing(ResponseCode),
    Silent,
}

struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    async fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(zone));
        let shared = Arc::clone(&zone);
        tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            loop {
                let (read, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let zone = shared.lock().unwrap().clone();
                if let Some(answer) = answer(&buffer[..read], &zone) {
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        Self { address, zone }
    }

    fn say(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }
}

fn answer(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let code = match zone {
        Zone::Addresses(_) => ResponseCode::NoError,
        Zone::Failing(code) => *code,
        Zone::Silent => return None,
    };
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata.response_code = code;
    message.metadata.authoritative = true;
    if let Zone::Addresses(addresses) = zone
        && query.query_type() == RecordType::A
    {
        // As Docker's: a time to live that must not be believed.
        for address in addresses {
            message.answers.push(Record::from_rdata(query.name().clone(), 600, RData::A(A(*address))));
        }
    }
    message.queries.push(query);
    Some(message.to_vec().unwrap())
}

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 83, 1, last)
}

/// Backends share a port, as the addresses of one name do.
fn backends(names: &[(&str, u8)]) -> (Vec<Backend>, u16) {
    for _ in 0..20 {
        let first = Backend::start_at(names[0].0, SocketAddr::new(IpAddr::V4(at(names[0].1)), 0), 1);
        let port = first.address.port();
        let free = |(_, last): &(&str, u8)| std::net::TcpListener::bind((at(*last), port)).is_ok();
        if names[1..].iter().all(free) {
            let rest = names[1..]
                .iter()
                .map(|(name, last)| Backend::start_at(name, SocketAddr::new(IpAddr::V4(at(*last)), port), 1));
            return (std::iter::once(first).chain(rest).collect(), port);
        }
    }
    panic!("no port is free on all addresses");
}

async fn start(dns: &Dns, port: u16) -> Lb {
    Setup::of(&[])
        .with("discovery.static", "[]")
        .with("discovery.name", "app.fitness.example.com")
        .with("discovery.port", &port.to_string())
        .with("discovery.resolver", &dns.address.to_string())
        .with("discovery.interval_ms", "100")
        .with("discovery.timeout_ms", "300")
        .start_with("")
        .await
}

async fn up(lb: &Lb, count: f64) {
    lb.wait(&format!("{count} up"), |metrics| sum(metrics, "lb_backend_state", "state=\"up\"") == count)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_addresses_get_traffic_and_lost_ones_drain() {
    let (backends, port) = backends(&[("app-1", 1), ("app-2", 2)]);
    let dns = Dns::start(Zone::Addresses(vec![at(1)])).await;
    let lb = start(&dns, port).await;
    up(&lb, 1.0).await;
    assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-1");

    dns.say(Zone::Addresses(vec![at(1), at(2)]));
    let begun = Instant::now();
    while backends[1].state.total() == 0 {
        assert_eq!(get(lb.http, "/").await.status, 200);
        // The promise to those who scale out.
        assert!(begun.elapsed() < Duration::from_secs(5), "no traffic after 5 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    dns.say(Zone::Addresses(vec![at(2)]));
    lb.wait("the lost one drains", |metrics| sum(metrics, "lb_backend_state", "state=\"draining\"") == 1.0)
        .await;
    for _ in 0..6 {
        assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dns_outage_empties_nothing() {
    let (_backends, port) = backends(&[("app-1", 11)]);
    let dns = Dns::start(Zone::Addresses(vec![at(11)])).await;
    let lb = start(&dns, port).await;
    up(&lb, 1.0).await;
    for (zone, reason) in [
        (Zone::Failing(ResponseCode::NXDomain), "nxdomain"),
        (Zone::Failing(ResponseCode::ServFail), "server-failure"),
        (Zone::Addresses(vec![]), "empty"),
        (Zone::Silent, "timeout"),
    ] {
        dns.say(zone);
        let label = format!("reason=\"{reason}\"");
        lb.wait(reason, |metrics| sum(metrics, "lb_discovery_failures_total", &label) >= 3.0).await;
        assert_eq!(get(lb.http, "/").await.header("x-served-by"), "app-1");
        // Once per change, not once per lookup.
        assert_eq!(lb.log().matches(&format!("{reason:?}")).count(), 1, "{}", lb.log());
    }
    dns.say(Zone::Addresses(vec![at(11)]));
    crate::process::eventually("it works again", || lb.log().contains("discovery works again")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_backend_that_left_is_forgotten() {
    let (mut backends, port) = backends(&[("app-1", 21), ("app-2", 22)]);
    let dns = Dns::start(Zone::Addresses(vec![at(21), at(22)])).await;
    let lb = start(&dns, port).await;
    up(&lb, 2.0).await;
    backends[1].kill();
    dns.say(Zone::Addresses(vec![at(21)]));
    let gone = format!("backend=\"{}\"", backends[1].address);
    lb.wait("it is forgotten", |metrics| {
        !metrics.lines().any(|line| line.starts_with("lb_backend_state{") && line.contains(&gone))
    })
    .await;
    assert!(lb.log().contains("backend removed"), "{}", lb.log());
}
