//! `[handover]`: how a new process takes over from the running one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service_kit::{Handover, Invalid};

use super::values::ms;

/// What `sockaddr_un` has room for, without the end and what is added while a socket is being made (unix(7)).
const PATH_BYTES_MAX: usize = 90;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    socket: String,
    ready_timeout_ms: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self { socket: String::new(), ready_timeout_ms: 15_000 }
    }
}

pub(super) fn parse(raw: &Raw) -> Result<Option<Handover>, Invalid> {
    let ready_timeout = ms("handover.ready_timeout_ms", raw.ready_timeout_ms)?;
    if raw.socket.is_empty() {
        return Ok(None);
    }
    if raw.socket.len() > PATH_BYTES_MAX {
        let reason = format!("longer than {PATH_BYTES_MAX} bytes");
        let remedy = "write a short path, for example /run/lb/handover";
        return Err(Invalid::new("handover.socket", &raw.socket, reason, remedy));
    }
    let socket = PathBuf::from(&raw.socket);
    let folder = socket.parent().filter(|_| socket.is_absolute() && socket.file_name().is_some());
    if !folder.is_some_and(|folder| folder.is_dir()) {
        let remedy = "write an absolute path in a folder that exists, for example /run/lb/handover";
        return Err(Invalid::new("handover.socket", &raw.socket, "no place for a socket", remedy));
    }
    Ok(Some(Handover { socket, ready_timeout }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(socket: &str, refused_for: Option<&str>) {
        let got = parse(&Raw { socket: socket.into(), ..Raw::default() }).map(|_| ());
        match refused_for {
            None => assert_eq!(got, Ok(())),
            Some(part) => {
                assert!(got.unwrap_err().to_string().contains(part), "{socket} should be refused: {part}");
            }
        }
    }

    #[test]
    fn a_socket_needs_a_place() {
        check("", None);
        check("/tmp/handover", None);
        check("handover", Some("no place for a socket"));
        check("/", Some("no place for a socket"));
        check("/no/such/folder/handover", Some("in a folder that exists"));
        check(&format!("/tmp/{}", "x".repeat(100)), Some("longer than 90 bytes"));
        let never = Raw { socket: "/tmp/handover".into(), ready_timeout_ms: 0 };
        assert!(parse(&never).unwrap_err().to_string().contains("handover.ready_timeout_ms: got 0"));
    }
}
