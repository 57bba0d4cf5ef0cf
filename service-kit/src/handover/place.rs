//! The socket file: who may connect, what a stale one is, and replacing one without a moment in which there is none.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::Failure;

/// Takers that may wait at once; there is one, but for mistakes.
const BACKLOG: i32 = 8;

/// A listening socket under a temporary name, and under its own once [`Place::open`] was called. Removed when dropped, if it
/// is still ours then.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Until it is opened.
    part: Option<PathBuf>,
    /// Which file is ours.
    file: (u64, u64),
}

impl Place {
    /// Listens beside the path, so that the process that is there keeps it until we are ready.
    pub(crate) fn beside(path: &Path) -> Result<Self, Failure> {
        let named = |error| Failure::Place { place: path.to_owned(), error };
        is_no_other_file(path).map_err(named)?;
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}", std::process::id()));
        let part = PathBuf::from(part);
        let _ = std::fs::remove_file(&part);
        let listener = listen(&part).map_err(named)?;
        let file = identity(&part).map_err(named)?;
        Ok(Self { listener, path: path.to_owned(), part: Some(part), file })
    }

    /// Takes the path, whatever stale socket is there.
    pub(crate) fn open(&mut self) -> Result<(), Failure> {
        if let Some(part) = self.part.take() {
            std::fs::rename(&part, &self.path)
                .map_err(|error| Failure::Place { place: self.path.clone(), error })?;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let path = self.part.as_ref().unwrap_or(&self.path);
        // A successor may have put its own there.
        if identity(path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// A path that was mistyped must not cost anybody a file.
fn is_no_other_file(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            Err(io::Error::other("there is a file that is no socket; remove it or name another path"))
        }
        _ => Ok(()),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before it listens: until then nobody can connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Connects to whoever waits there; `None` when nobody does (no file, or one that a dead process left).
pub(super) async fn connect(path: &Path) -> Result<Option<UnixStream>, Failure> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(Failure::Place { place: path.to_owned(), error }),
    }
}

/// Only a process of the same user, or root's, is given sockets or believed to have some.
pub(super) fn check_peer(stream: &UnixStream) -> Result<Option<i32>, Failure> {
    let peer = stream.peer_cred()?;
    if peer.uid() == geteuid().as_raw() || peer.uid() == 0 {
        Ok(peer.pid())
    } else {
        Err(Failure::Stranger(peer.uid()))
    }
}

/// Whether the other end is still connected, asked of the kernel: what it said before it ended can still be read, so a
/// process that was stopped meanwhile would take the word of a dead one.
pub(super) fn is_there(stream: &UnixStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = SockRef::from(stream).peek(&mut byte);
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
