//! Tells systemd that the service is up and which process it is now, by the protocol of sd_notify(3): one datagram to the
//! socket named in `NOTIFY_SOCKET`. A unit with `Type=notify` and `NotifyAccess=all` follows a hand-over this way.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// Says `READY=1` and `MAINPID`, when somebody wants to know.
pub(crate) fn serving() {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text = format!("MAINPID={}\nREADY=1", std::process::id());
    let bytes = name.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    if let Err(error) = told {
        warn!(%error, "cannot tell the service manager that we serve (NOTIFY_SOCKET)");
    }
}
