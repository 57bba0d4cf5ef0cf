//! Answers on standard output. A reader that goes away (`stack status | head -3`) is no error and no panic.

use std::fmt::Display;
use std::io::Write as _;

pub(super) fn say(text: impl Display) {
    // Nobody is left to be told.
    let _ = writeln!(std::io::stdout(), "{text}");
}
