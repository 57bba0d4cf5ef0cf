//! Deadlines of many requests, looked at together a few times a second: a timer for each costs more than the rest of
//! waiting for an answer, and nearly none of them ever goes off. A deadline is kept to [`LOOK_EVERY`].

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How often deadlines are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The deadlines of one worker.
#[derive(Debug, Default)]
pub(crate) struct Alarms(RefCell<Slots>);

#[derive(Debug, Default)]
struct Slots {
    set: Vec<Option<(Instant, Waker)>>,
    free: Vec<usize>,
}

/// One deadline; none any more once dropped.
#[derive(Debug)]
pub(crate) struct Alarm {
    home: Rc<Alarms>,
    slot: Option<usize>,
}

impl Alarms {
    /// A deadline that is not set yet.
    pub(crate) fn alarm(self: &Rc<Self>) -> Alarm {
        Alarm { home: Rc::clone(self), slot: None }
    }

    /// Wakes those whose deadline has come, for ever.
    pub(crate) async fn run(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(Instant::now());
        }
    }

    fn look(&self, now: Instant) {
        // A waker may run code of its task's scheduler, never of ours: the slots can stay borrowed.
        for (due, waker) in self.0.borrow().set.iter().flatten() {
            if *due <= now {
                waker.wake_by_ref();
            }
        }
    }
}

impl Alarm {
    /// Wakes the task soon after `due`; an earlier setting is replaced.
    pub(crate) fn set(&mut self, due: Instant, cx: &Context<'_>) {
        let mut slots = self.home.0.borrow_mut();
        let slots = &mut *slots;
        let slot = *self.slot.get_or_insert_with(|| {
            slots.free.pop().unwrap_or_else(|| {
                slots.set.push(None);
                slots.set.len() - 1
            })
        });
        match &mut slots.set[slot] {
            Some((earlier, waker)) if waker.will_wake(cx.waker()) => *earlier = due,
            empty => *empty = Some((due, cx.waker().clone())),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let mut slots = self.home.0.borrow_mut();
            slots.set[slot] = None;
            slots.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_goes_off_when_due_and_not_after_it_was_dropped() {
        let (alarms, count) = (Rc::<Alarms>::default(), Arc::<Count>::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let seen = |ms| {
            alarms.look(at(ms));
            count.0.load(Ordering::Relaxed)
        };
        let (mut one, mut other) = (alarms.alarm(), alarms.alarm());
        one.set(at(10), &cx);
        other.set(at(20), &cx);
        assert_eq!(seen(9), 0);
        assert_eq!(seen(10), 1);
        one.set(at(30), &cx);
        assert_eq!(seen(11), 1);
        drop(one);
        assert_eq!(seen(40), 2);
        drop(other);
        assert_eq!(seen(50), 2);
        let mut third = alarms.alarm();
        third.set(at(60), &cx);
        assert_eq!(alarms.0.borrow().set.len(), 2, "places are used again");
    }
}
