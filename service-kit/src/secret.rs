//! Values that must not be printed.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

/// Text that `Debug` and serialisation redact. Empty means "not given".
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value itself: the only way to it, so that its uses can be found.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_empty() { "[none]" } else { "[redacted]" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "[redacted]" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// The value given directly, or the first line of `file`; both empty gives an empty secret, both given is an error.
pub fn resolve(key: &str, direct: &Secret, file: &Path) -> Result<Secret, Invalid> {
    if file.as_os_str().is_empty() {
        return Ok(direct.clone());
    }
    let file_key = format!("{key}_file");
    if !direct.is_empty() {
        let reason = format!("{key} is given too, and both cannot be meant");
        return Err(Invalid::new(file_key, file.display(), reason, format!("remove {key} or {key}_file")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        Invalid::new(
            &file_key,
            file.display(),
            error.to_string(),
            "check the path and that this user may read it",
        )
    })?;
    match text.lines().next().map(str::trim_end).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line)),
        None => Err(Invalid::new(
            file_key,
            file.display(),
            "the file is empty",
            "write the secret as its first line",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_it() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
    }

    #[test]
    fn a_file_gives_its_first_line() {
        let file = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        std::fs::write(&file, "hunter2\n").unwrap();
        assert_eq!(resolve("a.password", &Secret::default(), &file).unwrap().expose(), "hunter2");
        assert_eq!(resolve("a.password", &Secret::new("x"), &file).unwrap_err().key(), "a.password_file");
        std::fs::write(&file, "\n").unwrap();
        assert!(resolve("a.password", &Secret::default(), &file).is_err());
        std::fs::remove_file(&file).unwrap();
        assert!(resolve("a.password", &Secret::default(), &file).is_err());
    }
}
