//! Random sequences of operations: a simple model, memory and Redis must tell the same story.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use session_store::{Applied, Change, Expect, Limits, MemoryStore, Policy, SessionId, Store, StoreError};

use crate::world::{Kind, new_id};

const IDS: usize = 4;

/// An operation on the ids by number. `wait_ms` is for stores whose clock can be set.
#[derive(Debug, Clone)]
struct Operation {
    wait_ms: u64,
    id: usize,
    expect: Expect,
    changes: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, usize),
    Remove(u8),
    Touch,
    Rotate(usize),
    Renew,
    Destroy,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let step = prop_oneof![
        6 => (0..4u8, 0..7usize).prop_map(|(name, size)| Step::Set(name, size)),
        2 => (0..4u8).prop_map(Step::Remove),
        2 => Just(Step::Touch),
        2 => (0..IDS).prop_map(Step::Rotate),
        1 => Just(Step::Renew),
    ];
    let changes = prop_oneof![6 => prop::collection::vec(step, 0..5), 1 => Just(vec![Step::Destroy])];
    let expect = prop_oneof![1 => Just(Expect::Absent), 2 => Just(Expect::Present)];
    let operation = (0..40u64, 0..IDS, expect, changes)
        .prop_map(|(wait_ms, id, expect, changes)| Operation { wait_ms, id, expect, changes });
    prop::collection::vec(operation, 1..40)
}

fn policy() -> Policy {
    let limits = Limits { fields_max: 3, session_bytes_max: 14, ..Limits::default() };
    Policy { limits, ..Policy::default() }
}

/// What one `apply` answered, without times.
#[derive(Debug, PartialEq)]
enum Answer {
    Session(BTreeMap<String, String>),
    NoSession,
    Exists,
    Refused(&'static str),
}

fn answer(outcome: Result<Applied, StoreError>) -> Answer {
    match outcome {
        Ok(Applied::Applied(session)) => Answer::Session(session.fields),
        Ok(Applied::NoSession) => Answer::NoSession,
        Ok(Applied::Exists) => Answer::Exists,
        Err(error) => Answer::Refused(error.kind()),
    }
}

/// One id of the model.
#[derive(Debug, Clone)]
enum Entry {
    Live { fields: BTreeMap<String, String>, seen: u64, end: u64 },
    Dead { end: u64 },
}

/// The rules written a second time, as plainly as possible.
struct Model {
    entries: BTreeMap<usize, Entry>,
    now: u64,
    idle: u64,
    absolute: u64,
}

impl Model {
    fn new(now: u64, policy: &Policy) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
        Self {
            entries: BTreeMap::new(),
            now,
            idle: ms(policy.idle_timeout),
            absolute: ms(policy.absolute_timeout),
        }
    }

    fn get(&self, id: usize) -> Option<&Entry> {
        self.entries.get(&id).filter(|entry| match entry {
            Entry::Live { seen, end, .. } => self.now < seen + self.idle && self.now < *end,
            Entry::Dead { end } => self.now < *end,
        })
    }

    fn load(&self, id: usize) -> Option<BTreeMap<String, String>> {
        match self.get(id) {
            Some(Entry::Live { fields, .. }) => Some(fields.clone()),
            _ => None,
        }
    }

