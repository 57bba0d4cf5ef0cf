use serde::{Deserialize, Serialize};

use super::*;
use crate::Secret;

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    server: Server,
    limits: Limits,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            server: Server { listen: "[::]:80".into(), names: vec![], password: Secret::default() },
            limits: Limits { max: 5 },
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    listen: String,
    names: Vec<String>,
    password: Secret,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    max: u32,
}

struct Config(Raw);

impl Settings for Config {
    type Raw = Raw;
    fn parse(raw: Raw) -> Result<Self, Invalid> {
        if raw.limits.max == 0 {
            return Err(Invalid::new("limits.max", 0, "nothing could ever run", "write at least 1"));
        }
        Ok(Self(raw))
    }
}

#[track_caller]
fn check(text: &str, environment: &[(&str, &str)], expected: Result<&str, &str>) {
    let got = load_text::<Config>(
        "my-lb",
        "lb.toml",
        text,
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let got = got
        .map(|loaded| {
            format!(
                "{} {:?} {}",
                loaded.settings.0.server.listen, loaded.settings.0.server.names, loaded.settings.0.limits.max
            )
        })
        .map_err(|error| error.to_string());
    match expected {
        Ok(text) => assert_eq!(got.as_deref(), Ok(text)),
        Err(part) => {
            let message = got.expect_err("should be refused");
            assert!(message.contains(part), "{message:?} should contain {part:?}");
        }
    }
}

#[test]
fn an_empty_file_is_all_defaults() {
    check("", &[], Ok("[::]:80 [] 5"));
}

#[test]
fn the_file_wins_over_defaults() {
    check("server.names = ['a']\nlimits.max = 7", &[], Ok("[::]:80 [\"a\"] 7"));
}

#[test]
fn the_environment_wins_over_the_file() {
    check("limits.max = 7", &[("MY_LB_LIMITS__MAX", "9")], Ok("[::]:80 [] 9"));
}

#[test]
fn text_that_looks_like_a_list_stays_text_where_the_key_is_text() {
    check("", &[("MY_LB_SERVER__LISTEN", "[::1]:81")], Ok("[::1]:81 [] 5"));
}

#[test]
fn lists_are_json() {
    check("", &[("MY_LB_SERVER__NAMES", r#"["a","b"]"#)], Ok("[::]:80 [\"a\", \"b\"] 5"));
    check(
        "",
        &[("MY_LB_SERVER__NAMES", "a,b")],
        Err("environment MY_LB_SERVER__NAMES: server.names: got a,b: expected a JSON list"),
    );
}

#[test]
fn other_peoples_variables_are_left_alone() {
    check("", &[("MY_LB_PORT", "x"), ("MYLB_LIMITS__MAX", "x"), ("PATH", "x")], Ok("[::]:80 [] 5"));
}

#[test]
fn unknown_keys_are_errors_wherever_they_come_from() {
    check("limits.min = 1", &[], Err("lb.toml: limits"));
    check("", &[("MY_LB_LIMITS__MIN", "1")], Err("unknown field `min`"));
    check("extra = 1", &[], Err("unknown field `extra`"));
}

#[test]
fn a_wrong_type_names_its_key_and_value() {
    check("limits.max = 'many'", &[], Err("limits.max: got \"many\""));
    check(
        "",
        &[("MY_LB_LIMITS__MAX", "many")],
        Err("environment MY_LB_LIMITS__MAX: limits.max: got many: expected a whole number"),
    );
}

#[test]
fn a_refused_value_names_where_it_came_from() {
    check("limits.max = 0", &[], Err("lb.toml: limits.max: got 0: nothing could ever run; write at least 1"));
    check("", &[("MY_LB_LIMITS__MAX", "0")], Err("environment MY_LB_LIMITS__MAX: limits.max: got 0"));
}

#[test]
fn broken_toml_names_the_line() {
    check("a = \n", &[], Err("lb.toml: not valid TOML: TOML parse error at line 1"));
}

#[test]
fn the_kits_sections_are_the_kits() {
    check("log.format = 'xml'", &[], Err("log.format: got xml: unknown format; write pretty or json"));
    check(
        "",
        &[("MY_LB_ADMIN__LISTEN", "here")],
        Err("environment MY_LB_ADMIN__LISTEN: admin.listen: got here"),
    );
    check("shutdown.lame_duck_ms = 5", &[], Ok("[::]:80 [] 5"));
    check("admin.hosts = ['lb-1', '192.0.2.1']", &[], Ok("[::]:80 [] 5"));
    check("admin.hosts = ['*']", &[], Err("admin.hosts: got *: not a host name or address"));
}

#[track_caller]
fn check_token(text: &str, expected: Result<&str, &str>) {
    let loaded = load_text::<Config>("my-lb", "lb.toml", text, []).unwrap_or_else(|error| panic!("{error}"));
    assert!(!loaded.effective.contains("0123456789"), "{}", loaded.effective);
    match (loaded.kit.admin_token(), expected) {
        (Ok(token), Ok(expected)) => assert_eq!(token.expose(), expected),
        (Err(invalid), Err(part)) => assert!(invalid.to_string().contains(part), "{invalid}"),
        (got, _) => panic!("{got:?}"),
    }
}

#[test]
fn the_admin_token_is_long_and_from_one_place() {
    check_token("", Ok(""));
    check_token("admin.token = '0123456789abcdef'", Ok("0123456789abcdef"));
    check_token("admin.token = 'hunter2'", Err("admin.token: got [redacted]: not at least 16 visible"));
    check_token("admin.token = '0123456789 abcdef'", Err("admin.token: got [redacted]"));
    check_token("admin.token_file = '/no/such/file'", Err("admin.token_file: got /no/such/file"));
    let both = "admin.token = '0123456789abcdef'\nadmin.token_file = 'x'";
    check_token(both, Err("admin.token_file: got x: admin.token is given too"));
}

#[test]
fn secrets_are_never_printed() {
    let loaded = load_text::<Config>("my-lb", "lb.toml", "server.password = 'hunter2'", [])
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(!loaded.effective.contains("hunter2"), "{}", loaded.effective);
    assert!(loaded.effective.contains("[redacted]"), "{}", loaded.effective);
    assert_eq!(loaded.settings.0.server.password.expose(), "hunter2");
}

#[test]
fn a_section_below_a_name_inherits_and_names_its_keys_in_full() {
    let base = Raw::default();
    let over = |text: &str| overlaid(&base, text.parse().unwrap(), "pools.api");
    let raw = over("limits.max = 7").unwrap();
    assert_eq!((raw.server.listen.as_str(), raw.limits.max), ("[::]:80", 7));
    let error = over("limits.mix = 7").unwrap_err().to_string();
    assert!(error.starts_with("pools.api.limits"), "{error}");
    assert!(error.contains("unknown field `mix`"), "{error}");
}

#[test]
fn a_variable_below_a_name_has_the_type_of_its_section() {
    let defaults: Table = "limits.max = 5\nserver.names = []".parse().unwrap();
    let set = |name: &str, text: &str| {
        let mut table = Table::new();
        overlay::apply(&mut table, &defaults, "lb", [(name.to_owned(), text.to_owned())]).unwrap();
        table.to_string()
    };
    assert_eq!(set("LB_POOLS__API__LIMITS__MAX", "7"), "[pools.api.limits]\nmax = 7\n");
    assert_eq!(set("LB_POOLS__API__SERVER__NAMES", "[\"a\"]"), "[pools.api.server]\nnames = [\"a\"]\n");
    assert_eq!(set("LB_POOLS__API__SERVER__LISTEN", "7"), "[pools.api.server]\nlisten = \"7\"\n");
}
