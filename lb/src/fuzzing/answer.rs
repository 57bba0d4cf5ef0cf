//! Answers: however the bytes of a backend are cut, they say the same; and what clients get as a whole answer is one for
//! hyper's client too, with the same meaning.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;

use super::memory::{IDLE_TURNS_MAX, Memory, Then, drive};
use crate::answer::{self, Malformed, Part};
use crate::validate;

/// An answer as far as it came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    head: Option<(StatusCode, HeaderMap)>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Another request could follow on the connection.
    reusable: bool,
    whole: bool,
}

/// The first byte says in which pieces the bytes come, the second whether they answer a HEAD; then the backend closes.
pub fn answer(data: &[u8]) {
    let [piece, to_head, data @ ..] = data else { return };
    let to_head = to_head & 1 == 1;
    let read = ours(data, data.len().max(1), to_head);
    for piece in [usize::from(*piece).max(1), 1] {
        assert_eq!(ours(data, piece, to_head), read, "cut every {piece} bytes");
    }
    let Ok(Read { head: Some((status, headers)), body, whole: true, .. }) = read else { return };
    // A 101 is followed by something else, and no client gets an answer that is refused after this.
    if status == StatusCode::SWITCHING_PROTOCOLS || validate::answer(&mut headers.clone()).is_err() {
        return;
    }
    let (their_status, their_headers, their_body) =
        theirs(data, to_head).unwrap_or_else(|error| panic!("whole for us, for hyper: {error}"));
    assert_eq!((status, headers), (their_status, their_headers));
    assert_eq!(body, their_body);
}

fn ours(data: &[u8], piece: usize, to_head: bool) -> Result<Read, Malformed> {
    let (mut bytes, mut places, mut headers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
    let (mut read, mut framing) = (Read::default(), None);
    for piece in data.chunks(piece) {
        bytes.extend_from_slice(piece);
        if framing.is_none()
            && let Some(head) = answer::head(&mut bytes, to_head, &mut places, &mut headers)?
        {
            read.head = Some((head.status, std::mem::take(&mut headers)));
            read.reusable = head.persistent;
            framing = Some(head.framing);
        }
        let Some(framing) = &mut framing else { continue };
        while let Some(part) = framing.next(&mut bytes)? {
            match part {
                Part::Data(data) => read.body.extend_from_slice(&data),
                Part::Trailers(trailers) => read.trailers = Some(trailers),
            }
        }
    }
    if let Some(framing) = &mut framing {
        read.reusable &= framing.is_over() && bytes.is_empty();
        read.whole = framing.closed().is_ok();
    }
    Ok(read)
}

/// What hyper's client makes of the same bytes.
fn theirs(data: &[u8], to_head: bool) -> Result<(StatusCode, HeaderMap, Vec<u8>), hyper::Error> {
    let output = Rc::new(RefCell::new(Vec::new()));
    let stream = Memory {
        input: data.to_vec(),
        at: 0,
        piece: data.len().max(1),
        then: Then::End,
        output: Rc::clone(&output),
        answers: true,
        heads: None,
    };
    let steps = Cell::new(0);
    let asked = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = if to_head { Method::HEAD } else { Method::GET };
        let answered = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            steps.set(1);
            Ok((head.status, head.headers, body.collect().await?.to_bytes().to_vec()))
        };
        futures_util::future::join(answered, connection).await.0
    };
    let turns = IDLE_TURNS_MAX + 2 * data.len();
    drive(asked, || output.borrow().len() + steps.get(), turns).expect("a connection that ended")
}
