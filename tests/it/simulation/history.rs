//! What one history is made of: settings, requests and troubles, all from its seed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sluicegate::core::{Rare, Rate, Request, Run, Settings, Shared, Sparse, gate, retry};

use super::api::{Outage, Poison};

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a trouble of its own")]
pub(crate) struct History {
    pub(crate) settings: Settings,
    pub(crate) requests: Vec<Request>,
    /// Two requests for one source server are among them.
    pub(crate) copies: bool,
    /// Calls may fail.
    pub(crate) rough: bool,
    pub(crate) restarts: usize,
    pub(crate) workers: usize,
    pub(crate) lost_sessions: usize,
    /// Sessions that the broker ends, the worker not knowing it for at most `overlap`.
    pub(crate) cuts: usize,
    pub(crate) overlap: Duration,
    /// The API applies a `POST` so soon after its start, or never.
    pub(crate) applies_within: Duration,
    /// How long a migration takes; `None`: for ever.
    pub(crate) lasts: Option<Duration>,
    /// They fail at their end.
    pub(crate) fails: bool,
    pub(crate) outages: Vec<Outage>,
    /// Faults that belong to a request: it is answered so, every time. By its place among `requests`.
    pub(crate) poisons: BTreeMap<usize, Poison>,
    /// The list of all tasks fails, every time.
    pub(crate) list_fails: bool,
    /// The broker is killed, with classic queues.
    pub(crate) kills: usize,
    pub(crate) blocks: usize,
    /// Times in which the queue of dead letters is full.
    pub(crate) fulls: usize,
    pub(crate) pauses: usize,
    /// What planners order of requests that wait.
    pub(crate) orders: usize,
    /// How often another process asks for calls.
    pub(crate) leases: usize,
    /// Dead letters may be replayed, with what they say of having been sent.
    pub(crate) replays: bool,
    pub(crate) rate_changes: usize,
    /// How long there are troubles.
    pub(crate) troubles: Duration,
}

const EPOCH: i64 = 1_795_000_000;

pub(crate) fn epoch() -> Timestamp {
    Timestamp::from_second(EPOCH).unwrap()
}

pub(crate) fn rates(random: &mut SmallRng) -> Vec<Rate> {
    let choices: [&[&str]; 6] =
        [&[], &["2/s", "60/min"], &["10/s"], &["100/s"], &["5/2s", "20/min"], &["1/s"]];
    choices[random.random_range(0..choices.len())]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect()
}

fn some(random: &mut SmallRng, most: usize) -> usize {
    if random.random_ratio(1, 2) { 0 } else { random.random_range(1..=most) }
}

impl History {
    pub(crate) fn new(random: &mut SmallRng) -> Self {
        let count = random.random_range(1..=14);
        let sources = random.random_range(1..=count);
        let requests = (0..count).map(|index| request(random, index, sources)).collect::<Vec<_>>();
        let troubles = Duration::from_secs(*[5, 60, 600].get(random.random_range(0..3)).unwrap());
        let workers = random.random_range(1..=2);
        let cuts = if workers == 2 { some(random, 2) } else { 0 };
        let settings = settings(random);
        let overlap = Duration::from_secs(if cuts > 0 { 20 } else { 0 });
        let mut history = Self {
            requests,
            copies: sources < count,
            rough: random.random_ratio(4, 5),
            restarts: some(random, 2),
            workers,
            lost_sessions: some(random, 3),
            cuts,
            overlap,
            // The assumptions that `docs/assumptions.md` names, to the last millisecond.
            applies_within: settings.look_again.saturating_sub(overlap + Duration::from_millis(1)),
            lasts: None,
            fails: false,
            outages: outages(random),
            poisons: BTreeMap::new(),
            list_fails: false,
            kills: some(random, 1),
            blocks: some(random, 1),
            fulls: some(random, 1),
            pauses: some(random, 1),
            orders: some(random, 8),
            // From a chance of its own, so that what is known of a seed stays true.
            leases: some(&mut SmallRng::seed_from_u64(settings.seed), 6),
            replays: random.random_ratio(1, 2),
            rate_changes: some(random, 1),
            troubles,
            settings,
        };
        // A publisher that heard of no confirm has published one again. Another worker would have to hear of the first one
        // first, which it does: what comes back stands before what is new.
        if !history.forgets() && random.random_ratio(1, 2) {
            let of = random.random_range(0..count);
            let mut rare = (*history.requests[of].rare).clone();
            let deadline = epoch() + SignedDuration::from_millis(random.random_range(0..90_000));
            rare.deadline = rare.deadline.or(random.random_ratio(1, 2).then_some(deadline));
            history.requests[of].rare = Sparse::new(rare);
            history.requests.push(history.requests[of].clone());
            history.copies = true;
        }
        // A copy of a request whose task has ended, at a worker that does not know it, is a new request.
        if !(history.copies && history.forgets()) && random.random_ratio(1, 2) {
            history.lasts = Some(Duration::from_secs(random.random_range(10..100)));
            history.settings.max_running = random.random_range(0..4);
            history.fails = random.random_ratio(1, 2);
        }
        history
    }

