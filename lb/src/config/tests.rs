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
    assert_eq!(config.server.listen, ["127.64.1.11:8080".parse().unwrap()]);
    let resolver = Some("127.64.1.2:1053".parse().unwrap());
    let name = "app.fitness.example.com".to_owned();
    assert_eq!(config.pools[0].discovery.source, Source::Dns { name, port: 3_000, resolver });
}

#[test]
fn a_list_of_backends_needs_no_dns() {
    let config =
        parse_text_with::<Config>("lb", "", &[("LB_DISCOVERY__STATIC", r#"["127.0.0.1:1","[::1]:2"]"#)])
            .unwrap();
    assert!(matches!(&config.pools[0].discovery.source, Source::Static(list) if list.len() == 2));
}

#[test]
fn checks_can_be_of_three_kinds() {
    let mode = |text: &str| parse_text::<Config>("lb", text).unwrap().pools[0].health.check.mode.clone();
    assert_eq!(mode("health.mode = 'off'"), Mode::Off);
    assert_eq!(mode("health.mode = 'tcp'"), Mode::Tcp);
    let text =
        "health.path = '/up?x=1'\nhealth.host = 'app.example.com'\nhealth.statuses = ['200-204', '401']";
    let Mode::Http(http) = mode(text) else { panic!("HTTP is the usual one") };
    assert_eq!((http.path.as_str(), http.statuses), ("/up?x=1", vec![200..=204, 401..=401]));
    assert_eq!(http.host.unwrap(), "app.example.com");
    assert!(parse_text::<Config>("lb", "ejection.errors = 0").unwrap().pools[0].ejection.is_none());
}

#[test]
fn wrong_values_are_named() {
    check("server.listen = 'here'", Err("server.listen: got here"));
    check("server.trusted_proxies = ['10.0.0.0/40']", Err("server.trusted_proxies: got 10.0.0.0/40"));
    check("server.forwarded = 'x'", Err("write x-forwarded, forwarded or both"));
    check("server.proxy_protocol = 'accept'", Err("server.proxy_protocol_from"));
    check("tls.listen = ['0.0.0.0:443']", Err("at least one certificate"));
    check("tls.redirect = true", Err("nothing listens"));
    check("http2.streams_max = 0", Err("http2.streams_max"));
    check("http2.stream_window_bytes = 100", Err("write 65535 to 16777216 bytes"));
    check("upstream.send_proxy = 'v3'", Err("write off, v1 or v2"));
    check("server.header_bytes_max = 100", Err("write 8192 to 1048576"));
    check("upstream.connect_timeout_ms = 0", Err("upstream.connect_timeout_ms: got 0"));
    check("upstream.inflight_max_per_backend = 0", Err("nothing could ever pass"));
    check("retry.budget_percent = 101", Err("retry.budget_percent"));
    check("health.path = 'readyz'", Err("health.path"));
    check("health.fall = 0", Err("health.fall"));
    check("health.mode = 'udp'", Err("write http, tcp or off"));
    check("health.host = \"a\\nb\"", Err("health.host"));
    for statuses in ["[]", "['2xx']", "['299-200']", "['600']", "['20']"] {
        check(&format!("health.statuses = {statuses}"), Err("health.statuses"));
    }
    check("health.panic_percent = 101", Err("health.panic_percent"));
    check("health.content_check = 'on'", Err("write off, flag or exclude"));
    check("ejection.statuses = [404]", Err("ejection.statuses: got 404"));
    check("ejection.base_ms = 100\nejection.time_max_ms = 99", Err("shorter than ejection.base_ms"));
    check("ejection.share_max_percent = 101", Err("ejection.share_max_percent"));
    check("discovery.name = ''", Err("no way to find backends"));
    check("discovery.port = 70000", Err("discovery.port"));
    check("discovery.resolver = 'dns'", Err("discovery.resolver"));
    check("discovery.static = ['app']", Err("discovery.static: got app"));
    check("sticky.mode = 'tables'", Err("write off, cookie or table"));
    check("sticky.mode = 'table'", Ok(()));
    check("sticky.mode = 'table'\nsticky.table_key = 'name'", Err("write cookie or address"));
    check("sticky.mode = 'table'\nsticky.table_entries_max = 0", Err("sticky.table_entries_max"));
    check("balance.algorithm = 'fastest'", Err("balance.algorithm: got fastest"));
    for algorithm in ["round-robin", "random", "least-requests", "ewma", "consistent-hash"] {
        check(&format!("balance.algorithm = '{algorithm}'"), Ok(()));
    }
    for key in ["path", "client-address", "cookie:sid", "header:x-user"] {
        check(&format!("balance.hash_key = '{key}'"), Ok(()));
    }
    for key in ["", "query", "cookie:", "cookie:a b", "header:", "header:a b", "path:x"] {
        check(&format!("balance.hash_key = '{key}'"), Err("write cookie:NAME, header:NAME, path"));
    }
    check("balance.hash_bound_percent = 100", Err("write 101 to 10000"));
    check("balance.ewma_decay_ms = 0", Err("balance.ewma_decay_ms"));
    check("balance.slow_start_ms = 86400001", Err("balance.slow_start_ms"));
    check("queue.timeout_ms = 0", Err("queue.timeout_ms"));
    check("queue.sticky_percent = 101", Err("write 0 to 100"));
    check("queue.len_max = 0", Ok(()));
    check("[pools.api.balance]\nalgorithm = 'best'", Err("pools.api.balance.algorithm"));
    check("sticky.mode = 'cookie'", Err("sticky.keys_file"));
    check("sticky.mode = 'cookie'\nsticky.keys_file = '/no/such/file'", Err("/no/such/file"));
    check("sticky.mode = 'cookie'\nsticky.cookie = 'a b'", Err("sticky.cookie"));
    check("limits.exempt = ['a']", Err("limits.exempt: got a"));
    check("limits.target_bytes_max = 1", Err("write 256 to 65534"));
    check("limits.requests_per_second = 5\nlimits.burst = 0", Err("limits.burst: got 0"));
    check("limits.request_timeout_ms = 86400001", Err("limits.request_timeout_ms"));
    check(
        "[[routes]]\npath = '/a'\npool = 'default'\nrequests_per_second = 2000000",
        Err("routes[0].requests_per_second: got 2000000"),
    );
    check("server.listens = 1", Err("unknown field `listens`"));
    check("server.listen = []", Err("nowhere to listen"));
    check("server.listen = ['127.0.0.1:1', '127.0.0.1:1']", Err("listed twice"));
    check("server.listen = ['127.0.0.1']", Err("server.listen: got 127.0.0.1: not an address"));
}

#[test]
fn one_or_several_addresses_to_listen_on() {
    #[track_caller]
    fn check(text: &str, variable: Option<&str>, expected: &[&str]) {
        let environment: Vec<_> = variable.map(|text| ("LB_SERVER__LISTEN", text)).into_iter().collect();
        let config = parse_text_with::<Config>("lb", text, &environment).unwrap();
        let got: Vec<_> = config.server.listen.iter().map(ToString::to_string).collect();
        assert_eq!(got, expected);
    }
    check("", None, &["0.0.0.0:80"]);
    check("server.listen = '[::]:80'", None, &["[::]:80"]);
    check("server.listen = ['127.0.0.1:80', '[::1]:80']", None, &["127.0.0.1:80", "[::1]:80"]);
    check("", Some("[::]:80"), &["[::]:80"]);
    check("", Some(r#"["127.0.0.1:80","[::1]:80"]"#), &["127.0.0.1:80", "[::1]:80"]);
    check("server.listen = ['127.0.0.1:80']", Some(r#"["[::1]:80"]"#), &["[::1]:80"]);
}

#[test]
fn a_pool_is_the_default_one_but_for_what_it_writes() {
    let text = "upstream.connect_timeout_ms = 7\nhealth.path = '/a'\n\
                [pools.api]\nhealth.path = '/b'\nupstream.try_timeout_ms = 8\n[pools.web]\n";
    let environment = [("LB_POOLS__WEB__UPSTREAM__TRY_TIMEOUT_MS", "9")];
    let config = parse_text_with::<Config>("lb", text, &environment).unwrap();
    let got: Vec<_> = config
        .pools
        .iter()
        .map(|pool| {
            let (connect, first) = (pool.upstream.connect_timeout, pool.upstream.try_timeout);
            let Mode::Http(check) = &pool.health.check.mode else { panic!("checks are by HTTP") };
            format!("{} {} {} {}", pool.name, connect.as_millis(), first.as_millis(), check.path)
        })
        .collect();
    assert_eq!(got, ["default 7 1500 /a", "api 7 8 /b", "web 7 9 /a"]);
}

#[test]
fn a_pool_with_a_name_of_its_own_does_not_inherit_a_list() {
    let text = "discovery.static = ['127.0.0.1:1']\n[pools.api]\ndiscovery.name = 'api'\n[pools.same]\n";
    let config = parse_text::<Config>("lb", text).unwrap();
    assert!(matches!(&config.pools[1].discovery.source, Source::Dns { name, .. } if name == "api"));
    assert_eq!(config.pools[2].discovery, config.pools[0].discovery);
}

#[test]
fn wrong_pools_are_named() {
    check(
        "[pools.api]\nupstream.connect_timeout_ms = 0",
        Err("pools.api.upstream.connect_timeout_ms: got 0"),
    );
    check("[pools.api]\nupstream.connect = 1", Err("pools.api.upstream"));
    check("[pools.api]\nserver.listen = ''", Err("unknown field `server`"));
    check("[pools.default]", Err("pools.default"));
    check("[pools.API]", Err("not a name for a pool"));
    check("[pools]\napi = 3", Err("pools.api"));
}

#[test]
fn every_sticky_pool_has_a_cookie_of_its_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [1; 32]);
    std::fs::write(file.path(), format!("[[key]]\nid = 1\nstate = 'issue'\nsecret = '{secret}'\n")).unwrap();
    let sticky = format!("[sticky]\nmode = 'cookie'\nkeys_file = '{}'\n", file.path().display());
    let text = format!(
        "{sticky}[pools.api]\n[pools.web.sticky]\ncookie = 'seat'\n[pools.raw.sticky]\nmode = 'off'\n"
    );
    let config = parse_text::<Config>("lb", &text).unwrap();
    let cookies: Vec<_> =
        config.pools.iter().map(|pool| pool.sticky.as_ref().map(|sticky| sticky.cookie.as_str())).collect();
    assert_eq!(cookies, [Some("route"), Some("route-api"), None, Some("seat")]);
    check(
        &format!("{sticky}[pools.api.sticky]\ncookie = 'route'\n"),
        Err("pools.api.sticky.cookie: got route"),
    );
    check(&format!("health.mode = 'tcp'\n{sticky}"), Err("set health.mode to http, or sticky.mode to table"));
    check(&format!("{sticky}[pools.api.health]\nmode = 'off'\n"), Err("pools.api.sticky.mode"));
}

#[test]
fn routes_lead_to_pools() {
    let text = "[pools.api]\n[[routes]]\nhost = 'api.example.com'\npool = 'api'\n\
                [[routes]]\npath = '/api/'\npool = 'api'\n";
    let config = parse_text::<Config>("lb", text).unwrap();
    let pool = |host: &str, path: &str| &*config.pools[config.routes.route(host, path).pool].name;
    assert_eq!(pool("api.example.com", "/"), "api");
    assert_eq!(pool("www.example.com", "/api/x"), "api");
    assert_eq!(pool("www.example.com", "/"), "default");
    check(
        "[[routes]]\nhost = 'a'\npool = 'api'",
        Err("routes[0].pool: got api: no such pool; write one of default"),
    );
    check("[[routes]]\nhost = '*'\npool = 'default'", Err("routes[0].host"));
    check("[[routes]]\npath = 'x'\npool = 'default'", Err("routes[0].path"));
    check("[[routes]]\npool = 'default'\n[[routes]]\npath = '/'\npool = 'default'", Err("routes[1]"));
    check("[[routes]]\npath = '/'\npools = 'default'", Err("unknown field `pools`"));
}
