//! Clients that mean harm, with a good one beside them.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use crate::cluster::{available, eventually};
use crate::proxy::{Proxy, shared};
use crate::raw::{Raw, message, query, startup};

/// What is sent by somebody who has not logged in.
fn at_the_door() -> Vec<Vec<u8>> {
    let good = startup(&["user", "app", "database", "fitness"]);
    let scram = |first: &[u8]| {
        let length = (first.len() as u32).to_be_bytes();
        [&good[..], &message('p', &[b"SCRAM-SHA-256\0", &length[..], first].concat())].concat()
    };
    let mut noise = vec![0; 1024 * 1024];
    let mut state = 1_u32;
    noise.fill_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    vec![
        Vec::new(),
        noise,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        b"\xff\xff\xff\xff\0\x03\0\0".to_vec(),
        b"\0\0\x27\x11\0\x03\0\0".to_vec(),
        b"\0\0\0\x04".to_vec(),
        b"\0\0\0\x08\0\x02\0\0".to_vec(),
        b"\0\0\0\x09\0\x03\0\0\0".to_vec(),
        [&b"\0\0\x27\x10\0\x03\0\0user\0"[..], &[b'a'; 9987]].concat(),
        startup(&["user", &"u".repeat(9000)]),
        startup(&["database", "x"]),
        startup(&["user", "app", "replication", "database"]),
        startup(&["user", "app", "options", "-c"]),
        b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\0\0\0\0\0".to_vec(),
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        [&good[..], b"p\xff\xff\xff\xff"].concat(),
        [&good[..], b"p\0\0\0\x03"].concat(),
        [&good[..], &query("SELECT 1")].concat(),
        [&good[..], &message('p', &[b'x'; 100_000])].concat(),
        scram(b""),
        scram(b"n,,n=,r="),
        scram(b"p=tls-server-end-point,,n=,r=abc"),
        scram(&[b'n'; 1500]),
        scram(b"n,,n=,r=abc,\xff"),
    ]
}

/// What is sent by somebody who has logged in.
fn inside() -> Vec<Vec<u8>> {
    let mut payloads = vec![
        b"Q\0\0\0\x03".to_vec(),
        b"Q\xff\xff\xff\xff".to_vec(),
        b"Q\0\0\0\x10half".to_vec(),
        b"P\0\0\0\x08a\0bc".to_vec(),
        b"P\x3f\xff\xff\xff".to_vec(),
        message('P', b""),
        message('B', b""),
        message('B', &[b'x'; 20_000]),
        message('D', b""),
        message('D', b"Zx\0"),
        message('C', b"Q"),
        message('E', &[0; 20_000]),
        message('S', b"more than nothing"),
        message('?', b""),
        message('p', b"again\0"),
        message('d', &[0; 100_000]),
        message('F', b""),
        [message('H', b""), message('H', b""), message('H', b"")].concat(),
        query(&"(".repeat(60_000)),
        query(&format!("SELECT 1{}", "+1".repeat(30_000))),
        query("SELECT '\0hidden'; DROP TABLE x"),
        vec![0; 70_000],
        vec![b'S'; 70_000],
    ];
    // Cut at every byte.
    let whole = [
        crate::raw::parse("n", "SELECT 1"),
        crate::raw::bind("n"),
        crate::raw::execute(),
        crate::raw::sync(),
    ]
    .concat();
    payloads.extend((1..whole.len()).map(|end| whole[..end].to_vec()));
    payloads
}

fn send_and_leave(mut raw: Raw, payload: &[u8]) {
    raw.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    raw.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // Refused in the middle is fine.
    let _ = raw.stream.write_all(payload);
    let _ = raw.stream.read(&mut [0; 4096]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn hostile_clients_harm_nobody() {
    if !available() {
        return;
    }
    let guard = shared().await;
    let mut proxy = Proxy::start(&guard.as_ref().unwrap().cluster, &[]).await;
    let address = proxy.address;
    // Once each, so that what is allocated once is there.
    for payload in [at_the_door(), inside()].concat() {
        send_and_leave(Raw::connect(address), &payload);
    }
    let settled = async |proxy: &Proxy| {
        eventually("all clients are gone", async || proxy.metric("db_proxy_clients").await == 0.0).await;
    };
    settled(&proxy).await;
    let (descriptors, memory) = (proxy.descriptors(), proxy.rss_bytes());

    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let good = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            let (mut raw, mut count) = (Raw::connect(address), 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(raw.ask(&query("SELECT 1")), "T D1 SELECT_1 ZI");
                assert_eq!(raw.ask(&query("BEGIN; COMMIT")), "BEGIN COMMIT ZI");
                count += 1;
            }
            count
        }
    });
    let mut sent = 0;
    for payload in at_the_door() {
        send_and_leave(Raw::dial(address), &payload);
        sent += 1;
    }
    for payload in inside() {
        send_and_leave(Raw::connect(address), &payload);
        sent += 1;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let asked = good.join().expect("the good client had no error");
    settled(&proxy).await;
    assert!(proxy.is_running());
    let (now, grown) = (proxy.descriptors(), proxy.rss_bytes().saturating_sub(memory));
    println!(
        "{sent} payloads beside {asked} good rounds; {descriptors} -> {now} descriptors; grew by {} kB",
        grown / 1024
    );
    // Pooled connections to the nodes may be a few more or fewer.
    assert!(now <= descriptors + 6, "{descriptors} -> {now}");
    assert!(grown < 10 * 1024 * 1024, "{grown} bytes");
    assert!(asked > 10);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_login_is_shown_out() {
    if !available() {
        return;
    }
    let guard = shared().await;
    let cluster = &guard.as_ref().unwrap().cluster;
    let proxy = Proxy::start(cluster, &[("DB_PROXY_SERVER__LOGIN_TIMEOUT_MS", "500")]).await;
    for beginning in [&b""[..], b"\0\0\0\x50\0\x03", &startup(&["user", "app"])] {
        let mut raw = Raw::dial(proxy.address);
        raw.send(beginning);
        let end = loop {
            match raw.try_receive() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    assert!(proxy.metric("db_proxy_login_failures_total{reason=\"timeout\"}").await >= 3.0);
}
