//! Configuration: one TOML file, overlaid by environment variables, parsed once into types that cannot be wrong.
//!
//! A variable is `PROGRAM_SECTION__KEY`; deeper keys add `__KEY`. Its text is read as the type that the key has in the
//! file or by default, so `LB_SERVER__LISTEN=[::]:80` stays text while lists and tables are JSON. Unknown keys are errors
//! wherever they come from.

mod kit;
mod overlay;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub(crate) use kit::{Kit, LogFormat};

use crate::Handover;

/// A program's configuration: `Raw` is what files say, `Self` is what the program works with.
pub trait Settings: Sized + Send + Sync + 'static {
    /// Plain serde structs with `#[serde(default, deny_unknown_fields)]` at every level.
    type Raw: Serialize + DeserializeOwned + Default;

    /// Turns what was written into what is meant, or says which key is wrong, why, and what to write instead.
    fn parse(raw: Self::Raw) -> Result<Self, Invalid>;

    /// How a new process takes over from the running one; most programs are stopped and started instead.
    fn handover(&self) -> Option<&Handover> {
        None
    }
}

/// One wrong value: where, what, why, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    key: String,
    value: String,
    reason: String,
    remedy: String,
}

impl Invalid {
    /// `key` is the path in the file (`pools.web.max_inflight`), `remedy` an instruction.
    pub fn new(
        key: impl Into<String>,
        value: impl fmt::Display,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), value: value.to_string(), reason: reason.into(), remedy: remedy.into() }
    }

    /// The key that is wrong.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it says what to do.
    pub fn has_remedy(&self) -> bool {
        !self.remedy.is_empty()
    }

    /// The same for a key of a section that stands below another: `upstream.x` within `pools.api`.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        self.key = format!("{section}.{}", self.key);
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: got {}: {}", self.key, self.value, self.reason)?;
        if !self.remedy.is_empty() {
            write!(out, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Why a configuration was refused. `Display` names file, key, value, reason and remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("{}: cannot be read: {source}; check the path given to --config and its permissions", file.display())]
    Unreadable {
        /// The path as given.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: not valid TOML: {message}", file.display())]
    Syntax {
        /// The path as given.
        file: PathBuf,
        /// Line, column and what was expected.
        message: String,
    },
    /// A key is unknown, has the wrong type, or a value that cannot work.
    #[error("{origin}: {invalid}")]
    Invalid {
        /// The file, or the environment variable that the value came from.
        origin: String,
        /// What is wrong.
        invalid: Invalid,
    },
}

/// A configuration ready to use, with the text of what is in force.
pub(crate) struct Loaded<S> {
    pub(crate) settings: S,
    pub(crate) kit: Kit,
    /// TOML of every key with its value, secrets redacted.
    pub(crate) effective: String,
}

/// Reads `file` (or nothing: all defaults), lays `environment` over it and parses the result.
pub(crate) fn load<S: Settings>(
    program: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<S>, ConfigError> {
    let name = file.map_or_else(|| "built-in defaults".to_owned(), |path| path.display().to_string());
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })?,
        None => String::new(),
    };
    load_text(program, &name, &text, environment)
}

/// [`load`] without the file system; also what a program's test calls with its shipped file.
fn load_text<S: Settings>(
    program: &str,
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<S>, ConfigError> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        file: name.into(),
        message: error.to_string(),
    })?;
    let defaults = defaults::<S>();
    let origins =
        overlay::apply(&mut table, &defaults, program, environment).map_err(|(variable, invalid)| {
            ConfigError::Invalid { origin: format!("environment {variable}"), invalid }
        })?;
    // Over the defaults of the whole, so that a section written in part keeps the rest of its defaults.
    let (kit_table, program_table) = split(overlay::merge(defaults, table));
    let at =
        |invalid: Invalid| ConfigError::Invalid { origin: origin(name, &origins, &invalid.key), invalid };
    let kit_raw: kit::Raw = typed(kit_table).map_err(at)?;
    let raw: S::Raw = typed(program_table).map_err(at)?;
    let effective = effective::<S>(&kit_raw, &raw);
    let kit = kit_raw.parse().map_err(at)?;
    let settings = S::parse(raw).map_err(at)?;
    Ok(Loaded { settings, kit, effective })
}

/// Parses a shipped configuration file as the program would with no environment: for unit tests of those files.
pub fn parse_text<S: Settings>(program: &str, text: &str) -> Result<S, ConfigError> {
    load_text(program, "text", text, []).map(|loaded| loaded.settings)
}

/// What `--check-config` prints for a file of that text, with no environment: every key and its value.
pub fn effective_text<S: Settings>(program: &str, text: &str) -> Result<String, ConfigError> {
    load_text::<S>(program, "text", text, []).map(|loaded| loaded.effective)
}

/// Like [`parse_text`], with environment overrides.
pub fn parse_text_with<S: Settings>(
    program: &str,
    text: &str,
    environment: &[(&str, &str)],
) -> Result<S, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load_text(program, "text", text, environment).map(|loaded| loaded.settings)
}

/// `base` with what `over` writes of it, key by key: for a section that exists more than once and inherits. Errors name
/// keys below `at`, the path of `over` in the file. Not for sections with a [`Secret`](crate::Secret), which prints redacted.
pub fn overlaid<T: Serialize + DeserializeOwned>(base: &T, over: Table, at: &str) -> Result<T, Invalid> {
    let base = Table::try_from(base).expect("a configuration serialises to a table");
    typed(overlay::merge(base, over)).map_err(|invalid| invalid.within(at))
}

fn defaults<S: Settings>() -> Table {
    let mut all = Table::try_from(S::Raw::default()).expect("a configuration serialises to a table");
    all.extend(Table::try_from(kit::Raw::default()).expect("the kit's sections serialise to a table"));
    all
}

fn split(mut table: Table) -> (Table, Table) {
    let kit = kit::SECTIONS
        .iter()
        .filter_map(|section| table.remove(*section).map(|value| ((*section).to_owned(), value)))
        .collect();
    (kit, table)
}

fn typed<T: DeserializeOwned>(table: Table) -> Result<T, Invalid> {
    let whole = Value::Table(table.clone());
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let key = error.path().to_string();
        let value =
            overlay::find(&whole, &key).map_or_else(|| "no such value".to_owned(), ToString::to_string);
        let reason = error.inner().to_string();
        Invalid::new(key, value, reason.trim(), "see the program's README for its keys")
    })
}

fn effective<S: Settings>(kit: &kit::Raw, raw: &S::Raw) -> String {
    let mut all = Table::try_from(kit).expect("the kit's sections serialise to a table");
    all.extend(Table::try_from(raw).expect("a configuration serialises to a table"));
    toml::to_string_pretty(&all).expect("a table prints as TOML")
}

fn origin(file: &str, origins: &BTreeMap<String, String>, key: &str) -> String {
    match origins.iter().find(|(path, _)| key == path.as_str() || key.starts_with(&format!("{path}."))) {
        Some((_, variable)) => format!("environment {variable}"),
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests;
