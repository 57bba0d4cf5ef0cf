//! A process that is replaced while it serves.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::sample::Sample;

#[test]
fn a_new_process_takes_the_listeners_and_the_old_one_drains() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, manager) = (folder.path().join("handover"), folder.path().join("notify"));
    let told = UnixDatagram::bind(&manager).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let environment = [
        ("SAMPLE_SERVER__HANDOVER", socket.to_str().unwrap()),
        ("NOTIFY_SOCKET", manager.to_str().unwrap()),
        ("SAMPLE_SHUTDOWN__LAME_DUCK_MS", "100"),
    ];
    let hears = |sample: &Sample| {
        let mut text = [0; 64];
        let length = told.recv(&mut text).unwrap();
        let text = std::str::from_utf8(&text[..length]).unwrap().to_owned();
        assert_eq!(text, format!("MAINPID={}\nREADY=1", sample.pid()));
    };
    let mut old = Sample::start(&environment);
    hears(&old);
    let in_flight = old.connect();
    let new = Sample::start(&[&environment[..], &[("SAMPLE_SERVER__GREETING", "hi")]].concat());
    hears(&new);
    // Both listeners, at the ports that the old one had got.
    assert_eq!(new.addresses(), old.addresses());
    assert_eq!(new.say("x"), "hi x");
    new.eventually_ready(200, "\"status\":\"ready\"");
    // What the old one had begun, it ends.
    assert_eq!(in_flight.finish("slow"), "hello slow");
    assert_eq!(old.wait(), Some(0), "{}", old.log());
    // And again: the successor waits at the same path for its own.
    let mut newer = Sample::start(&environment);
    assert_eq!(newer.say("x"), "hello x");
    newer.signal("TERM");
    assert_eq!(newer.wait(), Some(0));
    assert!(!socket.exists(), "the last one takes the socket file with it");
}

#[test]
fn a_successor_that_does_not_get_ready_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("handover");
    let environment = [("SAMPLE_SERVER__HANDOVER", socket.to_str().unwrap())];
    let old = Sample::start(&environment);
    let missing = folder.path().join("missing");
    let needs = [&environment[..], &[("SAMPLE_SERVER__NEEDS", missing.to_str().unwrap())]].concat();
    let mut late = Sample::spawn(&needs);
    assert_eq!(late.wait(), Some(1));
    assert!(late.log().contains("not ready to take over within 500ms"), "{}", late.log());
    let mut killed = Sample::spawn(&needs);
    killed.eventually("it takes over", |sample| sample.log().contains("taking over"));
    killed.signal("KILL");
    killed.wait();
    let mut told_to_stop = Sample::spawn(&needs);
    told_to_stop.eventually("it takes over", |sample| sample.log().contains("taking over"));
    told_to_stop.signal("TERM");
    assert_eq!(told_to_stop.wait(), Some(0), "{}", told_to_stop.log());
    assert_eq!(old.say("x"), "hello x");
    assert!(!old.log().contains("draining"), "{}", old.log());
    // When what it needs is there, the next one succeeds.
    std::fs::write(&missing, "").unwrap();
    assert_eq!(Sample::start(&needs).addresses(), old.addresses());
}

#[test]
fn a_successor_goes_on_alone_when_the_old_process_dies() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, needed) = (folder.path().join("handover"), folder.path().join("needed"));
    let environment = [("SAMPLE_SERVER__HANDOVER", socket.to_str().unwrap())];
    let mut old = Sample::start(&environment);
    let needs = [&environment[..], &[("SAMPLE_SERVER__NEEDS", needed.to_str().unwrap())]].concat();
    let new = Sample::spawn(&needs);
    new.eventually("it takes over", |sample| sample.log().contains("taking over"));
    old.signal("KILL");
    old.wait();
    // The dead one's socket file is stale, and the sockets live on in the new one.
    let new = new.wait_until_ready();
    assert_eq!(new.addresses(), old.addresses());
    assert_eq!(new.say("x"), "hello x");
    assert_eq!(Sample::start(&environment).say("x"), "hello x");
}
