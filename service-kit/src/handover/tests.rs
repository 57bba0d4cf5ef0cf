//! Both ends in one process, over real sockets.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::wire::{hear, say};
use super::*;
use crate::net;

/// A running process: its sockets, and how often it was told to retire.
struct Old {
    folder: TempDir,
    terms: Terms,
    address: SocketAddr,
    retired: Arc<AtomicUsize>,
    giving: JoinHandle<()>,
}

impl Old {
    fn with(sockets: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let terms = Terms { socket: folder.path().join("socket"), ready_timeout: Duration::from_millis(300) };
        let group = net::bind_tcp_group(SocketAddr::from(([127, 0, 0, 1], 0)), sockets).unwrap();
        let address = group[0].local_addr().unwrap();
        let name = |listener| Named { name: "http".into(), address, listener };
        let giver = Giver {
            program: "lb",
            sockets: group.into_iter().map(name).collect(),
            ready_timeout: terms.ready_timeout,
        };
        let mut place = Place::beside(&terms.socket).unwrap();
        place.open().unwrap();
        let retired = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&retired);
        let giving = tokio::spawn(async move {
            let retire = move || {
                counted.fetch_add(1, Ordering::SeqCst);
            };
            giver.give(&place, retire).await;
        });
        Self { folder, terms, address, retired, giving }
    }

    async fn take(&self) -> Result<Option<Taken>, Failure> {
        take(&self.terms, "lb", "1.0.0").await
    }

    /// Still in charge, and a next taker gets everything.
    async fn gives_everything(self, sockets: usize) {
        assert_eq!(self.retired.load(Ordering::SeqCst), 0);
        let taken = self.take().await.unwrap().expect("somebody is there");
        assert_eq!(taken.sockets.len(), sockets);
        assert_eq!(taken.ready().await.unwrap(), Answer::Yours);
        self.giving.await.unwrap();
        assert_eq!(self.retired.load(Ordering::SeqCst), 1);
    }

    async fn refusal(&self) -> String {
        match self.take().await {
            Err(Failure::Refused(reason)) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[tokio::test]
async fn connections_in_the_queues_are_passed_on() {
    let old = Old::with(3);
    let waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(old.address).unwrap()).collect();
    let mut taken = old.take().await.unwrap().unwrap();
    let sockets = std::mem::take(&mut taken.sockets);
    assert_eq!(taken.ready().await.unwrap(), Answer::Yours);
    old.giving.await.unwrap();
    // The old process has closed its descriptors; nobody has accepted yet.
    let mut accepted = 0;
    for socket in &sockets {
        while socket.listener.accept().is_ok() {
            accepted += 1;
        }
    }
    assert_eq!(accepted, waiting.len());
}

#[tokio::test]
async fn more_sockets_than_one_packet_takes() {
    Old::with(130).gives_everything(130).await;
}

#[tokio::test]
async fn a_taker_that_dies_changes_nothing() {
    let old = Old::with(2);
    drop(old.take().await.unwrap().unwrap());
    // The turn is free as soon as the giver has seen it.
    while old.take().await.is_err() {}
    let mut stream = UnixStream::connect(&old.terms.socket).await.unwrap();
    stream.write_all(&[0, 0, 0, 9, b'{']).await.unwrap();
    drop(stream);
    while old.take().await.is_err() {}
    assert_eq!(old.retired.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_word_of_a_dead_taker_is_not_taken() {
    let old = Old::with(1);
    let mut stream = UnixStream::connect(&old.terms.socket).await.unwrap();
    // Everything at once and gone: what a giver finds that was stopped in between.
    let ask = Message::Take { protocol: PROTOCOL, program: "lb".into(), version: "1".into() };
    say(&mut stream, &ask).await.unwrap();
    say(&mut stream, &Message::Ready).await.unwrap();
    drop(stream);
    while old.take().await.is_err() {}
    assert_eq!(old.retired.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_taker_at_a_time() {
    let old = Old::with(2);
    let first = old.take().await.unwrap().unwrap();
    assert_eq!(old.refusal().await, "another process is taking over");
    assert_eq!(first.ready().await.unwrap(), Answer::Yours);
}

#[tokio::test]
async fn a_taker_that_is_never_ready_is_told_so() {
    let old = Old::with(1);
    let mut slow = old.take().await.unwrap().unwrap();
    let told = slow.giver_speaks().await;
    assert!(matches!(&told, Err(Failure::Refused(reason)) if reason.contains("no answer")), "{told:?}");
    old.gives_everything(1).await;
}

#[tokio::test]
async fn another_version_or_program_is_refused() {
    let old = Old::with(1);
    let mut stream = UnixStream::connect(&old.terms.socket).await.unwrap();
    // A later version may say more than we know.
    let later = br#"{"say":"take","protocol":2,"program":"lb","version":"9","more":[1]}"#;
    stream.write_all(&u32::try_from(later.len()).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(later).await.unwrap();
    let answer = hear(&mut stream).await.unwrap();
    assert!(
        matches!(&answer, Some(Message::Refused { reason }) if reason.contains("version 2") && reason.contains("we speak 1")),
        "{answer:?}"
    );
    let error = take(&old.terms, "dns", "1").await.unwrap_err();
    assert_eq!(error.to_string(), "the running process refused: this is lb, not dns");
    old.gives_everything(1).await;
}

#[tokio::test]
async fn noise_is_not_believed() {
    let old = Old::with(1);
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 2, b'{', b'}'], &[0xff; 64]] {
        let mut stream = UnixStream::connect(&old.terms.socket).await.unwrap();
        stream.write_all(noise).await.unwrap();
        let answer = hear(&mut stream).await.unwrap();
        assert!(matches!(answer, Some(Message::Refused { .. })), "{answer:?}");
    }
    old.gives_everything(1).await;
}

#[tokio::test]
async fn a_giver_that_ends_leaves_the_taker_alone() {
    let old = Old::with(2);
    let mut taken = old.take().await.unwrap().unwrap();
    old.giving.abort();
    taken.giver_speaks().await.unwrap();
    assert_eq!(taken.sockets.len(), 2);
    assert_eq!(taken.ready().await.unwrap(), Answer::Alone);
    // And its socket file is gone with it.
    assert!(old.giving.await.is_err());
    assert!(!old.terms.socket.exists());
}

fn terms(path: &Path) -> Terms {
    Terms { socket: path.to_owned(), ready_timeout: Duration::from_secs(1) }
}

#[tokio::test]
async fn a_stale_socket_is_nobody_and_is_replaced() {
    let old = Old::with(1);
    let path = old.folder.path().join("stale");
    assert!(take(&terms(&path), "lb", "1").await.unwrap().is_none());
    // std's listener leaves its file, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(take(&terms(&path), "lb", "1").await.unwrap().is_none());
    let mut place = Place::beside(&path).unwrap();
    place.open().unwrap();
    UnixStream::connect(&path).await.unwrap();
    drop(place);
    assert!(!path.exists());
}

#[tokio::test]
async fn the_place_is_ours_only_and_no_other_file_is_touched() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut first = Place::beside(&path).unwrap();
    assert!(!path.exists());
    first.open().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut second = Place::beside(&path).unwrap();
    second.open().unwrap();
    // The first one ends after its successor came: the file stays.
    drop(first);
    UnixStream::connect(&path).await.unwrap();
    drop(second);
    std::fs::write(&path, "dear").unwrap();
    assert!(Place::beside(&path).unwrap_err().to_string().contains("no socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear");
}
