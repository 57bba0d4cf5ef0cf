//! Reads a directory of zones: every `ORIGIN.zone` is the master file of the zone ORIGIN. Each file stands for itself, so
//! that one broken file does not hold back the others.

use crate::config::ZoneFiles;
use crate::master::{self, SyntaxError};
use crate::wire::{Name, NameError};
use crate::zone::{Fault, Zone};
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What one file gave.
#[derive(Debug)]
pub struct ZoneFile {
    pub path: PathBuf,
    /// `None` when the file's name is no domain name.
    pub origin: Option<Name>,
    /// The zone with its warnings.
    pub outcome: Result<(Zone, Vec<Fault>), ZoneFileError>,
}

/// Why a file gave no zone. Prints without the path; [`ZoneFileError::at`] puts it in front.
#[derive(Debug, thiserror::Error)]
pub enum ZoneFileError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("has more than {0} octets; raise zones.file_bytes_max if that is meant")]
    TooLarge(u64),
    #[error("the file's name must be ORIGIN.zone: {0}")]
    FileName(NameError),
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    #[error("{}", .0.what)]
    Zone(Fault),
}

impl ZoneFileError {
    /// The log field that tells the kinds apart.
    pub fn kind(&self) -> &'static str {
        match self {
            ZoneFileError::Unreadable(_) => "unreadable",
            ZoneFileError::TooLarge(_) => "too-large",
            ZoneFileError::FileName(_) => "file-name",
            ZoneFileError::Syntax(_) => "syntax",
            ZoneFileError::Zone(_) => "zone",
        }
    }
}

impl ZoneFileError {
    /// `path:line:column: what`, as compilers write it.
    pub fn at(&self, path: &Path) -> String {
        match self {
            ZoneFileError::Syntax(error) => format!("{}:{error}", path.display()),
            ZoneFileError::Zone(fault) => fault_at(path, fault),
            other => format!("{}: {other}", path.display()),
        }
    }
}

/// `path:line: what`; a fault of the zone as a whole has no line.
pub fn fault_at(path: &Path, fault: &Fault) -> String {
    match fault.line {
        0 => format!("{}: {}", path.display(), fault.what),
        line => format!("{}:{line}: {}", path.display(), fault.what),
    }
}

/// Reads all zones. Fails only when the directory itself cannot be read.
pub fn read(files: &ZoneFiles) -> std::io::Result<Vec<ZoneFile>> {
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
    Ok(paths.into_iter().map(|path| read_file(path, files)).collect())
}

fn read_file(path: PathBuf, files: &ZoneFiles) -> ZoneFile {
    let stem = path.file_stem().unwrap_or_default().as_bytes();
    match Name::from_text(stem, Some(&Name::root())) {
        Err(error) => ZoneFile { path, origin: None, outcome: Err(ZoneFileError::FileName(error)) },
        Ok(origin) => {
            let outcome = read_zone(&path, &origin, files);
            ZoneFile { path, origin: Some(origin), outcome }
        }
    }
}

fn read_zone(path: &Path, origin: &Name, files: &ZoneFiles) -> Result<(Zone, Vec<Fault>), ZoneFileError> {
    let mut text = Vec::new();
    let bytes_max = files.file_bytes_max;
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(ZoneFileError::TooLarge(bytes_max));
    }
    let contents = master::read(&text, origin)?;
    Zone::build(origin.clone(), contents.records, files.order).map_err(ZoneFileError::Zone)
}
