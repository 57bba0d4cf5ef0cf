//! Reads a directory of zones: every `ORIGIN.zone` is the master file of the zone ORIGIN, and the files it includes are
//! found from the directory it is in. Each file stands for itself, so that one broken file does not hold back the others.

use crate::config::ZoneFiles;
use crate::master::{self, SyntaxError};
use crate::wire::{Name, NameError};
use crate::zone::{Fault, Orders, Zone};
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What one file gave.
#[derive(Debug)]
pub struct ZoneFile {
    /// `None` when the file's name is no domain name.
    pub origin: Option<Name>,
    pub outcome: Result<Loaded, ZoneFileError>,
}

/// A zone as it was read.
#[derive(Debug)]
pub struct Loaded {
    pub zone: Zone,
    /// What is odd, each with its place.
    pub warnings: Vec<String>,
    /// The files that it includes.
    pub included: Vec<PathBuf>,
}

/// Why a file gave no zone. Prints as compilers do, `path:line:column: what`, as far as there is a place.
#[derive(Debug, thiserror::Error)]
pub enum ZoneFileError {
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: has more than {bytes_max} octets; raise zones.file_bytes_max if that is meant", path.display())]
    TooLarge { path: PathBuf, bytes_max: u64 },
    #[error("{}: the file's name must be ORIGIN.zone: {error}", path.display())]
    FileName { path: PathBuf, error: NameError },
    #[error("{}:{error}", path.display())]
    Syntax { path: PathBuf, error: SyntaxError },
    #[error("{what}")]
    Zone { what: String, included: Vec<PathBuf> },
}

impl ZoneFileError {
    /// The log field that tells the kinds apart.
    pub fn kind(&self) -> &'static str {
        match self {
            ZoneFileError::Unreadable { .. } => "unreadable",
            ZoneFileError::TooLarge { .. } => "too-large",
            ZoneFileError::FileName { .. } => "file-name",
            ZoneFileError::Syntax { .. } => "syntax",
            ZoneFileError::Zone { .. } => "zone",
        }
    }

    /// The files beside the zone's own whose repair may end it.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            ZoneFileError::Syntax { path, .. } => std::slice::from_ref(path),
            ZoneFileError::Zone { included, .. } => included,
            _ => &[],
        }
    }
}

/// Reads all zones. Fails only when the directory itself cannot be read.
pub fn read(files: &ZoneFiles) -> io::Result<Vec<ZoneFile>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&files.directory)? {
        let path = entry?.path();
        // Editors leave .name.zone.swp and the like; hidden files are never zones.
        let hidden = path.file_name().is_none_or(|name| name.as_bytes().starts_with(b"."));
        if path.extension() == Some(OsStr::new("zone")) && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    let read_one = |path: PathBuf| match origin_of(&path) {
        Err(error) => ZoneFile { origin: None, outcome: Err(ZoneFileError::FileName { path, error }) },
        Ok(origin) => {
            let outcome = read_zone(&path, &origin, files.file_bytes_max, &files.orders);
            ZoneFile { origin: Some(origin), outcome }
        }
    };
    Ok(paths.into_iter().map(read_one).collect())
}

/// The origin that a file's name says: `example.com` for `example.com.zone`.
pub fn origin_of(path: &Path) -> Result<Name, NameError> {
    Name::from_text(path.file_stem().unwrap_or_default().as_bytes(), Some(&Name::root()))
}

/// Reads one zone with all the files it includes, together at most `bytes_max` octets.
pub fn read_zone(
    path: &Path,
    origin: &Name,
    bytes_max: u64,
    orders: &Orders,
) -> Result<Loaded, ZoneFileError> {
    let mut room = bytes_max;
    let text = match take(path, &mut room) {
        Err(error) => return Err(ZoneFileError::Unreadable { path: path.to_owned(), error }),
        Ok(None) => return Err(ZoneFileError::TooLarge { path: path.to_owned(), bytes_max }),
        Ok(Some(text)) => text,
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut include = |name: &Path| {
        let path = folder.join(name);
        match take(&path, &mut room) {
            Err(error) => Err(error.to_string()),
            Ok(None) => Err(format!("with it the zone has more than {bytes_max} octets")),
            Ok(Some(text)) => Ok((path, text)),
        }
    };
    let contents = master::read(&text, origin, &mut include).map_err(|mut error| {
        let path = error.file.take().unwrap_or_else(|| path.to_owned());
        ZoneFileError::Syntax { path, error }
    })?;
    let included = contents.included;
    let at = |fault: &Fault| fault_at(path, &included, fault);
    match Zone::build_with(origin.clone(), contents.records, orders) {
        Ok((zone, warnings)) => {
            let warnings = warnings.iter().map(at).collect();
            Ok(Loaded { zone, warnings, included })
        }
        Err(fault) => {
            let what = at(&fault);
            Err(ZoneFileError::Zone { what, included })
        }
    }
}

/// A file's text, and its octets taken off `room`; none when there are more.
fn take(path: &Path, room: &mut u64) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(*room + 1).read_to_end(&mut text)?;
    let left = room.checked_sub(text.len() as u64);
    *room = left.unwrap_or(*room);
    Ok(left.map(|_| text))
}

/// `path:line: what`; a fault of the zone as a whole has no line.
fn fault_at(path: &Path, included: &[PathBuf], fault: &Fault) -> String {
    let at = usize::from(fault.line.file).checked_sub(1).and_then(|at| included.get(at));
    let path = at.map_or(path, PathBuf::as_path).display();
    match fault.line.number {
        0 => format!("{path}: {}", fault.what),
        number => format!("{path}:{number}: {}", fault.what),
    }
}
