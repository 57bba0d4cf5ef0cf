//! How little pieces are written: copied together and sent with one plain `send`. `writev` with its list of pieces costs the
//! kernel more than the copy of a head and a small body costs us; large pieces still go as they are.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Up to so many bytes are copied.
const BYTES_MAX: usize = 1_024;

/// Writes the pieces, or some of them, in the cheapest way.
pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<std::io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [one] = pieces {
        return stream.poll_write(cx, one);
    }
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length > BYTES_MAX {
        return stream.poll_write_vectored(cx, pieces);
    }
    let mut together = [0; BYTES_MAX];
    let mut filled = 0;
    for piece in pieces {
        together[filled..filled + piece.len()].copy_from_slice(piece);
        filled += piece.len();
    }
    stream.poll_write(cx, &together[..filled])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most seven bytes at a time, and remembers how it was asked.
    #[derive(Default)]
    struct Sink {
        written: Vec<u8>,
        vectored: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            let taken = data.len().min(7);
            self.written.extend_from_slice(&data[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<std::io::Result<usize>> {
            self.vectored += 1;
            self.poll_write(cx, &pieces[0])
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[track_caller]
    fn check(pieces: &[&[u8]], expected: &[u8], vectored: usize) {
        let mut sink = Sink::default();
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let polled = poll_write(&mut sink, &mut cx, &slices);
        assert!(matches!(polled, Poll::Ready(Ok(count)) if count == expected.len()));
        assert_eq!((sink.written.as_slice(), sink.vectored), (expected, vectored));
    }

    #[test]
    fn little_pieces_go_together_and_large_ones_as_they_are() {
        check(&[b"abc"], b"abc", 0);
        check(&[b"ab", b"", b"cd"], b"abcd", 0);
        check(&[b"abcdef", b"ghijkl"], b"abcdefg", 0);
        check(&[&[b'x'; 1_000], &[b'y'; 1_000]], b"xxxxxxx", 1);
    }
}
