//! Master files (RFC 1035 section 5, with the extensions of RFC 2308, RFC 3597 and BIND): text in, records out, or the
//! file, line and column of what is wrong and what was expected there.

pub mod entry;
pub mod fields;
pub mod generate;
pub mod lexer;
pub mod location;
pub mod rdata_text;
pub mod svcb;

pub use entry::{Contents, Include, read, read_alone};

use std::fmt;
use std::path::PathBuf;

/// A place in a master file, both numbers from 1; the column counts octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// Text that is not a master file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {what}", place.line, place.column)]
pub struct SyntaxError {
    /// The included file that it stands in; none is the zone's own.
    pub file: Option<PathBuf>,
    pub place: Place,
    pub what: String,
}

impl SyntaxError {
    pub(crate) fn new(place: Place, what: impl fmt::Display) -> SyntaxError {
        SyntaxError { file: None, place, what: what.to_string() }
    }

    /// The same error, of an included file unless it comes from one further in.
    pub(crate) fn in_file(mut self, path: PathBuf) -> SyntaxError {
        self.file.get_or_insert(path);
        self
    }

    /// The usual form: what the grammar wants here, and what stands there.
    pub(crate) fn expected(place: Place, expected: impl fmt::Display, found: &[u8]) -> SyntaxError {
        SyntaxError::new(place, format_args!("expected {expected}, found {}", Quoted(found)))
    }
}

/// Text of the file in a message: printable, and never long.
struct Quoted<'t>(&'t [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 40;
        let shown = &self.0[..self.0.len().min(SHOWN_MAX)];
        let more = if shown.len() < self.0.len() { "..." } else { "" };
        write!(f, "'{}{more}'", shown.escape_ascii())
    }
}
