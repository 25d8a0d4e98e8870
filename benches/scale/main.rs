//! What would a thousand accounts with ten million requests ask of the core? Every account is a core of its own under one
//! virtual clock, each with the default rates, an API that is slow and sometimes unclear, and the promises checked on the
//! way: no sliding window over the quota, every request created, none twice. Prints what it took.
//!
//!   cargo bench --bench scale -- [ACCOUNTS] [REQUESTS OF EACH]     defaults: 1000 10000, some minutes
//!
//! `docs/scale.md` says what follows from it.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

mod account;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use sluicegate::core::Moment;

use account::{Account, Counts};

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let (accounts, each) = match numbers[..] {
        [] => (1_000, 10_000),
        [accounts] => (accounts, 10_000),
        [accounts, each, ..] => (accounts, each),
    };
    let before = resident();
    let began = Instant::now();
    let mut all: Vec<Account> = (0..accounts).map(|number| Account::new(number, each)).collect();
    // Who does something next.
    let mut agenda: BinaryHeap<Reverse<(Moment, usize)>> = BinaryHeap::new();
    agenda.extend((0..accounts).map(|number| Reverse((account::START, number))));
    let (mut turns, mut last, mut most) = (0_u64, account::START, 0.0_f64);
    while let Some(Reverse((now, number))) = agenda.pop() {
        last = now;
        turns += 1;
        if turns.is_multiple_of(1_000_000) {
            most = most.max(resident());
        }
        if let Some(next) = all[number].turn(now) {
            agenda.push(Reverse((next, number)));
        }
    }
    let took = began.elapsed();
    let sum = all.iter().map(Account::finished).fold(Counts::default(), Counts::plus);
    let requests = (accounts * each) as f64;
    println!(
        "{accounts} accounts, {each} requests each, rates 2/s and 60/min, a window of {}",
        account::WINDOW
    );
    println!("virtual time          {:.1} h", (last - account::START).as_secs_f64() / 3600.0);
    println!(
        "submitted             {:.0}/s over all accounts",
        requests / (last - account::START).as_secs_f64()
    );
    println!("POSTs, looks, lists   {}, {}, {}", sum.posts, sum.looks, sum.lists);
    println!("created, twice        {}, {}", sum.created, sum.twice);
    println!(
        "busiest minute        {} calls of 60, busiest second {} of 2",
        sum.busiest_minute, sum.busiest_second
    );
    println!("inversions            {}, looked for at {} of the POSTs", sum.inversions, sum.heeded);
    println!(
        "real time             {:.0} s, {:.2} µs a request, one thread",
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / requests
    );
    println!(
        "memory                {:.0} MiB for {} held at most: {:.0} bytes each, without bodies",
        most - before,
        sum.held,
        (most - before) * 1_048_576.0 / sum.held as f64
    );
    assert_eq!((sum.created, sum.twice, sum.inversions), (accounts * each, 0, 0));
    assert!(sum.busiest_minute <= 60 && sum.busiest_second <= 2, "over the quota");
}

/// MiB resident.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
