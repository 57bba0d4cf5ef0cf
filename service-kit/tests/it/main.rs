//! The kit's promises, kept by a real process: the sample program under `examples/`.

#![allow(clippy::unwrap_used, reason = "a failure of the harness is a failed test")]

mod handover;
mod sample;

use std::process::Command;

use sample::{Sample, program};

fn output(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(program())
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn version_names_program_and_version() {
    assert_eq!(output(&["--version"], &[]), (Some(0), "sample 1.2.3\n".into(), String::new()));
}

#[test]
fn check_config_prints_what_is_in_force() {
    let (code, text, _) = output(&["--check-config"], &[("SAMPLE_SERVER__GREETING", "hi")]);
    assert_eq!(code, Some(0));
    for line in ["greeting = \"hi\"", "listen = \"127.0.0.1:0\"", "[shutdown]", "drain_deadline_ms = 10000"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn a_bad_configuration_exits_78_and_says_what_to_do() {
    let (code, _, text) = output(&[], &[("SAMPLE_SERVER__LISTEN", "here")]);
    assert_eq!(code, Some(78));
    assert_eq!(
        text,
        "sample: environment SAMPLE_SERVER__LISTEN: server.listen: got here: not an address and port; write for example 127.0.0.1:7000\n"
    );
    let (code, _, text) = output(&["--config", "no-such.toml"], &[]);
    assert_eq!(code, Some(78));
    assert!(text.starts_with("sample: no-such.toml: cannot be read"), "{text}");
}

#[test]
fn a_bad_command_line_exits_2() {
    assert_eq!(output(&["--nonsense"], &[]).0, Some(2));
}

#[test]
fn a_command_runs_once_with_its_words() {
    let (code, text, _) = output(&["greet", "big", "world"], &[]);
    assert_eq!((code, text.as_str()), (Some(0), "hello big world\n"));
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, text) =
        output(&[], &[("SAMPLE_SERVER__LISTEN", &address), ("SAMPLE_ADMIN__LISTEN", "127.0.0.1:0")]);
    assert_eq!(code, Some(1));
    assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
}

#[test]
fn it_serves_and_tells_about_itself() {
    let sample = Sample::start(&[]);
    assert_eq!(sample.say("x"), "hello x");
    assert_eq!(sample.admin("GET /livez"), (200, "alive\n".into()));
    assert_eq!(sample.admin("GET /version"), (200, r#"{"program":"sample","version":"1.2.3"}"#.into()));
    let (status, metrics) = sample.admin("GET /metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("build_info") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert_eq!(sample.admin("GET /nothing").0, 404);
    assert!(sample.probe());
}

const TOKEN: &str = "0123456789abcdef0123";

#[test]
fn the_log_filter_changes_with_the_token_but_not_from_a_web_page() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let sample = Sample::start(&[("SAMPLE_ADMIN__TOKEN_FILE", file.to_str().unwrap())]);
    let token = format!("authorization: Bearer {TOKEN}\r\n");
    let put = |filter: &str, headers: &str| sample.put_log_filter(filter, headers);
    assert_eq!(put("debug", &token).0, 200);
    assert_eq!(put("a=b=c", &token).0, 400);
    assert_eq!(put("debug", &format!("{token}origin: http://example.com\r\n")).0, 403);
    assert_eq!(put("debug", "").0, 401);
    assert_eq!(put("debug", "authorization: Bearer 0123456789abcdef0124\r\n").0, 401);
    assert_eq!(put(&"x".repeat(5_000), &token).0, 413);
    assert!(!sample.log().contains(TOKEN));
}

#[test]
fn without_a_token_changes_are_refused_and_the_answer_says_what_to_configure() {
    let sample = Sample::start(&[]);
    let (status, text) = sample.put_log_filter("debug", &format!("authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(status, 403);
    assert!(text.contains("no-token-configured") && text.contains("[admin] token_file"), "{text}");
}

#[test]
fn a_rebound_name_reads_nothing_and_the_programs_routes_are_behind_the_same_door() {
    let sample = Sample::start(&[("SAMPLE_ADMIN__HOSTS", r#"["stats.example.org"]"#)]);
    for path in ["/metrics", "/readyz", "/greeting", "/nothing"] {
        let (status, text) = sample.admin_as("evil.example", &format!("GET {path}"));
        assert_eq!(status, 403, "{path}: {text}");
    }
    assert_eq!(sample.admin_as("stats.example.org", "GET /greeting"), (200, "hello\n".into()));
    assert_eq!(sample.admin("GET /greeting"), (200, "hello\n".into()));
    assert_eq!(sample.admin("POST /greeting").0, 403);
}

#[test]
fn readiness_waits_for_the_dependency_and_later_only_degrades() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("needed");
    let sample = Sample::start(&[("SAMPLE_SERVER__NEEDS", file.to_str().unwrap())]);
    sample.eventually_ready(503, "\"status\":\"starting\"");
    std::fs::write(&file, "").unwrap();
    sample.eventually_ready(200, "\"status\":\"ready\"");
    std::fs::remove_file(&file).unwrap();
    sample.eventually_ready(200, "\"status\":\"degraded\"");
}

#[test]
fn hang_up_reloads_and_a_broken_file_keeps_the_old() {
    let mut sample = Sample::start(&[]);
    sample.rewrite("server.greeting = 'welcome'");
    sample.signal("HUP");
    sample.eventually("the new greeting", |sample| sample.say("x") == "welcome x");
    sample.rewrite("server.greeting = ");
    sample.signal("HUP");
    sample.eventually("the refusal in the log", |sample| sample.log().contains("reload refused"));
    assert_eq!(sample.say("x"), "welcome x");
}

#[test]
fn a_stop_serves_through_the_lame_duck_and_finishes_what_is_in_flight() {
    let mut sample = Sample::start(&[("SAMPLE_SHUTDOWN__LAME_DUCK_MS", "600")]);
    let in_flight = sample.connect();
    sample.signal("TERM");
    sample.eventually_ready(503, "\"status\":\"draining\"");
    assert_eq!(sample.say("lame duck"), "hello lame duck");
    sample.eventually("the listener is closed", |sample| !sample.accepts());
    assert_eq!(in_flight.finish("slow"), "hello slow");
    assert_eq!(sample.wait(), Some(0));
}

#[test]
fn the_drain_deadline_names_what_is_left() {
    let mut sample = Sample::start(&[
        ("SAMPLE_SHUTDOWN__LAME_DUCK_MS", "0"),
        ("SAMPLE_SHUTDOWN__DRAIN_DEADLINE_MS", "200"),
    ]);
    let _silent = sample.connect();
    sample.signal("TERM");
    assert_eq!(sample.wait(), Some(0));
    let log = sample.log();
    assert!(log.contains("drain deadline is over") && log.contains("connection"), "{log}");
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut sample = Sample::start(&[("SAMPLE_SHUTDOWN__LAME_DUCK_MS", "60000")]);
    sample.signal("TERM");
    sample.eventually_ready(503, "\"status\":\"draining\"");
    sample.signal("TERM");
    assert_eq!(sample.wait(), Some(0));
}

#[test]
fn a_task_that_panics_makes_the_process_unhealthy_and_nothing_else() {
    let sample = Sample::start(&[]);
    sample.say("panic");
    sample.eventually("livez says so", |sample| sample.admin("GET /livez").0 == 500);
    assert_eq!(sample.say("still"), "hello still");
}