    /// The same with faults that belong to requests: up to four of them are answered the same, every time, and the list of
    /// all tasks may fail for good.
    pub(crate) fn poisoned(random: &mut SmallRng) -> Self {
        let mut history = Self::new(random);
        let count = history.requests.len();
        for index in 0..count {
            // Each has a source server and a name of its own: what a healthy copy of one that never ends may do is another
            // question.
            let plain = request(random, index, usize::MAX);
            let rare = Rare { deadline: None, ..(*plain.rare).clone() };
            history.requests[index] = Request { rare: Sparse::new(rare), ..plain };
        }
        history.copies = false;
        history.settings.max_running = 0;
        history.settings.look_up = true;
        // What waits beyond the window is another question.
        history.settings.window = 64;
        history.list_fails = random.random_ratio(1, 4);
        for _ in 0..random.random_range(1..=4.min(count)) {
            let index = random.random_range(0..count);
            history.poisons.insert(index, Poison::new(random));
            // The worst place: before all others.
            if random.random_ratio(1, 2) {
                history.requests[index].priority = 60_000;
            }
        }
        history
    }

    /// No healthy request may wait longer than this, once nothing but what belongs to requests is wrong: the time that all
    /// need at the rate, and what the poisoned ones may cost.
    pub(crate) fn bound(&self) -> Duration {
        let count = u32::try_from(self.requests.len()).unwrap();
        let pace = self.settings.gate.rates.iter().map(|rate| rate.window() / rate.count()).max();
        // Two look-ups, a list and a POST, and again after a failure of the time before.
        let calls = pace.unwrap_or_default() * count * 8;
        let poisoned = u32::try_from(self.poisons.len()).unwrap();
        let gate = &self.settings.gate;
        let probes = gate.probe * 16 * gate.halt_after * poisoned;
        // A start's linger, a delay of `retry.max` from before, and what was to wait from the beginning.
        let begun = Duration::from_secs(30) + gate.retry.max + Duration::from_secs(90);
        calls + probes + self.settings.look_again * 2 + begun
    }

    /// A worker may not know what another, or an earlier one, has sent.
    pub(crate) fn forgets(&self) -> bool {
        self.restarts > 0 || self.workers > 1
    }

    /// No trouble: many requests, all waiting at the start.
    pub(crate) fn calm(random: &mut SmallRng, count: usize, settings: Settings) -> Self {
        let requests = (0..count)
            .map(|index| {
                let plain = request(random, index, usize::MAX);
                Request { rare: Sparse::default(), ..plain }
            })
            .collect();
        Self {
            settings,
            requests,
            copies: false,
            rough: false,
            restarts: 0,
            workers: 1,
            lost_sessions: 0,
            cuts: 0,
            overlap: Duration::ZERO,
            applies_within: Duration::ZERO,
            lasts: None,
            fails: false,
            outages: Vec::new(),
            poisons: BTreeMap::new(),
            list_fails: false,
            kills: 0,
            blocks: 0,
            fulls: 0,
            pauses: 0,
            orders: 0,
            leases: 0,
            replays: false,
            rate_changes: 0,
            troubles: Duration::ZERO,
        }
    }
}

fn outages(random: &mut SmallRng) -> Vec<Outage> {
    let kinds = [Outage::Unreachable, Outage::Token, Outage::Account, Outage::Throttled];
    (0..some(random, 2)).map(|_| kinds[random.random_range(0..kinds.len())]).collect()
}

fn settings(random: &mut SmallRng) -> Settings {
    let retry = retry::RetrySettings {
        initial: Duration::from_millis(random.random_range(1..2_000)),
        attempts: random.random_range(1..9),
        ..retry::RetrySettings::default()
    };
    let gate = gate::GateSettings {
        rates: rates(random),
        max_in_flight: *[1, 2, 16].get(random.random_range(0..3)).unwrap(),
        retry,
        ..gate::GateSettings::default()
    };
    Settings {
        window: *[1, 4, 64].get(random.random_range(0..3)).unwrap(),
        parks: !random.random_ratio(1, 4),
        max_hold: Duration::from_secs(*[20, 90, 1200].get(random.random_range(0..3)).unwrap()),
        look_up: !random.random_ratio(1, 12),
        gate,
        seed: random.random(),
        ..Settings::default()
    }
}

fn request(random: &mut SmallRng, index: usize, sources: usize) -> Request {
    let source = index % sources;
    let millis =
        |random: &mut SmallRng, range| SignedDuration::from_millis(random.random_range(range));
    let enqueued_at = (!random.random_ratio(1, 10)).then(|| epoch() - millis(random, 0..60_000));
    let id = format!("m{index}");
    let replay = u32::from(random.random_ratio(1, 15));
    // A copy has the name of the first request for its source server, or, rarely, one of its own.
    let name = if random.random_ratio(1, 10) { index } else { source };
    Request {
        run: Run::of(&id, &[u8::try_from(source % 256).unwrap(); 32], enqueued_at, replay),
        id: id.into(),
        shared: Shared { batch: Some("batch".into()), ..Shared::default() }.into(),
        name: format!("n{name}").into(),
        source_server_id: format!("s{source}").into(),
        target_vm_id: random.random_ratio(1, 3).then(|| format!("v{source}").into()),
        priority: random.random_range(0..4) * 1_000,
        enqueued_at: enqueued_at.into(),
        rare: Sparse::new(Rare {
            not_before: random.random_ratio(1, 12).then(|| epoch() + millis(random, 0..90_000)),
            deadline: random.random_ratio(1, 12).then(|| epoch() + millis(random, 0..90_000)),
            replay,
            ..Rare::default()
        }),
        starts: !random.random_ratio(1, 8),
        bytes: 1_000,
        ..Request::default()
    }
}
