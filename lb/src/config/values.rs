//! Values that several sections read in the same way.

use std::time::Duration;

use service_kit::Invalid;

/// Milliseconds, from 1 to a day: beyond it a deadline is a mistake in the unit, and clock arithmetic would have to care.
pub(super) fn ms(key: &str, value: u64) -> Result<Duration, Invalid> {
    if (1..=86_400_000).contains(&value) {
        Ok(Duration::from_millis(value))
    } else {
        Err(Invalid::new(key, value, "out of range", "write 1 to 86400000 milliseconds"))
    }
}

/// A limit that lets at least one through.
pub(super) fn at_least_one(key: &str, value: u64) -> Result<u64, Invalid> {
    if value == 0 {
        Err(Invalid::new(key, 0, "nothing could ever pass", "write at least 1"))
    } else {
        Ok(value)
    }
}

/// The same as a count of things in memory.
pub(super) fn count(key: &str, value: u64) -> Result<usize, Invalid> {
    at_least_one(key, value).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

/// A share in whole percent.
pub(super) fn percent(key: &str, value: u64) -> Result<usize, Invalid> {
    match value {
        0..=100 => Ok(usize::try_from(value).expect("at most 100")),
        _ => Err(Invalid::new(key, value, "out of range", "write 0 to 100")),
    }
}
