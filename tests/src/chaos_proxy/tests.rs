use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::*;

/// Echoes; after "bye" it closes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    address
}

async fn proxy() -> ChaosProxy {
    ChaosProxy::start(echo().await).await.unwrap()
}

async fn dial_in(proxy: &ChaosProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Says something and gives back what came within `ms`; `None` is silence.
async fn say(stream: &mut TcpStream, word: &str, ms: u64) -> Option<io::Result<String>> {
    if let Err(error) = stream.write_all(word.as_bytes()).await {
        return Some(Err(error));
    }
    heard(stream, ms).await
}

async fn heard(stream: &mut TcpStream, ms: u64) -> Option<io::Result<String>> {
    let mut buffer = vec![0; 64];
    let read = timeout(Duration::from_millis(ms), stream.read(&mut buffer)).await.ok()?;
    Some(read.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()))
}

async fn says_back(stream: &mut TcpStream, word: &str) {
    assert_eq!(say(stream, word, 5_000).await.expect("an answer").unwrap(), word);
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn is_reset(answer: Option<io::Result<String>>) -> bool {
    matches!(answer, Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn passes_and_counts() {
    let proxy = proxy().await;
    let mut stream = dial_in(&proxy).await;
    says_back(&mut stream, "hello").await;
    stream.shutdown().await.unwrap();
    assert_eq!(heard(&mut stream, 5_000).await.unwrap().unwrap(), "", "the end comes through in order");
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.reset), (1, 0));
    assert_eq!((counts.bytes_to_server, counts.bytes_to_client), (5, 5));
}

#[tokio::test]
async fn a_delay_is_added_to_both_ways_and_taken_back() {
    let proxy = proxy().await;
    let mut stream = dial_in(&proxy).await;
    proxy.delay(Duration::from_millis(60), Duration::from_millis(10));
    let begun = Instant::now();
    says_back(&mut stream, "slow").await;
    assert!(begun.elapsed() >= Duration::from_millis(120), "{:?}", begun.elapsed());
    // Long enough that only healing can end the wait.
    proxy.delay(Duration::from_secs(600), Duration::ZERO);
    assert!(say(&mut stream, "later", 50).await.is_none());
    proxy.heal().await.unwrap();
    assert_eq!(heard(&mut stream, 5_000).await.unwrap().unwrap(), "later");
}

#[tokio::test]
async fn a_cut_resets_refuses_and_heals_on_the_same_port() {
    let proxy = proxy().await;
    let mut stream = dial_in(&proxy).await;
    says_back(&mut stream, "hello").await;
    proxy.cut().await.unwrap();
    assert!(is_reset(heard(&mut stream, 5_000).await));
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    proxy.cut().await.unwrap();
    proxy.heal().await.unwrap();
    says_back(&mut dial_in(&proxy).await, "again").await;
    assert_eq!(proxy.counts().reset, 1);
}

#[tokio::test]
async fn a_black_hole_takes_everything_and_resets_when_healed() {
    let proxy = proxy().await;
    let mut old = dial_in(&proxy).await;
    says_back(&mut old, "hello").await;
    proxy.black_hole();
    let mut new = dial_in(&proxy).await;
    assert!(say(&mut old, "gone", 50).await.is_none());
    assert!(say(&mut new, "lost", 50).await.is_none());
    eventually("both were swallowed", || proxy.counts().bytes_swallowed == 8).await;
    proxy.heal().await.unwrap();
    assert!(is_reset(say(&mut new, "?", 5_000).await), "bytes were lost at the start");
    assert!(is_reset(say(&mut old, "?", 5_000).await), "the stream has a hole");
    says_back(&mut dial_in(&proxy).await, "again").await;
}

#[tokio::test]
async fn an_idle_connection_survives_a_black_hole() {
    let proxy = proxy().await;
    let mut stream = dial_in(&proxy).await;
    says_back(&mut stream, "before").await;
    proxy.black_hole();
    assert!(heard(&mut stream, 50).await.is_none());
    proxy.heal().await.unwrap();
    says_back(&mut stream, "after").await;
}

#[tokio::test]
async fn half_open_stops_one_direction_and_loses_nothing() {
    let proxy = proxy().await;
    let mut stream = dial_in(&proxy).await;
    says_back(&mut stream, "hello").await;
    proxy.half_open(Direction::ToClient);
    assert!(say(&mut stream, "late", 50).await.is_none());
    eventually("the server heard it", || proxy.counts().bytes_to_server == 9).await;
    assert_eq!(proxy.counts().bytes_to_client, 5);
    proxy.heal().await.unwrap();
    assert_eq!(heard(&mut stream, 5_000).await.unwrap().unwrap(), "late");
}

#[tokio::test]
async fn bandwidth_is_at_most_what_was_set() {
    let proxy = proxy().await;
    let mut stream = dial_in(&proxy).await;
    proxy.set(Direction::ToServer, Fault::Bandwidth { bytes_per_s: 100_000 });
    let begun = Instant::now();
    stream.write_all(&[b'x'; 20_000]).await.unwrap();
    let mut back = vec![0; 20_000];
    stream.read_exact(&mut back).await.unwrap();
    // A lower bound only: a busy machine may make it slower, nothing may make it faster.
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_reset() {
    let nobody = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let proxy = ChaosProxy::start(nobody.local_addr().unwrap()).await.unwrap();
    let mut stream = dial_in(&proxy).await;
    assert!(is_reset(heard(&mut stream, 5_000).await));
}

#[tokio::test]
async fn a_reset_client_resets_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = ChaosProxy::start(listener.local_addr().unwrap()).await.unwrap();
    let client = dial_in(&proxy).await;
    let (mut server, _) = listener.accept().await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    assert!(is_reset(heard(&mut server, 5_000).await));
}
