use crate::config::Config;
use service_kit::config::parse_text;

const POOL: &str = "[pools.a]\nfrom = \"www.z\"\n[pools.b]\nmembers = [{ address = \"192.0.2.1\" }]\n";

#[track_caller]
fn check_refused(text: &str, part: &str) {
    let error = parse_text::<Config>("dns", text).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn what_is_written_right_is_taken() {
    let text = format!(
        "{POOL}[choices.c]\nkind = \"failover\"\nof = [\"a\", \"b\"]\n[[steering.names]]\nname = \"www.z\"\nuse = \"c\"\n"
    );
    let config: Config = parse_text("dns", &text).unwrap();
    assert_eq!(config.steering.names.len(), 1);
    assert_eq!(config.steering.choices.len(), 3);
}

#[test]
fn pools() {
    check_refused("[pools.a]", "pools.a.members: got []: nobody is in the pool");
    check_refused(
        &POOL.replacen("from = \"www.z\"", "from = \"www..z\"", 1),
        "pools.a.from: got www..z: a label is empty",
    );
    check_refused("[pools.a]\nmembers = [{ address = \"x\" }]", "pools.a.members: got x: not an IP address");
    check_refused(
        "[pools.a]\nmembers = [{ address = \"192.0.2.1\" }, { address = \"::ffff:192.0.2.1\" }]",
        "pools.a.members: got 192.0.2.1: listed twice",
    );
    check_refused(&format!("{POOL}all_down = \"panic\""), "pools.b.all_down: got panic: not a known policy");
    check_refused(&format!("{POOL}all_down = \"fallback\""), "pools.b.fallback: got nothing");
    check_refused(&format!("{POOL}fallback = \"a\""), "pools.b.fallback: got a: it is used with");
    check_refused(&format!("{POOL}up_percent_min = 101"), "pools.b.up_percent_min: got 101");
    check_refused(
        &format!("{POOL}health = {{ mode = \"ping\" }}"),
        "pools.b.health.mode: got ping: unknown mode",
    );
    check_refused(&format!("{POOL}health = {{ moed = \"tcp\" }}"), "pools.b.health.moed");
    check_refused("[pools.\"A b\"]\nfrom = \"z\"", "pools.A b: got A b: not a name");
}

#[test]
fn choices() {
    let with = |text: &str| format!("{POOL}[choices.c]\n{text}");
    check_refused(&with("kind = \"geo\""), "choices.c.kind: got geo: not a known kind");
    check_refused(&with("kind = \"failover\""), "choices.c.of: got []: nothing to choose from");
    check_refused(
        &with("kind = \"failover\"\nof = [\"d\"]"),
        "choices.c.of: got d: there is no such pool or choice; use one of: a, b, c",
    );
    check_refused(
        &with("kind = \"weighted\"\nof = [\"a\", \"b\"]\nweights = [1]"),
        "choices.c.weights: got [1]: 1 weights for 2 choices",
    );
    check_refused(
        &with("kind = \"failover\"\nof = [\"a\"]\nweights = [1]"),
        "choices.c.weights: got failover: this kind",
    );
    check_refused(&with("kind = \"networks\"\nof = [\"a\"]"), "choices.c.of: got networks: this kind");
    check_refused(
        &with(
            "kind = \"networks\"\nnetworks = [{ prefixes = [\"10.0.0.0/33\"], use = [\"a\"] }]\ndefault = [\"a\"]",
        ),
        "choices.c.networks.prefixes: got 10.0.0.0/33",
    );
    check_refused(&with("kind = \"networks\""), "choices.c.default: got []");
    check_refused(
        &with("kind = \"failover\"\nof = [\"a\", \"c\"]"),
        "choices: got c -> c: a choice leads back to itself",
    );
    check_refused(
        &format!("{POOL}[choices.a]\nkind = \"failover\"\nof = [\"b\"]"),
        "choices.a: got a: there is a pool of this name",
    );
}

#[test]
fn names_and_health() {
    let name = "[[steering.names]]\nname = \"www.z\"\nuse = \"a\"\n";
    check_refused(&format!("{POOL}{name}{name}"), "steering.names.name: got www.z.: listed twice");
    check_refused(
        &format!("{POOL}{}", name.replace("\"a\"", "\"x\"")),
        "steering.names.use: got x: there is no such",
    );
    check_refused(
        "[steering]\nexplain_from = [\"me\"]",
        "steering.explain_from: got me: not an address or network",
    );
    check_refused("[health]\npath = \"readyz\"", "health.path: got readyz: not a path");
    check_refused("[health]\nstatuses = [\"900\"]", "health.statuses: got 900: not a list");
    check_refused("[health]\nport = 0", "health.port: got 0: not from 1 to 65535");
    check_refused("[health]\njitter_percent = 90", "health.jitter_percent: got 90");
}
