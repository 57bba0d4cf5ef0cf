//! The roster with backends that nobody looks at and requests that nobody sends: events in, snapshots out.

use arc_swap::ArcSwap;
use service_kit::config::parse_text;
use tokio::sync::mpsc;

use super::*;
use crate::health::Outcome;
use crate::limits::Counts;
use crate::metrics::Metrics;
use crate::snapshot::Entry;
use crate::state::State;

/// One pool of static addresses `127.0.0.1:1`, `:2` and so on. Its probers see nothing listen there, but tests are over
/// before their thresholds.
struct Bench {
    roster: Roster,
    now: Instant,
    addresses: Vec<SocketAddr>,
    /// Keeps the channel that discovery and probers write to.
    _inbox: mpsc::Receiver<Event>,
}

const QUIET: &str = "health.interval_ms = 86400000\nhealth.start_interval_ms = 86400000\nhealth.timeout_ms = 86400000\n\
                     discovery.interval_ms = 86400000\nhealth.content_grace_ms = 1000\n";

fn config(text: &str) -> Arc<Config> {
    Arc::new(parse_text::<Config>("lb", &format!("{QUIET}{text}")).unwrap())
}

impl Bench {
    fn new(text: &str, count: u16) -> Self {
        let config = config(text);
        let (events, inbox) = mpsc::channel(1_024);
        let metrics = Metrics::default();
        let snapshot = ArcSwap::from_pointee(Snapshot::empty(Arc::clone(&config), &metrics));
        let (access_log, _) = crate::access_log::channel(metrics.access_log_dropped.clone(), "lb-1");
        let shared = Arc::new(Shared {
            snapshot,
            newest: ArcSwap::new(Arc::clone(&config)),
            tls: crate::tls::Live::default(),
            counts: Counts::new(Instant::now()),
            metrics,
            events,
            access_log,
        });
        let identity = service_kit::Identity { instance: "lb".into(), generation: 1 };
        let dependency = service_kit::Readiness::new(identity).dependency("backends");
        let roster = Roster::new(&config, shared, dependency);
        let addresses = (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let mut bench = Self { roster, now: Instant::now(), addresses, _inbox: inbox };
        bench.find(count);
        bench
    }

    /// Discovery knows the first so many.
    fn find(&mut self, count: u16) {
        self.find_in(0, count);
    }

    fn find_in(&mut self, pool: usize, count: u16) {
        let addresses = self.addresses.iter().take(usize::from(count)).copied().collect();
        let lookout = self.roster.groups[pool].lookout();
        self.tell(Event::Found { lookout, addresses });
    }

    fn tell(&mut self, event: Event) {
        let answer = self.roster.handle(event, self.now);
        assert!(answer.is_none());
        self.roster.review(self.now);
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.roster.review(self.now);
    }

    /// Those that requests see.
    fn pools(&self) -> Vec<String> {
        let snapshot = self.roster.shared.snapshot.load();
        snapshot.pools.iter().map(|pool| pool.config.name.to_string()).collect()
    }

    fn entries(&self) -> Vec<Entry> {
        self.roster.shared.snapshot.load().pools[0].entries.clone()
    }

    /// A check of the nth (from 1) with this outcome; `more` sets what else it says.
    fn look(&mut self, nth: usize, outcome: Outcome, more: impl FnOnce(&mut Look)) {
        let mut look = Look::new(outcome, format!("{outcome:?}"));
        look.instance = Some(format!("app-{nth}"));
        more(&mut look);
        let id = self.entries()[nth - 1].backend.id;
        self.tell(Event::Looked { id, look });
    }

    fn all_good(&mut self) {
        (1..=self.entries().len()).for_each(|nth| self.look(nth, Outcome::Good, |_| ()));
    }

    fn suspect(&mut self, nth: usize) {
        let id = self.entries()[nth - 1].backend.id;
        self.tell(Event::Suspected { id, last: Misdeed::Status(http::StatusCode::BAD_GATEWAY) });
    }

    fn order(&mut self, backend: &str, command: Command) -> Result<Done, Refused> {
        let order = Order { pool: "default".into(), backend: backend.into(), command, by: "ann".into() };
        let done = self.roster.order(&order, self.now);
        self.roster.review(self.now);
        done
    }

    /// The states by their first letters, but `-` is draining, `x` excluded and `?` unknown.
    #[track_caller]
    fn check(&self, expected: &str) {
        let letter = |state: State| match state {
            State::Unknown => '?',
            State::Draining => '-',
            State::Excluded => 'x',
            other => other.as_str().chars().next().unwrap(),
        };
        let drawn: String = self.entries().iter().map(|entry| letter(entry.state)).collect();
        assert_eq!(drawn, expected);
    }
}

#[tokio::test]
async fn checks_and_discovery_make_states() {
    let mut bench = Bench::new("", 3);
    bench.check("???");
    bench.look(1, Outcome::Good, |_| ());
    bench.look(2, Outcome::Draining, |_| ());
    for _ in 0..2 {
        bench.look(3, Outcome::Bad, |_| ());
    }
    bench.check("u-d");
    let entry = &bench.entries()[2];
    assert_eq!((entry.about.cause, entry.about.why.as_str()), ("checks", "2 failed checks: Bad"));
    assert_eq!(entry.backend.trouble.load().as_ref().unwrap().what, "check: Bad");
    // It leaves and still lives: it drains; it is dead and leaves: it is forgotten.
    bench.find(0);
    bench.check("--");
    bench.find(3);
    bench.check("u-?");
    bench.find(2);
    bench.check("u-");
    bench.find(1);
    bench.pass(59_000);
    bench.find(1);
    bench.check("u-");
    bench.pass(1_000);
    bench.find(1);
    bench.check("u");
}

#[tokio::test]
async fn what_an_operator_wants_holds_until_he_wants_something_else() {
    let mut bench = Bench::new("", 2);
    bench.all_good();
    let done = bench.order("app-1", Command::Drain).unwrap();
    assert_eq!(done, Done { address: bench.addresses[0], state: Some(State::Draining) });
    bench.check("-u");
    let about = Arc::clone(&bench.entries()[0].about);
    assert_eq!((about.cause, about.why.as_str()), ("operator", "drain asked by ann"));
    assert_eq!(about.asked.as_ref().unwrap().by, "ann");
    // Neither good checks nor a reload undo it.
    bench.all_good();
    bench.tell(Event::Reload(config("upstream.inflight_max_per_backend = 7")));
    bench.find(2);
    bench.check("-u");
    assert_eq!(bench.entries()[0].limit, 7);
    bench.order("127.0.0.1:1", Command::Maintenance).unwrap();
    bench.check("mu");
    // Undraining is not enough for one in maintenance.
    bench.order("app-1", Command::Undrain).unwrap();
    bench.check("mu");
    bench.order("app-1", Command::Ready).unwrap();
    bench.check("uu");
}

#[tokio::test]
async fn weights_and_limits_are_changed_and_taken_back() {
    let mut bench = Bench::new("", 1);
    bench.look(1, Outcome::Good, |look| look.weight = Some(50));
    let got = |bench: &Bench| (bench.entries()[0].weight.get(), bench.entries()[0].limit);
    assert_eq!(got(&bench), (50, 1_000));
    bench.order("app-1", Command::Weight(200)).unwrap();
    bench.order("app-1", Command::Limit(3)).unwrap();
    bench.look(1, Outcome::Good, |look| look.weight = Some(60));
    assert_eq!(got(&bench), (200, 3));
    bench.order("app-1", Command::Weight(0)).unwrap();
    bench.check("-");
    bench.order("app-1", Command::Reset).unwrap();
    bench.check("u");
    assert_eq!(got(&bench), (60, 1_000));
    // Its own word for nobody new.
    bench.look(1, Outcome::Good, |look| look.weight = Some(0));
    bench.check("-");
    bench.look(1, Outcome::Good, |_| ());
    assert_eq!(got(&bench), (100, 1_000));
}

#[tokio::test]
async fn backends_are_added_and_removed_beside_discovery() {
    let mut bench = Bench::new("", 1);
    bench.all_good();
    let extra = SocketAddr::from(([127, 0, 0, 1], 9));
    assert_eq!(bench.order("", Command::Add(extra)).unwrap().state, Some(State::Unknown));
    assert!(bench.entries()[1].about.is_added);
    bench.all_good();
    // Discovery does not know it, and that does not matter.
    bench.find(1);
    bench.check("uu");
    assert_eq!(bench.order(&extra.to_string(), Command::Remove).unwrap().state, None);
    bench.check("u");
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_with_a_reason() {
    let mut bench = Bench::new("", 2);
    bench.look(1, Outcome::Good, |look| look.instance = Some("twin".into()));
    bench.look(2, Outcome::Good, |look| look.instance = Some("twin".into()));
    let mut kind = |backend: &str, command| bench.order(backend, command).unwrap_err().kind();
    let first = SocketAddr::from(([127, 0, 0, 1], 1));
    assert_eq!(kind("app-9", Command::Drain), "no-backend");
    assert_eq!(kind("127.0.0.1:9", Command::Drain), "no-backend");
    assert_eq!(kind("twin", Command::Drain), "ambiguous");
    assert_eq!(kind("127.0.0.1:1", Command::Weight(257)), "weight");
    assert_eq!(kind("127.0.0.1:1", Command::Limit(0)), "limit");
    assert_eq!(kind("127.0.0.1:1", Command::Eject(Duration::ZERO)), "time");
    assert_eq!(kind("127.0.0.1:1", Command::Remove), "discovered");
    assert_eq!(kind("", Command::Add(first)), "present");
    let order = Order { pool: "api".into(), backend: "x".into(), command: Command::Drain, by: String::new() };
    let refused = bench.roster.order(&order, bench.now).unwrap_err();
    assert_eq!(refused.to_string(), "there is no pool api; there are default");
    bench.check("uu");
}

#[tokio::test]
async fn bad_answers_eject_for_longer_each_time_and_the_pool_keeps_its_share() {
    let mut bench = Bench::new("ejection.base_ms = 1000\nejection.time_max_ms = 1500", 3);
    bench.all_good();
    bench.suspect(1);
    bench.check("euu");
    let entry = &bench.entries()[0];
    assert_eq!(entry.about.why, "5 errors in a row: status 502");
    assert_eq!(entry.about.until, Some(bench.now + Duration::from_secs(1)));
    // Half of three is one.
    bench.suspect(2);
    bench.check("euu");
    assert_eq!(bench.roster.due(bench.now), bench.now + Duration::from_secs(1));
    bench.pass(999);
    bench.check("euu");
    bench.pass(1);
    bench.check("uuu");
    bench.suspect(1);
    bench.pass(1_499);
    bench.check("euu");
    bench.pass(1);
    bench.check("uuu");
    // An operator's is as long as he says, and is pardoned when he says so.
    bench.order("app-2", Command::Eject(Duration::from_secs(60))).unwrap();
    bench.check("ueu");
    bench.order("app-2", Command::Ready).unwrap();
    bench.check("uuu");
}

#[tokio::test]
async fn the_last_one_is_never_ejected_and_a_dead_one_not_twice() {
    let mut bench = Bench::new("ejection.share_max_percent = 100", 2);
    bench.all_good();
    for _ in 0..2 {
        bench.look(2, Outcome::Bad, |_| ());
    }
    bench.suspect(2);
    bench.check("ud");
    bench.suspect(1);
    bench.check("ed");
    let snapshot = bench.roster.shared.snapshot.load_full();
    assert_eq!(snapshot.pools[0].tiers()[0], [0, 1]);
    assert!(snapshot.pools[0].panics());
}

#[tokio::test]
async fn a_new_process_is_not_punished_for_the_old_one_nor_a_draining_one_for_refusing() {
    let mut bench = Bench::new("", 2);
    let look = |bench: &mut Bench, outcome, generation| {
        bench.look(1, outcome, |look| look.generation = Some(generation));
    };
    bench.all_good();
    look(&mut bench, Outcome::Good, 1);
    bench.suspect(1);
    bench.check("eu");
    look(&mut bench, Outcome::Good, 1);
    bench.check("eu");
    look(&mut bench, Outcome::Good, 2);
    bench.check("uu");
    look(&mut bench, Outcome::Draining, 2);
    bench.suspect(1);
    bench.check("-u");
}

#[tokio::test]
async fn other_content_is_flagged_after_the_grace_time() {
    for (mode, expected) in [("off", "uuu"), ("flag", "uuu"), ("exclude", "uux")] {
        let mut bench = Bench::new(&format!("health.content_check = '{mode}'"), 3);
        for (nth, content) in [(1, "a"), (2, "a"), (3, "b")] {
            bench.look(nth, Outcome::Good, |look| look.content = Some(content.into()));
        }
        bench.pass(999);
        bench.check("uuu");
        assert!(bench.entries().iter().all(|entry| !entry.about.differs));
        bench.pass(1);
        bench.check(expected);
        assert_eq!(bench.entries()[2].about.differs, mode != "off");
        // It comes right, and is one of them again.
        bench.look(3, Outcome::Good, |look| look.content = Some("a".into()));
        bench.check("uuu");
        assert!(!bench.entries()[2].about.differs);
    }
}

#[tokio::test]
async fn who_leaves_has_no_say_in_what_is_right() {
    let mut bench = Bench::new("health.content_check = 'exclude'", 3);
    for (nth, content) in [(1, "a"), (2, "b"), (3, "b")] {
        bench.look(nth, Outcome::Good, |look| look.content = Some(content.into()));
    }
    bench.order("app-3", Command::Drain).unwrap();
    bench.pass(1_000);
    // One against one: nobody is wrong.
    bench.check("uu-");
}

#[tokio::test]
async fn without_checks_everybody_is_up_until_requests_fail() {
    let mut bench = Bench::new("health.mode = 'off'", 2);
    bench.check("uu");
    let id = bench.entries()[0].backend.id;
    for _ in 0..5 {
        bench.tell(Event::Failed { id, failure: Failure::ConnectRefused, counts: true });
    }
    bench.check("uu");
    bench.suspect(1);
    bench.check("eu");
    assert_eq!(bench.entries()[1].about.why, "checks are off");
}

#[tokio::test]
async fn a_reload_keeps_who_stays_and_forgets_whose_pool_is_gone() {
    let mut bench = Bench::new("[pools.api]\ndiscovery.name = 'api'", 2);
    bench.all_good();
    let before = bench.entries();
    let lease = before[0].backend.lease(9).unwrap();
    bench.tell(Event::Reload(config("[pools.web]\ndiscovery.name = 'web'")));
    bench.pass(1_000);
    assert_eq!(bench.pools(), ["default", "web"]);
    bench.check("uu");
    let after = bench.entries();
    assert!(Arc::ptr_eq(&before[0].backend, &after[0].backend));
    assert_eq!((after[0].backend.inflight(), after[0].since), (1, before[0].since));
    drop(lease);
    // What the discovery of before still has to say is nobody's.
    let lookout = bench.roster.groups[0].lookout();
    bench.tell(Event::Reload(config("discovery.name = 'other'")));
    bench.tell(Event::Found { lookout, addresses: BTreeSet::new() });
    bench.check("uu");
}

#[tokio::test]
async fn a_new_pool_is_in_force_once_its_backends_were_looked_at() {
    let mut bench = Bench::new("", 2);
    bench.all_good();
    let web = || Event::Reload(config("[pools.web]\ndiscovery.name = 'web'"));
    bench.tell(web());
    bench.find_in(1, 2);
    let ids: Vec<u64> = (0..100).filter(|id| bench.roster.groups[1].has(*id)).collect();
    bench.tell(Event::Looked { id: ids[0], look: Look::new(Outcome::Good, String::new()) });
    assert_eq!(bench.pools(), ["default"]);
    bench.tell(Event::Looked { id: ids[1], look: Look::new(Outcome::Bad, String::new()) });
    bench.tell(Event::Looked { id: ids[1], look: Look::new(Outcome::Bad, String::new()) });
    assert_eq!(bench.pools(), ["default", "web"]);
    // What is known already waits for nothing.
    bench.tell(Event::Reload(config("")));
    assert_eq!(bench.pools(), ["default"]);
    // Nobody is found: the configuration is what its owner wants all the same. Other pools stand still only so long.
    bench.tell(web());
    bench.look(1, Outcome::Good, |look| look.weight = Some(7));
    bench.pass(999);
    assert_eq!((bench.pools().len(), bench.entries()[0].weight.get()), (1, 100));
    bench.pass(1);
    assert_eq!((bench.pools().len(), bench.entries()[0].weight.get()), (2, 7));
    // Who reloads again and again does not put it off.
    for name in ["one", "two", "three"] {
        bench.tell(Event::Reload(config(&format!("[pools.{name}]\ndiscovery.name = 'web'"))));
        bench.pass(400);
    }
    assert_eq!(bench.pools(), ["default", "three"]);
    bench.tell(web());
    bench.pass(1_000);
    // An operator sees what came of his order.
    bench.tell(Event::Reload(config("[pools.api]\ndiscovery.name = 'api'")));
    assert_eq!(bench.pools(), ["default", "web"]);
    bench.order("nobody", Command::Drain).unwrap_err();
    assert_eq!(bench.pools(), ["default", "web"]);
    bench.order("app-1", Command::Drain).unwrap();
    assert_eq!(bench.pools(), ["default", "api"]);
}

#[tokio::test]
async fn downtime_adds_up() {
    let mut bench = Bench::new("", 1);
    bench.all_good();
    for _ in 0..2 {
        for _ in 0..2 {
            bench.look(1, Outcome::Bad, |_| ());
        }
        bench.pass(1_000);
        for _ in 0..2 {
            bench.look(1, Outcome::Good, |_| ());
        }
    }
    let about = Arc::clone(&bench.entries()[0].about);
    assert_eq!((about.downs, about.downtime), (2, Duration::from_secs(2)));
}
