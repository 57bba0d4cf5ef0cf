//! Balancers, workers and backends in one thread and in virtual time. Everything random comes from one seed, so a run is
//! repeated exactly, and every bound below holds for each of [`SEEDS`] seeds.
//!
//! Requests arrive at random (Poisson) at any worker of any balancer. Workers of one balancer share counts; balancers
//! know nothing of each other. A backend serves some requests at a time, each for an exponentially distributed time;
//! the others wait there. `race` is the time from a worker's look at the counts to its own request's being counted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::load::{Load, Outcome};
use super::{Algorithm, Candidate, Choice, EwmaTerms, Pick, Picker, SHARE_ONE};

pub(crate) const SEEDS: u64 = 64;

pub(crate) const EWMA: Algorithm = Algorithm::Ewma(EwmaTerms {
    decay: Duration::from_secs(10),
    error_penalty: Duration::from_secs(1),
    retry_after_max: Duration::from_secs(10),
});

/// A backend as one balancer sees it.
pub(crate) struct Seen {
    pub(crate) id: u64,
    pub(crate) place: u64,
    pub(crate) share: u32,
    pub(crate) limit: usize,
    pub(crate) load: Load,
}

impl Seen {
    pub(crate) fn new(id: u64, share: u32, now: Instant) -> Self {
        let place = super::consistent_hash::hash(&id.to_be_bytes());
        Self { id, place, share, limit: usize::MAX, load: Load::new(now) }
    }
}

impl Candidate for Seen {
    fn id(&self) -> u64 {
        self.id
    }
    fn place(&self) -> u64 {
        self.place
    }
    fn share(&self, _: Instant) -> u32 {
        self.share
    }
    fn limit(&self) -> usize {
        self.limit
    }
    fn load(&self) -> &Load {
        &self.load
    }
}

/// What a backend really is.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) weight: u32,
    pub(crate) service_us: f64,
    pub(crate) slots: usize,
    pub(crate) fails: bool,
}

impl Machine {
    pub(crate) const PLAIN: Self = Self { weight: 1, service_us: 10_000.0, slots: 4, fails: false };
}

pub(crate) struct Plan {
    pub(crate) algorithm: Algorithm,
    pub(crate) balancers: usize,
    pub(crate) workers: usize,
    pub(crate) machines: Vec<Machine>,
    /// Of what all machines together could serve.
    pub(crate) utilisation: f64,
    pub(crate) requests: usize,
    pub(crate) race_us: u64,
}

impl Plan {
    pub(crate) fn new(algorithm: Algorithm, machines: Vec<Machine>, utilisation: f64) -> Self {
        Self { algorithm, balancers: 1, workers: 2, machines, utilisation, requests: 4_000, race_us: 0 }
    }
}

/// What came out.
pub(crate) struct Report {
    pub(crate) served: Vec<usize>,
    pub(crate) latencies_us: Vec<u64>,
    /// Requests that had to wait at a backend while another one had an idle slot.
    pub(crate) needless_waits: usize,
}

impl Report {
    pub(crate) fn share(&self, machine: usize) -> f64 {
        self.served[machine] as f64 / self.served.iter().sum::<usize>() as f64
    }

    pub(crate) fn quantile_ms(&mut self, quantile: f64) -> f64 {
        self.latencies_us.sort_unstable();
        let at = (self.latencies_us.len() as f64 * quantile) as usize;
        self.latencies_us[at.min(self.latencies_us.len() - 1)] as f64 / 1e3
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Enters { request: usize },
    Ends { request: usize },
}

#[derive(Clone, Copy)]
struct Request {
    arrived: u64,
    balancer: usize,
    machine: usize,
}

struct Run<'a> {
    plan: &'a Plan,
    begun: Instant,
    now: u64,
    random: fastrand::Rng,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    sequence: usize,
    /// One list a balancer.
    seen: Vec<Vec<Seen>>,
    pickers: Vec<Picker>,
    requests: Vec<Request>,
    busy: Vec<usize>,
    waiting: Vec<VecDeque<usize>>,
    report: Report,
}