    fn apply(&mut self, operation: &Operation) -> Answer {
        let steps = &operation.changes;
        let rotations: Vec<usize> = steps
            .iter()
            .filter_map(|step| if let Step::Rotate(to) = step { Some(*to) } else { None })
            .collect();
        let renews = steps.iter().any(|step| matches!(step, Step::Renew));
        let destroys = steps.iter().any(|step| matches!(step, Step::Destroy));
        let creates = operation.expect == Expect::Absent;
        if rotations.len() > 1
            || rotations.contains(&operation.id)
            || (renews && rotations.is_empty())
            || (creates && (destroys || !rotations.is_empty()))
        {
            return Answer::Refused("invalid");
        }
        let (mut fields, mut seen, mut end) = match (creates, self.get(operation.id).cloned()) {
            (true, Some(_)) => return Answer::Exists,
            (true, None) => (BTreeMap::new(), self.now, self.now + self.absolute),
            (false, Some(Entry::Live { fields, seen, end })) => (fields, seen, end),
            (false, _) => return Answer::NoSession,
        };
        let grave = Entry::Dead { end };
        if destroys {
            self.entries.insert(operation.id, grave);
            return Answer::Session(fields);
        }
        if rotations.iter().any(|to| self.get(*to).is_some()) {
            return Answer::Exists;
        }
        for step in steps {
            match step {
                Step::Set(name, size) => drop(fields.insert(format!("f{name}"), "x".repeat(*size))),
                Step::Remove(name) => drop(fields.remove(&format!("f{name}"))),
                Step::Renew => end = self.now + self.absolute,
                Step::Touch | Step::Rotate(_) | Step::Destroy => {}
            }
        }
        let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if fields.len() > 3 || bytes > 14 {
            return Answer::Refused("limit");
        }
        if !steps.is_empty() && self.now - seen >= self.idle / 10 {
            seen = self.now;
        }
        let place = rotations.first().copied().unwrap_or(operation.id);
        self.entries.insert(operation.id, grave);
        self.entries.insert(place, Entry::Live { fields: fields.clone(), seen, end });
        Answer::Session(fields)
    }
}

fn changes(steps: &[Step], ids: &[SessionId]) -> Vec<Change> {
    let change = |step: &Step| match step {
        Step::Set(name, size) => Change::set(format!("f{name}"), "x".repeat(*size)),
        Step::Remove(name) => Change::remove(format!("f{name}")),
        Step::Touch => Change::Touch,
        Step::Rotate(to) => Change::Rotate { to: ids[*to] },
        Step::Renew => Change::Renew,
        Step::Destroy => Change::Destroy,
    };
    steps.iter().map(change).collect()
}

/// Plays the operations to the model and the store; `set_clock` makes the store's clock follow the model's.
async fn compare(store: &Store, operations: &[Operation], mut set_clock: Option<&mut dyn FnMut(u64)>) {
    let ids: Vec<_> = (0..IDS).map(|_| new_id()).collect();
    let mut model = Model::new(1_000_000, store.policy());
    for (number, operation) in operations.iter().enumerate() {
        if let Some(set_clock) = &mut set_clock {
            model.now += operation.wait_ms;
            set_clock(model.now);
        }
        let changes = changes(&operation.changes, &ids);
        let outcome = store.apply(&ids[operation.id], operation.expect, &changes).await;
        assert_eq!(answer(outcome), model.apply(operation), "operation {number}: {operation:?}");
        for (index, id) in ids.iter().enumerate() {
            let loaded = store.load(id).await.unwrap().map(|session| session.fields);
            assert_eq!(loaded, model.load(index), "id {index} after operation {number}: {operation:?}");
        }
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn memory_behaves_like_the_model_while_time_passes() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runner(512)
        .run(&operations(), |operations| {
            let policy = Policy {
                idle_timeout: Duration::from_millis(60),
                absolute_timeout: Duration::from_millis(150),
                ..policy()
            };
            let clock = Arc::new(AtomicU64::new(1_000_000));
            let reading = Arc::clone(&clock);
            let memory = MemoryStore::with_clock(policy, move || reading.load(Ordering::Relaxed));
            let mut set_clock = |now| clock.store(now, Ordering::Relaxed);
            runtime.block_on(compare(&Store::Memory(memory), &operations, Some(&mut set_clock)));
            Ok(())
        })
        .unwrap();
}

#[test]
fn memory_behaves_like_the_model() {
    behaves_like_the_model(Kind::Memory, 512);
}

#[test]
fn redis_behaves_like_the_model() {
    if Kind::Redis.available("redis_behaves_like_the_model") {
        behaves_like_the_model(Kind::Redis, 128);
        behaves_like_the_model(Kind::RedisWithCopies, 64);
    }
}

fn behaves_like_the_model(kind: Kind, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(kind.open(policy()));
    runner(cases)
        .run(&operations(), |operations| {
            runtime.block_on(compare(&store, &operations, None));
            Ok(())
        })
        .unwrap();
}
