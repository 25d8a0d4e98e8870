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
mod lent;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use sluicegate::core::{Request, Settings, gate};
use sluicegate::plan::{Load, Pace, forecast};

use crate::support::form::short_or_full;
use history::{History, epoch};
use sluicegate::core::record::{Compared, Opening, RecordLine, Replayer, StepRecord};
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

fn run(
    seed: u64,
    trace: bool,
    make: fn(&mut SmallRng) -> History,
) -> BTreeMap<&'static str, usize> {
    let _seed = Seed(seed);
    let history = make(&mut SmallRng::seed_from_u64(seed));
    if trace {
        println!("{history:#?}");
    }
    let mut world = World::new(seed, history, trace);
    world.run();
    world.checks.tally
}

/// Two halves, so that two processors share them.
#[test]
fn the_promises_hold_in_thousands_of_random_histories() {
    histories(0);
}

#[test]
fn the_promises_hold_in_thousands_more_of_random_histories() {
    histories(1);
}

/// Promise 8: whatever up to four requests are answered, every time, the others are settled within the bound.
#[test]
fn no_healthy_request_waits_for_what_others_are_answered() {
    if let Some(seed) = number("SLUICE_SEED") {
        run(seed, true, History::poisoned);
        return;
    }
    let mut tally = BTreeMap::new();
    for seed in 0..number("SLUICE_HISTORIES").unwrap_or(short_or_full(2_000, 20_000)) {
        for (what, times) in run(seed, false, History::poisoned) {
            *tally.entry(what).or_insert(0) += times;
        }
    }
    println!("{tally:#?}");
    for what in api::Answer::ALL.map(api::Answer::as_str) {
        let times = tally.get(what).copied().unwrap_or(0);
        assert!(times >= 50, "{what:?} happened {times} times only");
    }
}

/// Every second seed, from `first` on.
fn histories(first: usize) {
    if let Some(seed) = number("SLUICE_SEED") {
        run(seed, true, History::new);
        return;
    }
    let mut tally = BTreeMap::new();
    let count = number("SLUICE_HISTORIES").unwrap_or(short_or_full(4_000, 20_000));
    for seed in (0..count).skip(first).step_by(2) {
        for (what, times) in run(seed, false, History::new) {
            *tally.entry(what).or_insert(0) += times;
        }
    }
    println!("{tally:#?}");
    for what in EXPECTED {
        let times = tally.get(what).copied().unwrap_or(0);
        assert!(times as u64 >= count / 800, "{what:?} happened {times} times only");
    }
}

/// What the histories must be full of, for their silence to mean something.
const EXPECTED: [&str; 42] = [
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
    "a pause of the broker after a start",
    "a worker cut off",
    "a delivery requeued",
    "an order",
    "an order about what is here",
    "a request parked",
    "a request fetched back",
    "a fetch that failed",
    "a copy that the broker refuses",
    "calls lent to another process",
    "a lent call",
    "calls not lent",
    "a worker that finds calls lent",
    "a copy whose publisher has lost its session",
    "a blocked result",
    "a dead letter refused by the broker",
    "a settlement whose session was lost",
    "an acknowledgement of what was settled before",
    "a fresh token",
    "a page of all tasks",
    "a task of its own read",
    "a replay of what was never sent",
    "nothing",
    "failed",
    "created",
    "exists",
    "conflict",
    "rejected",
    "exhausted",
    "expired",
    "unknown",
    "cancelled",
];

/// What each core of a history has written down.
fn record(seed: u64, make: fn(&mut SmallRng) -> History) -> Vec<Vec<u8>> {
    let _seed = Seed(seed);
    let history = make(&mut SmallRng::seed_from_u64(seed));
    let mut world = World::new(seed, history, false);
    let recordings = world.record();
    world.run();
    let recordings = recordings.lock().unwrap();
    recordings.clone()
}