pub(crate) fn run(plan: &Plan, seed: u64) -> Report {
    let begun = Instant::now();
    let machines = plan.machines.len();
    let mut run = Run {
        plan,
        begun,
        now: 0,
        random: fastrand::Rng::with_seed(seed),
        events: BinaryHeap::new(),
        sequence: 0,
        seen: (0..plan.balancers)
            .map(|_| {
                let seen = |(id, machine): (usize, &Machine)| {
                    Seen::new(id as u64, machine.weight * SHARE_ONE, begun)
                };
                plan.machines.iter().enumerate().map(seen).collect()
            })
            .collect(),
        pickers: (0..plan.balancers * plan.workers)
            .map(|worker| Picker::new(seed.wrapping_mul(1_000) + worker as u64))
            .collect(),
        requests: Vec::new(),
        busy: vec![0; machines],
        waiting: vec![VecDeque::new(); machines],
        report: Report { served: vec![0; machines], latencies_us: Vec::new(), needless_waits: 0 },
    };
    run.push(0, Event::Arrives);
    while let Some(Reverse((at, _, event))) = run.events.pop() {
        run.now = at;
        match event {
            Event::Arrives => run.arrives(),
            Event::Enters { request } => run.enters(request),
            Event::Ends { request } => run.ends(request),
        }
    }
    run.report
}

impl Run<'_> {
    fn push(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + after, self.sequence, event)));
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.random.f64()).ln() * mean) as u64
    }

    fn clock(&self) -> Instant {
        self.begun + Duration::from_micros(self.now)
    }

    fn arrives(&mut self) {
        let capacity: f64 =
            self.plan.machines.iter().map(|machine| machine.slots as f64 / machine.service_us).sum();
        if self.requests.len() + 1 < self.plan.requests {
            let gap = self.exponential(1.0 / (capacity * self.plan.utilisation));
            self.push(gap, Event::Arrives);
        }
        let worker = self.random.usize(0..self.pickers.len());
        let balancer = worker / self.plan.workers;
        let all: Vec<usize> = (0..self.plan.machines.len()).collect();
        let key =
            matches!(self.plan.algorithm, Algorithm::ConsistentHash { .. }).then(|| self.random.u64(..));
        let choice =
            Choice { entries: &self.seen[balancer], tiers: [&all, &[]], tried: &[], key, now: self.clock() };
        let Pick::One(machine, _) = self.pickers[worker].pick(&self.plan.algorithm, &choice) else {
            panic!("nobody is ever full here");
        };
        self.requests.push(Request { arrived: self.now, balancer, machine });
        let request = self.requests.len() - 1;
        if self.plan.race_us == 0 {
            self.enters(request);
        } else {
            self.push(self.plan.race_us, Event::Enters { request });
        }
    }

    fn enters(&mut self, request: usize) {
        let Request { balancer, machine, .. } = self.requests[request];
        assert!(self.seen[balancer][machine].load.enter(usize::MAX));
        self.report.served[machine] += 1;
        if self.busy[machine] < self.plan.machines[machine].slots {
            self.begin(request);
        } else {
            let idle = |(busy, machine): (&usize, &Machine)| *busy < machine.slots;
            if self.busy.iter().zip(&self.plan.machines).any(idle) {
                self.report.needless_waits += 1;
            }
            self.waiting[machine].push_back(request);
        }
    }

    fn begin(&mut self, request: usize) {
        let machine = self.requests[request].machine;
        self.busy[machine] += 1;
        let spec = self.plan.machines[machine];
        // Failing needs no work.
        let time = if spec.fails { 200 } else { self.exponential(spec.service_us) };
        self.push(time, Event::Ends { request });
    }

    fn ends(&mut self, request: usize) {
        let Request { arrived, balancer, machine } = self.requests[request];
        self.busy[machine] -= 1;
        let (latency, load) = (self.now - arrived, &self.seen[balancer][machine].load);
        if let Algorithm::Ewma(terms) = self.plan.algorithm {
            let outcome = if self.plan.machines[machine].fails {
                Outcome::Failed { rest: None }
            } else {
                Outcome::Answered
            };
            load.observe(Duration::from_micros(latency), outcome, terms, self.clock());
        }
        load.leave();
        if !self.plan.machines[machine].fails {
            self.report.latencies_us.push(latency);
        }
        if let Some(next) = self.waiting[machine].pop_front() {
            self.begin(next);
        }
    }
}

mod findings;
