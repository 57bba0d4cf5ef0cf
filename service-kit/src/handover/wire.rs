//! Frames and descriptors on a unix stream.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::{Failure, Label, Message, Named};

/// Room for the names of some thousand sockets.
const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Descriptors in one packet; the kernel takes 253 (SCM_MAX_FD).
const BATCH: usize = 64;
/// A program with more listeners than this is not one of ours.
const SOCKETS_MAX: usize = 4_096;

pub(super) async fn say(stream: &mut UnixStream, message: &Message) -> Result<(), Failure> {
    let text = serde_json::to_vec(message).expect("messages are plain data");
    let length = u32::try_from(text.len()).expect("a message is short");
    stream.write_all(&[&length.to_be_bytes()[..], &text].concat()).await?;
    Ok(())
}

/// The next message; `None` when the other end is gone.
pub(super) async fn hear(stream: &mut UnixStream) -> Result<Option<Message>, Failure> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(Failure::Garbled(format!("a frame of {length} bytes")));
    }
    let mut text = vec![0; length];
    match stream.read_exact(&mut text).await {
        Ok(_) => {}
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| Failure::Garbled(error.to_string()))
}

/// [`hear`] within a time.
pub(super) async fn hear_within(
    stream: &mut UnixStream,
    limit: Duration,
) -> Result<Option<Message>, Failure> {
    tokio::time::timeout(limit, hear(stream)).await.unwrap_or(Err(Failure::Late(limit)))
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Sends listening sockets, each packet with one byte of data: without data there is no packet.
pub(super) async fn pass(stream: &UnixStream, sockets: &[Named]) -> Result<(), Failure> {
    for batch in sockets.chunks(BATCH) {
        let descriptors: Vec<_> = batch.iter().map(|socket| socket.listener.as_fd()).collect();
        stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
                assert!(fits, "the space is for a whole batch");
                let data = [IoSlice::new(b"+")];
                Ok(rustix::net::sendmsg(stream, &data, &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
    }
    Ok(())
}

/// Receives as many listening sockets as there are labels.
pub(super) async fn receive(stream: &UnixStream, labels: Vec<Label>) -> Result<Vec<Named>, Failure> {
    if labels.len() > SOCKETS_MAX {
        return Err(Failure::Garbled(format!("{} sockets", labels.len())));
    }
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    while descriptors.len() < labels.len() {
        let got = stream.async_io(Interest::READABLE, || batch(stream)).await?;
        if got.is_empty() {
            return Err(Failure::Garbled(format!("{} of {} sockets", descriptors.len(), labels.len())));
        }
        descriptors.extend(got);
    }
    labels.into_iter().zip(descriptors).map(named).collect()
}

fn batch(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    // One byte at a time: a packet's descriptors come with its data.
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("descriptors were cut off; is the limit of open files reached?"));
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            descriptors.extend(list);
        }
    }
    Ok(descriptors)
}

/// Nothing is believed that can be looked at: it has to be a listening TCP socket at that address.
fn named((label, descriptor): (Label, OwnedFd)) -> Result<Named, Failure> {
    let listener = TcpListener::from(descriptor);
    let address = listener.local_addr()?;
    if address != label.address || !SockRef::from(&listener).is_listener()? {
        return Err(Failure::Garbled(format!("{} is not a listener at {}", label.name, label.address)));
    }
    listener.set_nonblocking(true)?;
    Ok(Named { name: label.name, address, listener })
}
