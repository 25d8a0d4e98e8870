//! The window and the gate with so many requests held: a request arrives, is chosen, is settled, is held for later, is
//! requeued, under two limits that let all of it through. The number held is the same before each sample, for what is put
//! in was taken out before, unmeasured; only what is held for later stays, 2,000 in all.

use std::cell::RefCell;
use std::time::Duration;

use divan::{Bencher, black_box};
use jiff::Timestamp;
use sluicegate::core::{
    Core, Ending, Input, Job, Moment, Now, Request, Run, Settings, Settlement, Step, Verdict, gate,
};

const HELD: [usize; 3] = [1_000, 100_000, 1_000_000];
/// Requests handled in a sample.
const SAMPLE: u32 = 100;
/// `window.max_hold`, longer than it takes the most of them to come.
const HOLD: Duration = Duration::from_secs(100_000);
/// The time between two that come before the bench begins.
const APART: Duration = Duration::from_millis(10);
/// The time between two calls.
const BETWEEN: Duration = Duration::from_micros(100);

struct Bench {
    core: Core<u64>,
    now: Now,
    made: u64,
}

impl Bench {
    fn holding(count: usize) -> Self {
        // Looked at for each call, as those of an account are; what passes between two is enough for both.
        let rates = ["100000/s", "1000000/min"].map(|rate| rate.parse().unwrap()).to_vec();
        let gate = gate::GateSettings {
            rates,
            max_in_flight: usize::MAX,
            ..gate::GateSettings::default()
        };
        let settings = Settings { gate, window: 2_000_000, max_hold: HOLD, ..Settings::default() };
        let start: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let now = Now { at: Moment::from_nanos(1_000_000_000), wall: start };
        let mut core = Core::new(settings, now);
        core.take(now, Input::Opened { session: 1, waiting: 0 });
        let mut bench = Self { core, now, made: 0 };
        for _ in 0..count {
            let job = bench.job();
            bench.core.take(bench.now, Input::Delivered(job));
            bench.wait(APART);
        }
        // Past the linger of a start.
        bench.wait(Duration::from_secs(10));
        bench
    }

    fn wait(&mut self, time: Duration) {
        self.now = Now { at: self.now.at + time, wall: self.now.wall + time };
    }

    /// Another request, of a random priority.
    fn job(&mut self) -> Job<u64> {
        self.made += 1;
        Job::new(request(self.made, self.now.wall), self.made, 1, false, self.now.at)
    }

    fn start(&mut self) -> Job<u64> {
        self.wait(BETWEEN);
        match self.core.next(self.now) {
            Step::Post(job) => job,
            other => panic!("expected a POST, not {other:?}"),
        }
    }

    fn answer(&mut self, job: Job<u64>) -> (Job<u64>, Box<Ending>) {
        let verdict = Verdict::Created { task_id: "3d1f7b52-0a36-4f7e-93a1-8a4d0d6c3a5e".into() };
        let started = self.now;
        self.core.take(self.now, Input::Answered { job, started, verdict, generation: 1 });
        match self.core.next(self.now) {
            Step::Settle(job, ending) => (job, ending),
            other => panic!("expected a settlement, not {other:?}"),
        }
    }

    fn settle(&mut self, (job, ending): (Job<u64>, Box<Ending>)) {
        self.core.take(self.now, Input::Settled { job, ending, how: Settlement::Done });
    }
}

fn request(number: u64, at: Timestamp) -> Request {
    let source = format!("{number:08x}-9c1d-4e52-b3a7-1f0d6c3a5e42");
    let name = format!("migrate-{number}");
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    let priority = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    Request {
        run: Run::of(&source, &digest, Some(at), 0),
        id: source.as_str().into(),
        name: name.into(),
        source_server_id: source.into(),
        priority: u16::try_from(priority).unwrap(),
        enqueued_at: Some(at).into(),
        starts: true,
        bytes: 1_000,
        ..Request::default()
    }
}

/// A request arrives.
#[divan::bench(args = HELD, sample_size = SAMPLE)]
fn push(bencher: Bencher<'_, '_>, held: usize) {
    let bench = RefCell::new(Bench::holding(held));
    bencher
        .with_inputs(|| {
            let mut bench = bench.borrow_mut();
            let job = bench.start();
            let settled = bench.answer(job);
            bench.settle(settled);
            bench.job()
        })
        .bench_local_values(|job| {
            let mut bench = bench.borrow_mut();
            let now = bench.now;
            bench.core.take(now, Input::Delivered(job));
        });
}

/// The most urgent is chosen.
#[divan::bench(args = HELD, sample_size = SAMPLE)]
fn next(bencher: Bencher<'_, '_>, held: usize) {
    let bench = RefCell::new(Bench::holding(held));
    let out = RefCell::new(Vec::new());
    bencher
        .with_inputs(|| {
            let mut bench = bench.borrow_mut();
            // What the last sample has chosen ends, and others come in its place.
            for job in out.borrow_mut().drain(..) {
                let settled = bench.answer(job);
                bench.settle(settled);
                let job = bench.job();
                let now = bench.now;
                bench.core.take(now, Input::Delivered(job));
            }
        })
        .bench_local_values(|()| {
            let job = bench.borrow_mut().start();
            out.borrow_mut().push(job);
        });
}

/// Its answer comes, and its settlement ends.
#[divan::bench(args = HELD, sample_size = SAMPLE)]
fn settle(bencher: Bencher<'_, '_>, held: usize) {
    let bench = RefCell::new(Bench::holding(held));
    bencher
        .with_inputs(|| {
            let mut bench = bench.borrow_mut();
            let job = bench.job();
            let now = bench.now;
            bench.core.take(now, Input::Delivered(job));
            bench.start()
        })
        .bench_local_values(|job| {
            let mut bench = bench.borrow_mut();
            let settled = bench.answer(job);
            bench.settle(settled);
        });
}

/// A request arrives that is not to be sent before a time.
#[divan::bench(args = HELD, sample_size = SAMPLE, sample_count = 20)]
fn hold(bencher: Bencher<'_, '_>, held: usize) {
    let bench = RefCell::new(Bench::holding(held));
    bencher
        .with_inputs(|| {
            let mut bench = bench.borrow_mut();
            let not_before = bench.now.wall + Duration::from_secs(1_800 + bench.made % 60);
            let mut job = bench.job();
            job.request.rare.not_before = Some(not_before);
            job
        })
        .bench_local_values(|job| {
            let mut bench = bench.borrow_mut();
            let now = bench.now;
            bench.core.take(now, Input::Delivered(job));
        });
}

/// A request that has been held too long is requeued, and another comes.
#[divan::bench(args = HELD, sample_size = SAMPLE, sample_count = 20)]
fn requeue(bencher: Bencher<'_, '_>, held: usize) {
    let bench = RefCell::new(Bench::holding(held));
    let since_first = bench.borrow().now.at - Moment::from_nanos(1_000_000_000);
    bench.borrow_mut().wait(HOLD.saturating_sub(since_first));
    bencher
        .with_inputs(|| {
            let mut bench = bench.borrow_mut();
            let mut job = bench.job();
            let now = bench.now;
            // As far behind those before it as they are behind each other: it will be due after them.
            job.received = now.at - HOLD + APART * u32::try_from(held).unwrap();
            bench.core.take(now, Input::Delivered(job));
            // The next one is due.
            bench.wait(APART);
        })
        .bench_local_values(|()| {
            let mut bench = bench.borrow_mut();
            let now = bench.now;
            match bench.core.next(now) {
                Step::Requeue(job) => drop(black_box(job)),
                other => panic!("expected it back, not {other:?}"),
            }
        });
}
