use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A connection, and the backend's end of it.
async fn pair() -> (Exchange, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Exchange::new(stream), listener.accept().await.unwrap().0)
}

fn fields() -> HeaderMap {
    HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("a"))])
}

async fn answer(exchange: &mut Exchange) -> Result<response::Parts, Broken> {
    let mut headers = fields();
    std::future::poll_fn(|cx| exchange.poll_answer(cx, &mut headers)).await
}

async fn body(exchange: &mut Exchange) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| exchange.poll_frame(cx)).await {
        body.extend_from_slice(frame?.data_ref().unwrap());
    }
    Ok(body)
}

/// Waits until the runtime knows what has come.
async fn noticed(exchange: &Exchange) {
    exchange.stream.readable().await.unwrap();
}

#[tokio::test]
async fn one_request_after_another() {
    let (mut exchange, mut backend) = pair().await;
    for turn in 0..3 {
        assert!(exchange.is_open());
        exchange.begin(&Method::PUT, "/a?b", (&fields(), b"x: y\r\n"), Bytes::from_static(b"body"));
        let answered = async {
            let answer = answer(&mut exchange).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.headers.len()), (200, 1), "turn {turn}");
            body(&mut exchange).await.unwrap()
        };
        let serving = async {
            let expected = b"PUT /a?b HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\nbody";
            let mut request = vec![0; expected.len()];
            backend.read_exact(&mut request).await.unwrap();
            assert_eq!(request, expected);
            backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab").await.unwrap();
        };
        let (body, ()) = tokio::join!(answered, serving);
        assert_eq!(body, b"ab");
        assert!(exchange.is_over() && !exchange.is_unwritten());
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_or_spoken_on_is_not_open() {
    let (exchange, backend) = pair().await;
    drop(backend);
    noticed(&exchange).await;
    assert!(!exchange.is_open());
    let (exchange, mut backend) = pair().await;
    backend.write_all(b"x").await.unwrap();
    noticed(&exchange).await;
    assert!(!exchange.is_open());
}

#[tokio::test]
async fn what_follows_an_answer_ends_the_connection() {
    for more in ["", "HTTP/1.1 200 OK\r\n"] {
        let (mut exchange, mut backend) = pair().await;
        exchange.begin(&Method::GET, "/", (&fields(), b""), Bytes::new());
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na{more}");
        backend.write_all(text.as_bytes()).await.unwrap();
        answer(&mut exchange).await.unwrap();
        assert_eq!(body(&mut exchange).await.unwrap(), b"a");
        assert_eq!(exchange.is_open(), more.is_empty());
    }
}

#[tokio::test]
async fn an_end_before_the_end_is_broken() {
    for (text, has_head) in
        [("", false), ("HTTP/1.1 200", false), ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na", true)]
    {
        let (mut exchange, mut backend) = pair().await;
        exchange.begin(&Method::GET, "/", (&fields(), b""), Bytes::new());
        backend.write_all(text.as_bytes()).await.unwrap();
        backend.shutdown().await.unwrap();
        let answered = answer(&mut exchange).await;
        assert_eq!(answered.is_ok(), has_head, "{text:?}");
        assert!(body(&mut exchange).await.is_err() == has_head && !exchange.is_open(), "{text:?}");
    }
}

#[tokio::test]
async fn without_a_length_a_body_ends_with_its_connection() {
    let (mut exchange, mut backend) = pair().await;
    exchange.begin(&Method::GET, "/", (&fields(), b""), Bytes::new());
    backend.write_all(b"HTTP/1.1 200 OK\r\n\r\nabc").await.unwrap();
    backend.shutdown().await.unwrap();
    answer(&mut exchange).await.unwrap();
    assert_eq!(exchange.left(), None);
    assert_eq!(body(&mut exchange).await.unwrap(), b"abc");
    assert!(exchange.is_over() && !exchange.is_open());
}

#[tokio::test]
async fn a_large_answer_arrives_whole_and_reads_grow() {
    let (mut exchange, mut backend) = pair().await;
    exchange.begin(&Method::GET, "/", (&fields(), b""), Bytes::new());
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let writing = async {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", large.len());
        backend.write_all(head.as_bytes()).await.unwrap();
        backend.write_all(&large).await.unwrap();
    };
    let reading = async {
        answer(&mut exchange).await.unwrap();
        body(&mut exchange).await.unwrap()
    };
    let (read, ()) = tokio::join!(reading, writing);
    assert!(read == large && exchange.is_open() && exchange.read_next <= READ_MAX);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_end_of_the_request_is_one() {
    let (mut exchange, mut backend) = pair().await;
    // More than fits into the sockets' buffers: the backend reads none of it.
    exchange.begin(&Method::PUT, "/", (&fields(), b""), Bytes::from(vec![0; 64 << 20]));
    backend.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut exchange).await.unwrap().status.as_u16(), 413);
    assert!(exchange.is_over() && !exchange.is_open());
}
