use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;

/// Steps, one a word: `join:ids` (a waiter that accepts these backends), `offer:id`, `drop:n` (the nth waiter leaves),
/// `look:n`, `widen:n=ids`. Drawn: for each waiter the backend it was given, `?` to look again, `.` nothing, `x` full.
#[track_caller]
fn check(len_max: usize, steps: &str, expected: &str) {
    let queue = Queue::<u64>::default();
    let ids = |text: &str| text.split(',').map(|id| id.parse().unwrap()).collect::<Vec<u64>>();
    let mut waiting: Vec<Option<Waiting<'_, u64>>> = Vec::new();
    for step in steps.split_whitespace() {
        let (verb, rest) = step.split_once(':').unwrap();
        match verb {
            "join" => waiting.push(queue.join(ids(rest), len_max).ok()),
            "drop" => waiting[rest.parse::<usize>().unwrap()] = None,
            "look" => queue.look(rest.parse().unwrap()),
            "widen" => {
                let (nth, more) = rest.split_once('=').unwrap();
                waiting[nth.parse::<usize>().unwrap()].as_ref().unwrap().accept(ids(more));
            }
            _ => {
                let id = rest.parse().unwrap();
                queue.offer(id, || id, || {});
            }
        }
    }
    let drawn: String = waiting
        .iter_mut()
        .map(|waiting| match waiting.as_mut().map(|waiting| waiting.receiver.try_recv()) {
            None => "x".to_owned(),
            Some(Ok(Given::Place(id))) => id.to_string(),
            Some(Ok(Given::Look)) => "?".to_owned(),
            Some(Err(_)) => ".".to_owned(),
        })
        .collect();
    assert_eq!(drawn, expected, "{steps}");
}

#[test]
fn first_come_first_served() {
    check(9, "join:1,2 join:1,2 join:1,2 offer:2 offer:1", "21.");
}

#[test]
fn a_place_goes_to_the_first_who_can_use_it() {
    check(9, "join:1 join:1,2 offer:2 offer:1", "12");
    check(9, "join:1 join:1 offer:2", "..");
}

#[test]
fn the_line_has_an_end() {
    check(2, "join:1 join:1 join:1 offer:1", "1.x");
    check(0, "join:1", "x");
    check(2, "join:1 join:1 offer:1 join:1", "1..");
}

#[test]
fn who_leaves_is_passed_over() {
    check(9, "join:1 join:1 drop:0 offer:1", "x1");
    check(1, "join:1 drop:0 join:1 offer:1", "x1");
}

#[test]
fn widening_keeps_the_position() {
    check(9, "join:1 join:1,2 widen:0=1,2 offer:2", "2.");
}

#[test]
fn a_changed_pool_makes_as_many_choose_again_as_there_may_be_places() {
    check(9, "join:1 join:1 join:1 look:2 offer:1", "??1");
}

/// Places are counted; a place dropped goes back, through the queue.
#[derive(Debug, Default)]
struct Counter {
    taken: AtomicUsize,
    most: AtomicUsize,
    queue: Queue<Place>,
}

#[derive(Debug)]
struct Place(Arc<Counter>);

const PLACES: usize = 3;

impl Counter {
    fn enter(self: &Arc<Self>) -> Option<Place> {
        let update = |taken| (taken < PLACES).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update).ok()?;
        self.most.fetch_max(taken + 1, Ordering::SeqCst);
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counter = &self.0;
        release(
            &counter.queue,
            7,
            || Place(Arc::clone(counter)),
            || {
                counter.taken.fetch_sub(1, Ordering::SeqCst);
            },
            || {
                let update = |taken| (taken < PLACES).then_some(taken + 1);
                counter.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update).is_ok()
            },
            false,
        );
    }
}

#[test]
fn a_place_that_its_receiver_drops_is_offered_to_the_next() {
    let counter = Arc::new(Counter::default());
    let held: Vec<Place> = (0..PLACES).map(|_| counter.enter().unwrap()).collect();
    let (gone, mut next) = (counter.queue.join(vec![7], 9).unwrap(), counter.queue.join(vec![7], 9).unwrap());
    drop(held);
    drop(gone);
    assert!(matches!(next.receiver.try_recv(), Ok(Given::Place(_))));
    drop(next);
    assert_eq!((counter.taken.load(Ordering::SeqCst), counter.queue.len()), (0, 0));
}

/// Somebody joins in the worst moment: after the one who ends saw an empty line, before its place is free.
#[test]
fn who_joins_while_a_place_is_given_back_gets_it() {
    let (queue, taken) = (Queue::<u64>::default(), AtomicUsize::new(1));
    let waiting = std::cell::RefCell::new(None);
    let leave = || {
        waiting.borrow_mut().get_or_insert_with(|| queue.join(vec![7], 9).unwrap());
        taken.fetch_sub(1, Ordering::SeqCst);
    };
    let enter = || {
        taken.fetch_add(1, Ordering::SeqCst);
        true
    };
    release(&queue, 7, || 7, leave, enter, false);
    let mut waiting = waiting.into_inner().unwrap();
    assert_eq!(waiting.receiver.try_recv(), Ok(Given::Place(7)));
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

/// The limit was lowered to one while two were taken, and both end in the same moment: each saw the surplus of the other.
#[test]
fn two_places_of_a_surplus_that_go_together_leave_one() {
    let (queue, taken) = (Queue::<u64>::default(), AtomicUsize::new(2));
    let mut waiting = queue.join(vec![7], 9).unwrap();
    let leave = || {
        taken.fetch_sub(1, Ordering::SeqCst);
    };
    let enter = || taken.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    release(&queue, 7, || 7, leave, enter, true);
    assert!(waiting.receiver.try_recv().is_err());
    release(&queue, 7, || 7, leave, enter, true);
    assert_eq!(waiting.receiver.try_recv(), Ok(Given::Place(7)));
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

/// Four threads with their own runtimes fight for three places; some give up early. Nobody waits for ever, never are
/// more places taken than there are, and at the end all are free.
#[test]
fn no_wake_up_is_lost_across_threads() {
    let counter = Arc::new(Counter::default());
    let failed = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (counter, failed) = (Arc::clone(&counter), Arc::clone(&failed));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                let mut tasks = Vec::new();
                for task in 0..8_u64 {
                    let (counter, failed) = (Arc::clone(&counter), Arc::clone(&failed));
                    tasks.push(runtime.spawn(async move {
                        let mut random = fastrand::Rng::with_seed(thread * 100 + task);
                        for _ in 0..500 {
                            let patience = if random.u8(0..4) == 0 { 0 } else { 30_000 };
                            match take(&counter, Duration::from_millis(patience)).await {
                                Some(place) => {
                                    tokio::task::yield_now().await;
                                    drop(place);
                                }
                                None if patience == 0 => {}
                                None => failed.store(true, Ordering::SeqCst),
                            }
                        }
                    }));
                }
                runtime.block_on(async {
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(!failed.load(Ordering::SeqCst), "somebody waited 30 s");
    assert_eq!(counter.most.load(Ordering::SeqCst), PLACES);
    assert_eq!((counter.taken.load(Ordering::SeqCst), counter.queue.len()), (0, 0));
}

async fn take(counter: &Arc<Counter>, patience: Duration) -> Option<Place> {
    if let Some(place) = counter.enter() {
        return Some(place);
    }
    let mut waiting = counter.queue.join(vec![7], 1_000).unwrap();
    if let Some(place) = counter.enter() {
        return Some(place);
    }
    match waiting.given(Instant::now() + patience).await {
        Some(Given::Place(place)) => Some(place),
        _ => None,
    }
}