fn lines(recording: &[u8]) -> Vec<RecordLine> {
    let lines = recording.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Runs a core over the lines; the first step that it decides otherwise, and what it decides.
fn replay(lines: Vec<RecordLine>) -> Option<(StepRecord, StepRecord)> {
    let mut lines = lines.into_iter();
    let Some(RecordLine::Begin(begin)) = lines.next() else { panic!("it begins with its core") };
    let mut replay = Replayer::begin(&begin);
    for line in lines {
        let recorded = match &line {
            RecordLine::Reply(said) => Some(said),
            _ => None,
        };
        let said = replay.reply(recorded);
        assert!(matches!(said, Compared::Told(None)), "{said:?}");
        match line {
            RecordLine::In(line) => match replay.take(*line) {
                Compared::Told(None) => {}
                other => panic!("{other:?}"),
            },
            RecordLine::Reply(_) => {}
            RecordLine::Step(line) => {
                if let Compared::Otherwise { ours, .. } = replay.step(&line) {
                    return Some((line.what, ours));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    None
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let mut before = Vec::new();
    for seed in 0..short_or_full(40, 400) {
        let recordings = record(seed, History::new);
        assert_eq!(recordings, record(seed, History::new), "history {seed}");
        assert_ne!(recordings, before);
        before = recordings;
    }
}

/// Of all promises of a recording the one that it is made for.
#[test]
fn what_was_recorded_of_a_history_is_replayed_to_its_last_step() {
    for seed in 0..number("SLUICE_HISTORIES").unwrap_or(short_or_full(300, 3_000)) {
        for make in [History::new, History::poisoned] {
            for recording in record(seed, make) {
                let differs = replay(lines(&recording));
                assert_eq!(differs, None, "history {seed}");
            }
        }
    }
}

#[test]
fn a_core_of_another_seed_or_setting_decides_otherwise() {
    let changed = |change: fn(&mut Opening)| {
        let histories = (0..40).flat_map(|seed| record(seed, History::new));
        let differs = |recording: &Vec<u8>| {
            let mut lines = lines(recording);
            let RecordLine::Begin(begin) = &mut lines[0] else { panic!("it begins with its core") };
            change(begin);
            replay_loosely(lines)
        };
        histories.filter(differs).count()
    };
    assert!(changed(|begin| begin.settings.seed ^= 1) > 0);
    assert!(changed(|begin| begin.settings.look_again *= 2) > 0);
    assert_eq!(changed(|begin| begin.program = "another".into()), 0);
}

/// Whether a core decides otherwise somewhere; behind that nothing fits any more, and nothing may panic.
fn replay_loosely(lines: Vec<RecordLine>) -> bool {
    let mut lines = lines.into_iter();
    let Some(RecordLine::Begin(begin)) = lines.next() else { panic!("it begins with its core") };
    let mut replay = Replayer::begin(&begin);
    let mut differs = false;
    for line in lines {
        differs |= match line {
            RecordLine::In(line) => !matches!(replay.take(*line), Compared::Told(None)),
            RecordLine::Reply(said) => !matches!(replay.reply(Some(&said)), Compared::Told(None)),
            RecordLine::Step(line) => matches!(replay.step(&line), Compared::Otherwise { .. }),
            other => panic!("{other:?}"),
        };
    }
    differs
}

#[test]
fn a_thousand_waiting_requests_go_in_order_and_within_the_rate() {
    let gate = gate::GateSettings {
        rates: vec!["200/s".parse().unwrap(), "9000/min".parse().unwrap()],
        max_in_flight: 64,
        ..gate::GateSettings::default()
    };
    let settings = Settings { gate, ..Settings::default() };
    let random = &mut SmallRng::seed_from_u64(1);
    let history = History::calm(random, 1_000, settings);
    let mut world = World::new(1, history, false);
    world.run();
    let pace = world.checks.pace();
    assert!((0.98 * 150.0..150.5).contains(&pace), "{pace} calls a second");
}

/// What really happened in virtual time, and what the forecast said before, in seconds.
fn forecast_and_reality(settings: Settings, requests: usize, lasts: Option<u64>) -> (f64, f64) {
    let lasts = lasts.map(Duration::from_secs);
    let calm = History::calm(&mut SmallRng::seed_from_u64(7), requests, settings);
    let history = History { lasts, ..calm };
    let pace = Pace {
        starts_now: true,
        // What a POST takes there in the mean.
        answer: Duration::from_millis(225),
        migration: lasts.unwrap_or_default(),
        ..Pace::new(history.settings.clone())
    };
    let load = |request: &Request| Load { not_before: None, starts: request.starts };
    let loads: Vec<_> = history.requests.iter().map(load).collect();
    let told = forecast(&pace, 0, &loads, epoch()).unwrap().seconds;
    let mut world = World::new(7, history, false);
    let begun = world.now;
    world.run();
    (told, (world.now - begun).as_secs_f64())
}

#[test]
fn a_forecast_comes_true_within_a_twentieth() {
    let gate = |rates: &[&str]| gate::GateSettings {
        rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
        ..gate::GateSettings::default()
    };
    let bound = |gate, max_running| Settings { gate, max_running, ..Settings::default() };
    let cases = [
        ("a rate", bound(gate(&["5/s"]), 0), 300, None),
        ("two rates", bound(gate(&["2/s", "60/min"]), 0), 300, None),
        ("short migrations", bound(gate(&["5/s"]), 5), 60, Some(12)),
        ("migrations", bound(gate(&["2/s", "60/min"]), 10), 100, Some(60)),
        ("a rate that counts share", bound(gate(&["1/s"]), 20), 200, Some(90)),
        ("long migrations", bound(gate(&["2/s"]), 100), 250, Some(3_600)),
    ];
    for (what, settings, requests, lasts) in cases {
        let (told, took) = forecast_and_reality(settings, requests, lasts);
        println!("bound by {what}: forecast {told:.1} s, took {took:.1} s");
        let off = (told / took - 1.0).abs();
        assert!(off <= 0.05, "bound by {what}: forecast {told:.1} s, took {took:.1} s");
    }
}
