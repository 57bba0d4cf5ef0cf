//! `dns --check-zone FILE [ORIGIN]`: reads a zone as the server would, says what is wrong or odd, and ends.

use crate::directory::{self, Loaded};
use crate::wire::Name;
use crate::zone::{OrderPolicy, Orders};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// The tool: 0 for a good zone, warnings or not; 1 for a broken one. Without an origin, the file's name gives it.
pub fn run(words: &[String]) -> ExitCode {
    let (code, text) = match words {
        [file] => check(Path::new(file), None),
        [file, origin, ..] => check(Path::new(file), Some(origin)),
        [] => (ExitCode::FAILURE, "no file to check".into()),
    };
    // Who has closed our output does not want it.
    let _ = write!(std::io::stdout(), "{text}");
    code
}

fn check(path: &Path, origin: Option<&str>) -> (ExitCode, String) {
    let named = match origin {
        Some(text) => Name::from_text(text.as_bytes(), Some(&Name::root())),
        None => directory::origin_of(path),
    };
    let origin = match named {
        Ok(origin) => origin,
        Err(error) => {
            let text = origin.unwrap_or("the file's name");
            return (ExitCode::FAILURE, format!("{}: {text} is no origin: {error}\n", path.display()));
        }
    };
    match directory::read_zone(path, &origin, u64::MAX - 1, &Orders::all(OrderPolicy::Fixed)) {
        Err(error) => (ExitCode::FAILURE, format!("error: {error}\n")),
        Ok(Loaded { zone, warnings, .. }) => {
            let mut text = String::new();
            for warning in warnings {
                writeln!(text, "warning: {warning}").expect("a String takes all");
            }
            let (serial, records) = (zone.soa().1.serial, zone.record_count());
            writeln!(text, "{origin}: good, serial {serial}, {records} records").expect("a String takes all");
            (ExitCode::SUCCESS, text)
        }
    }
}
