//! The real core in virtual time, between a broker and an API that are pure state: thousands of random histories with
//! lost answers, late tasks, outages, lost sessions, workers that are cut off and do not know it, killed brokers, restarts,
//! pauses and blocked results. The promises are asked after every step.
//!
//! Each history comes from its seed. A failure prints it; `SLUICE_SEED=n` runs that one alone and tells what happens,
//! `SLUICE_HISTORIES=n` runs more of them.

mod api;
mod broker;
mod checks;
mod history;
mod worker;
mod world;

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use sluicegate::core::{Settings, gate};

use history::History;
use world::World;

/// Says which history was running when a check, here or in the core, failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history {0} failed; SLUICE_SEED={0} tells what happens in it", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn run(seed: u64, trace: bool) -> BTreeMap<&'static str, usize> {
    let _seed = Seed(seed);
    let history = History::new(&mut SmallRng::seed_from_u64(seed));
    if trace {
        println!("{history:#?}");
    }
    let mut world = World::new(seed, history, trace);
    world.run();
    world.checks.tally
}

/// Two halves, so that two processors share the ten thousand.
#[test]
fn the_promises_hold_in_five_thousand_random_histories() {
    histories(0);
}

#[test]
fn the_promises_hold_in_five_thousand_more_random_histories() {
    histories(1);
}

/// Every second seed, from `first` on.
fn histories(first: usize) {
    if let Some(seed) = number("SLUICE_SEED") {
        run(seed, true);
        return;
    }
    let mut tally = BTreeMap::new();
    for seed in (0..number("SLUICE_HISTORIES").unwrap_or(10_000)).skip(first).step_by(2) {
        for (what, times) in run(seed, false) {
            *tally.entry(what).or_insert(0) += times;
        }
    }
    println!("{tally:#?}");
    for what in EXPECTED {
        let times = tally.get(what).copied().unwrap_or(0);
        assert!(times >= 50, "{what:?} happened {times} times only");
    }
}

/// What the histories must be full of, for their silence to mean something.
const EXPECTED: [&str; 26] = [
    "a POST answered",
    "a POST that vanished",
    "a POST whose answer was lost",
    "a POST applied late",
    "a POST applied and refused",
    "a POST refused",
    "a task made after its worker stopped waiting",
    "a task made by somebody else",
    "a redelivery",
    "a broker killed",
    "a worker cut off",
    "a delivery given back",
    "a blocked result",
    "a settlement whose session was lost",
    "an acknowledgement of what was settled before",
    "a fresh token",
    "a page of all tasks",
    "nothing",
    "failed",
    "created",
    "exists",
    "conflict",
    "rejected",
    "exhausted",
    "expired",
    "unknown",
];

#[test]
fn a_thousand_waiting_requests_go_in_order_and_within_the_rate() {
    let gate = gate::Settings {
        rates: vec!["200/s".parse().unwrap(), "9000/min".parse().unwrap()],
        max_in_flight: 64,
        ..gate::Settings::default()
    };
    let settings = Settings { gate, ..Settings::default() };
    let random = &mut SmallRng::seed_from_u64(1);
    let history = History::calm(random, 1_000, settings);
    let mut world = World::new(1, history, false);
    world.run();
    let pace = world.checks.pace();
    assert!((0.98 * 150.0..150.5).contains(&pace), "{pace} calls a second");
}
