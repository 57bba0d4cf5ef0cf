//! Tells whoever started this process which addresses it got.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Writes `{"listener":"address",…}` in one step: a reader sees nothing or the whole.
pub(crate) fn write(path: &Path, bound: &BTreeMap<String, SocketAddr>) -> io::Result<()> {
    let text = serde_json::to_string(bound).expect("addresses are plain text");
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, text)?;
    std::fs::rename(&part, path)
}
