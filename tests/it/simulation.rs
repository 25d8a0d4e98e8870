//! The real core in virtual time, between a broker and an API that are pure state: thousands of random histories with
//! lost answers, late tasks, lost sessions, killed brokers, restarts, pauses and blocked results. The promises are asked
//! after every step.
//!
//! Each history comes from its seed. A failure prints it; `SLUICE_SEED=n` runs that one alone and tells what happens,
//! `SLUICE_HISTORIES=n` runs more of them.

mod api;
mod broker;
mod checks;
mod history;
mod world;

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

fn run(seed: u64, trace: bool) {
    let _seed = Seed(seed);
    let history = History::new(&mut SmallRng::seed_from_u64(seed));
    if trace {
        println!("{history:#?}");
    }
    World::new(seed, history, trace).run();
}

#[test]
fn the_promises_hold_in_ten_thousand_random_histories() {
    if let Some(seed) = number("SLUICE_SEED") {
        return run(seed, true);
    }
    for seed in 0..number("SLUICE_HISTORIES").unwrap_or(10_000) {
        run(seed, false);
    }
}

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
