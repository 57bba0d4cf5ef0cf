//! Lays environment variables over a configuration table.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Invalid;

/// Applies every `PROGRAM_SECTION__KEY`; returns which key came from which variable, or the variable that does not fit.
pub(super) fn apply(
    table: &mut Table,
    defaults: &Table,
    program: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, (String, Invalid)> {
    let prefix = format!("{}_", program.to_uppercase().replace('-', "_"));
    let mut origins = BTreeMap::new();
    for (variable, text) in environment {
        // Without the double underscore it is somebody else's variable (APP_HOME, DNS_PORT ...).
        let Some(path) = variable.strip_prefix(&prefix).filter(|rest| rest.contains("__")) else { continue };
        let path: Vec<String> = path.to_lowercase().split("__").map(str::to_owned).collect();
        let key = path.join(".");
        // A section below a freely chosen name (`pools.api.upstream`) has the types of its own kind.
        let like = lookup(table, &path)
            .or_else(|| (0..path.len() - 1).find_map(|above| lookup(defaults, &path[above..])));
        let value = read(&text, like).map_err(|expected| {
            let shown = if looks_secret(&key) { "[redacted]" } else { &text };
            let remedy = format!("set {variable} to {expected}");
            (variable.clone(), Invalid::new(&key, shown, format!("expected {expected}"), remedy))
        })?;
        put(table, &path, value).map_err(|section| {
            let reason = format!("{section} is not a section");
            (variable.clone(), Invalid::new(&key, &text, reason, format!("unset {variable}")))
        })?;
        origins.insert(key, variable);
    }
    Ok(origins)
}

/// `over` laid on `under`, section by section; lists are replaced whole.
pub(super) fn merge(mut under: Table, over: Table) -> Table {
    for (key, value) in over {
        let merged = match (under.remove(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => Value::Table(merge(under, over)),
            (_, value) => value,
        };
        under.insert(key, merged);
    }
    under
}

/// The value at a dotted path, as error messages name it.
pub(super) fn find<'a>(whole: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(whole, |value, part| match value {
        Value::Table(table) => table.get(part),
        _ => None,
    })
}

fn lookup<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}

fn read(text: &str, like: Option<&Value>) -> Result<Value, &'static str> {
    match like {
        Some(Value::Integer(_)) => text.trim().parse().map(Value::Integer).map_err(|_| "a whole number"),
        Some(Value::Float(_)) => text.trim().parse().map(Value::Float).map_err(|_| "a number"),
        Some(Value::Boolean(_)) => text.trim().parse().map(Value::Boolean).map_err(|_| "true or false"),
        Some(Value::Array(_)) => json(text).filter(Value::is_array).ok_or("a JSON list"),
        Some(Value::Table(_)) => json(text).filter(Value::is_table).ok_or("a JSON object"),
        Some(_) => Ok(Value::String(text.to_owned())),
        // A key without a default: lists and tables are recognised by their bracket, everything else is text.
        None if text.starts_with(['[', '{']) => {
            Ok(json(text).unwrap_or_else(|| Value::String(text.to_owned())))
        }
        None => Ok(Value::String(text.to_owned())),
    }
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let (first, rest) = path.split_first().expect("a variable names at least a section and a key");
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return Ok(());
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    put(inner.as_table_mut().ok_or_else(|| first.clone())?, rest, value)
}

fn looks_secret(key: &str) -> bool {
    ["password", "secret", "dsn", "token"].iter().any(|word| key.contains(word))
}
