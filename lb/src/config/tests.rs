use service_kit::config::{parse_text, parse_text_with};

use super::*;

const SHIPPED: &str = include_str!("../../../deploy/config/lb.toml");

#[track_caller]
fn check(text: &str, expected: Result<(), &str>) {
    let got = parse_text::<Config>("lb", text).map(|_| ()).map_err(|error| error.to_string());
    match expected {
        Ok(()) => assert_eq!(got, Ok(())),
        Err(part) => {
            let message = got.expect_err("should be refused");
            assert!(message.contains(part), "{message:?} should contain {part:?}");
        }
    }
}

#[test]
fn the_shipped_file_is_valid_and_says_what_the_defaults_are() {
    check(SHIPPED, Ok(()));
    // Only what a container needs differs from the defaults.
    let keys = |text: &str| -> Vec<String> {
        let config = parse_text::<Config>("lb", text).unwrap();
        format!("{config:#?}").lines().map(str::to_owned).collect()
    };
    let differing: Vec<_> = keys(SHIPPED).into_iter().zip(keys("")).filter(|(one, two)| one != two).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn the_shipped_file_takes_the_variables_of_a_native_run() {
    let config = parse_text_with::<Config>(
        "lb",
        SHIPPED,
        &[
            ("LB_SERVER__LISTEN", "127.64.1.11:8080"),
            ("LB_DISCOVERY__NAME", "app.fitness.example.com"),
            ("LB_DISCOVERY__RESOLVER", "127.64.1.2:1053"),
            ("LB_STICKY__MODE", "off"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen, "127.64.1.11:8080".parse().unwrap());
    let resolver = Some("127.64.1.2:1053".parse().unwrap());
    let name = "app.fitness.example.com".to_owned();
    assert_eq!(config.discovery.source, Source::Dns { name, port: 3_000, resolver });
}

#[test]
fn a_list_of_backends_needs_no_dns() {
    let config =
        parse_text_with::<Config>("lb", "", &[("LB_DISCOVERY__STATIC", r#"["127.0.0.1:1","[::1]:2"]"#)])
            .unwrap();
    assert!(matches!(config.discovery.source, Source::Static(list) if list.len() == 2));
}

#[test]
fn wrong_values_are_named() {
    check("server.listen = 'here'", Err("server.listen: got here"));
    check("server.trusted_proxies = ['10.0.0.0/40']", Err("server.trusted_proxies: got 10.0.0.0/40"));
    check("server.header_bytes_max = 100", Err("write 8192 to 1048576"));
    check("upstream.connect_timeout_ms = 0", Err("upstream.connect_timeout_ms: got 0"));
    check("upstream.inflight_max_per_backend = 0", Err("nothing could ever pass"));
    check("retry.budget_percent = 101", Err("retry.budget_percent"));
    check("health.path = 'readyz'", Err("health.path"));
    check("health.fall = 0", Err("health.fall"));
    check("discovery.name = ''", Err("no way to find backends"));
    check("discovery.port = 70000", Err("discovery.port"));
    check("discovery.resolver = 'dns'", Err("discovery.resolver"));
    check("discovery.static = ['app']", Err("discovery.static: got app"));
    check("sticky.mode = 'table'", Err("write off or cookie"));
    check("sticky.mode = 'cookie'", Err("sticky.keys_file"));
    check("sticky.mode = 'cookie'\nsticky.keys_file = '/no/such/file'", Err("/no/such/file"));
    check("sticky.mode = 'cookie'\nsticky.cookie = 'a b'", Err("sticky.cookie"));
    check("server.listens = 1", Err("unknown field `listens`"));
}
