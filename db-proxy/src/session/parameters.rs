//! Run-time parameters (`SET`) that belong to a client, kept by the proxy and said again to whichever server it gets.

use std::collections::BTreeMap;

/// How a parameter came to its value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Setting {
    /// In the startup packet: a value to hand to `set_config`.
    Startup(String),
    /// By this SET statement.
    Said(String),
}

/// The parameters of a session that are not the server's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, Setting>);

impl Parameters {
    /// From a startup packet; names are in lower case.
    pub fn from_startup(parameters: &BTreeMap<String, String>) -> Self {
        Self(parameters.iter().map(|(name, value)| (name.clone(), Setting::Startup(value.clone()))).collect())
    }

    /// A SET succeeded.
    pub fn set(&mut self, name: &str, sql: &str) {
        if name == "session_authorization" {
            self.0.remove("role"); // Postgres resets the role with it
        }
        self.0.insert(name.to_owned(), Setting::Said(sql.to_owned()));
    }

    /// A RESET succeeded: back to what the client started with.
    pub fn reset(&mut self, name: &str, startup: &Self) {
        match startup.0.get(name) {
            Some(setting) => drop(self.0.insert(name.to_owned(), setting.clone())),
            None => drop(self.0.remove(name)),
        }
    }

    /// The statements that turn a server with `self` into one with `wanted`; `None`: none are needed.
    pub fn sql_towards(&self, wanted: &Self) -> Option<String> {
        if self == wanted {
            return None;
        }
        // SET ROLE is judged by the session's user, which therefore goes first; it also resets the role.
        let identity =
            |name: &str| usize::from(name != "session_authorization") + usize::from(name == "role");
        let user_changes = self.0.get("session_authorization") != wanted.0.get("session_authorization");
        let mut statements = Vec::new();
        for name in self.0.keys().filter(|name| !wanted.0.contains_key(*name)) {
            statements.push((identity(name), reset_sql(name)));
        }
        for (name, setting) in &wanted.0 {
            if self.0.get(name) != Some(setting) || (name == "role" && user_changes) {
                statements.push((identity(name), set_sql(name, setting)));
            }
        }
        statements.sort_by_key(|(order, _)| *order);
        // Newlines, since a statement may end in a comment.
        Some(statements.into_iter().map(|(_, sql)| sql).collect::<Vec<_>>().join("\n;"))
    }
}

fn set_sql(name: &str, setting: &Setting) -> String {
    match setting {
        Setting::Said(sql) => sql.clone(),
        // set_config takes a list (search_path, DateStyle) as a startup packet does; SET would quote it as one name.
        Setting::Startup(value) => {
            format!("SELECT pg_catalog.set_config({}, {}, false)", literal(name), literal(value))
        }
    }
}

fn reset_sql(name: &str) -> String {
    match name {
        "session_authorization" => "RESET SESSION AUTHORIZATION".to_owned(),
        "role" => "RESET ROLE".to_owned(),
        _ => {
            let parts: Vec<String> =
                name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
            format!("RESET {}", parts.join("."))
        }
    }
}

/// A string constant that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''").replace('\\', "\\\\").replace('\0', "");
    if quoted.contains('\\') { format!(" E'{quoted}'") } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(startup: &[(&str, &str)], said: &[(&str, &str)]) -> Parameters {
        let startup = startup.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut parameters = Parameters::from_startup(&startup);
        for (name, sql) in said {
            parameters.set(name, sql);
        }
        parameters
    }

    #[track_caller]
    fn check(from: &Parameters, to: &Parameters, expected: &str) {
        assert_eq!(from.sql_towards(to).unwrap_or_default(), expected);
    }

    #[test]
    fn equal_ones_cost_nothing() {
        check(&parameters(&[("a", "1")], &[]), &parameters(&[("a", "1")], &[]), "");
    }

    #[test]
    fn differences_are_said() {
        let none = Parameters::default();
        let startup = parameters(&[("datestyle", "ISO, MDY")], &[]);
        check(&none, &startup, "SELECT pg_catalog.set_config('datestyle', 'ISO, MDY', false)");
        check(&startup, &none, "RESET \"datestyle\"");
        let said = parameters(&[], &[("a.b", "SET a.b = 1 -- x"), ("c", "SET c = 2")]);
        check(&none, &said, "SET a.b = 1 -- x\n;SET c = 2");
        check(&said, &parameters(&[], &[("c", "SET c = 2")]), "RESET \"a\".\"b\"");
    }

    #[test]
    fn the_user_goes_before_the_role() {
        let none = Parameters::default();
        let both = parameters(
            &[],
            &[("session_authorization", "SET SESSION AUTHORIZATION a"), ("role", "SET ROLE b")],
        );
        check(&none, &both, "SET SESSION AUTHORIZATION a\n;SET ROLE b");
        check(&both, &none, "RESET SESSION AUTHORIZATION\n;RESET ROLE");
    }

    #[test]
    fn values_cannot_break_out() {
        let evil = parameters(&[("a'b", r"x\'; DROP TABLE t; --")], &[]);
        check(
            &Parameters::default(),
            &evil,
            r"SELECT pg_catalog.set_config('a''b',  E'x\\''; DROP TABLE t; --', false)",
        );
    }

    #[test]
    fn a_reset_goes_back_to_the_startup_value() {
        let startup = parameters(&[("a", "1")], &[]);
        let mut now = startup.clone();
        now.set("a", "SET a = 2");
        now.set("b", "SET b = 2");
        now.reset("a", &startup);
        now.reset("b", &startup);
        assert_eq!(now, startup);
    }
}
