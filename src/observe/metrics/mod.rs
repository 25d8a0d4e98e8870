//! What do dashboards see of the worker?
//!
//! One [`Metrics`] a lane, made once and shared; its methods are what happened, in the words of the design. Label values
//! come from enumerations, never from requests: but for the ids of the open batches, which are few.

mod catalogue;
mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry, TextEncoder, process_collector::ProcessCollector};

use crate::core::gate::Reason;
use crate::core::{Found, Outcome, VerdictKind};
use crate::message::status::{BatchCounts, WindowCounts};
use catalogue::Catalogue;
use series::{BATCH_STATES, CLASSES, Series};

/// From these priorities on.
const RAISED: u16 = 2;
const URGENT: u16 = 1000;
/// More error codes than this are not told apart.
const CODES: usize = 20;
/// What a dead letter is counted under that has no code of the API, and one whose code is beyond the bound or is none.
const NO_CODE: &str = "none";
const OTHER_CODE: &str = "other";
/// More open batches than this are not told apart.
const BATCHES: usize = 20;

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls to the API.
    pub calls: u64,
    /// Requests that ended well, and those that became dead letters.
    pub well: u64,
    pub failed: u64,
}

/// The metrics of one lane.
#[derive(Debug)]
pub struct Metrics {
    catalogue: Catalogue,
    series: Series,
    /// The error codes that dead letters were counted under.
    codes: Mutex<BTreeSet<String>>,
    /// When the worker's loop turned last, in milliseconds since `made`.
    turned: AtomicU64,
    made: Instant,
}

impl Metrics {
    /// `lane` becomes a label of every series, of how many lanes ever: one process does not know what others are scraped.
    ///
    /// # Errors
    /// None but of a bug: a name registered twice.
    pub fn new(lane: &str) -> Result<Self, prometheus::Error> {
        let label = [("lane".to_owned(), lane.to_owned())].into_iter().collect();
        let mut c = Catalogue::new(Registry::new_custom(None, Some(label))?);
        let series = Series::register(&mut c)?;
        for code in [NO_CODE, OTHER_CODE] {
            series.dead_letters.with_label_values(&[code]);
        }
        let info = c.open_gauges(
            "sluice_build_info",
            "1, with the version as label.",
            &["version"],
            ("version", &[]),
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        c.document_counter(DROPPED_LINES.0, DROPPED_LINES.1);
        let codes = Mutex::default();
        Ok(Self { catalogue: c, series, codes, turned: AtomicU64::new(0), made: Instant::now() })
    }

    /// The worker's loop has come by.
    pub fn turned(&self) {
        let millis = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned.store(millis, Ordering::Relaxed);
    }

    /// How long ago the worker's loop has come by the last time; before its first time, how old this is.
    pub fn loop_age(&self) -> Duration {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.made.elapsed().saturating_sub(turned)
    }

    /// As if it had been made then, for those who want to see what becomes of a loop that does not turn.
    #[must_use]
    pub fn made_at(self, made: Instant) -> Self {
        Self { made, ..self }
    }

    pub fn totals(&self) -> Totals {
        let calls = self.series.attempts.iter().chain(&self.series.look_ups);
        let mut totals = Totals { calls: calls.map(IntCounter::get).sum(), ..Totals::default() };
        for (outcome, counter) in Outcome::ALL.iter().zip(&self.series.requests) {
            if outcome.is_success() {
                totals.well += counter.get();
            } else if outcome.is_dead_letter() {
                totals.failed += counter.get();
            }
        }
        totals
    }

    /// A request was settled. `age`: since it was enqueued, where that is known.
    pub fn settled(&self, outcome: Outcome, age: Option<Duration>) {
        let i = outcome.index();
        self.series.requests[i].inc();
        if let Some(age) = age {
            self.series.request_seconds[i].observe(age.as_secs_f64());
        }
    }

    /// A request became a dead letter. The code is what the API said, or what somebody said in its name: it is a label
    /// only if it looks like one, and the first few are told apart.
    pub fn dead_lettered(&self, code: Option<&str>) {
        let code = match code {
            None => NO_CODE,
            Some(code) if self.is_known(code) => code,
            Some(_) => OTHER_CODE,
        };
        self.series.dead_letters.with_label_values(&[code]).inc();
    }

    fn is_known(&self, code: &str) -> bool {
        let is_code = code.split_once('.').is_some_and(|(service, number)| {
            (1..=10).contains(&service.len())
                && service.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && (1..=8).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        // Whoever panicked here left a set that is right.
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        is_code && (codes.contains(code) || codes.len() < CODES && codes.insert(code.to_owned()))
    }

    /// A POST was answered, or not.
    pub fn attempted(&self, verdict: VerdictKind, took: Duration) {
        self.series.attempts[verdict.index()].inc();
        self.series.attempt_seconds.observe(took.as_secs_f64());
    }

    /// A look-up, or a page of a list, has ended.
    pub fn looked_up(&self, found: Found) {
        self.series.look_ups[found.index()].inc();
    }

    pub fn redelivered(&self) {
        self.series.redeliveries.inc();
    }

    pub fn confirmed(&self, took: Duration) {
        self.series.confirm_seconds.observe(took.as_secs_f64());
    }

    pub fn set_window(&self, counts: WindowCounts, bytes: u64, oldest: Option<Duration>) {
        let WindowCounts { ready, waiting, in_flight, settling, unpublished } = counts;
        let values = [ready, waiting, in_flight, settling, unpublished];
        for (gauge, value) in self.series.window.iter().zip(values) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.series.window_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.series.oldest_held.set(oldest.unwrap_or_default().as_secs_f64());
    }

    /// When the oldest request of each priority was enqueued: those that wait, and not for a time of their planner's.
    pub fn set_oldest_enqueued(
        &self,
        now: jiff::Timestamp,
        requests: impl Iterator<Item = (u16, jiff::Timestamp)>,
    ) {
        let mut oldest = [now; CLASSES.len()];
        for (priority, at) in requests {
            let class = usize::from(priority >= RAISED) + usize::from(priority >= URGENT);
            oldest[class] = oldest[class].min(at);
        }
        for (gauge, at) in self.series.backlog.oldest_enqueued.iter().zip(oldest) {
            gauge.set(now.duration_since(at).as_secs_f64());
        }
    }

    /// How long all that waits will take; infinite while nothing goes, `None`: not known.
    pub fn set_drain(&self, seconds: Option<f64>) {
        self.series.backlog.drain.set(seconds.unwrap_or(f64::NAN));
    }

    /// The caps that hold: of the window, of requests in flight, of running migrations (0: none).
    pub fn set_caps(&self, window: usize, in_flight: usize, running: usize) {
        let force = &self.series.force;
        let caps = [&force.window, &force.in_flight, &force.running];
        for (gauge, cap) in caps.into_iter().zip([window, in_flight, running]) {
            gauge.set(i64::try_from(cap).unwrap_or(i64::MAX));
        }
    }

    /// What an operator has set that holds now: a pause, and other rates.
    pub fn set_steered(&self, paused: bool, overridden: bool) {
        self.series.force.paused.set(paused.into());
        self.series.force.overridden.set(overridden.into());
    }

    /// Whether something that is no worker consumes the queue that says who is active.
    pub fn set_foreign(&self, foreign: bool) {
        self.series.session.foreign.set(foreign.into());
    }

    /// How many bodies the spill file did not take so far.
    pub fn set_spill_failures(&self, so_far: u64) {
        let failures = &self.series.spill_failures;
        failures.inc_by(so_far.saturating_sub(failures.get()));
    }

    /// Messages ready in the request queue and in the dead-letter queue; `None`: not known.
    pub fn set_queues(&self, requests: Option<u64>, dead_letters: Option<u64>) {
        for (gauge, value) in self.series.backlog.queues.iter().zip([requests, dead_letters]) {
            #[allow(clippy::cast_precision_loss)] // no queue holds 2^53 messages
            gauge.set(value.map_or(f64::NAN, |value| value as f64));
        }
    }

    pub fn set_gate(&self, open: bool) {
        self.series.gate_open.set(open.into());
    }

    /// The gate was shut for `time` more while requests were ready.
    pub fn gate_was_shut(&self, reason: Reason, time: Duration) {
        self.series.gate_shut[reason.index()].inc_by(time.as_secs_f64());
    }

    /// Calls per second: made over the last minute, and allowed now (`None`: no limit).
    pub fn set_rate(&self, made: f64, allowed: Option<f64>) {
        self.series.gate_rate.set(made);
        self.series.gate_limit.set(allowed.unwrap_or(f64::INFINITY));
    }

    pub fn set_running(&self, migrations: u32) {
        self.series.running.set(migrations.into());
    }

    /// `others`: consumers of the request queue beside this worker.
    pub fn set_short_sessions(&self, count: u32) {
        self.series.session.short.set(count.into());
    }

    pub fn set_session(&self, connected: bool, active: bool, others: u32) {
        self.series.session.connected.set(connected.into());
        self.series.session.active.set(active.into());
        self.series.session.others.set(others.into());
    }

    /// `None`: the token has no known end.
    pub fn set_token_expiry(&self, at: Option<jiff::Timestamp>) {
        self.series.token_expiry.set(at.map_or(0.0, |at| at.as_duration().as_secs_f64()));
    }

    /// Replaces the open batches; the latest come first, and only so many are told apart.
    pub fn set_batches(&self, batches: &[BatchCounts]) {
        self.series.batches.reset();
        for batch in batches.iter().take(BATCHES) {
            for (state, value) in BATCH_STATES.iter().zip([batch.open, batch.done, batch.failed]) {
                let gauge = self.series.batches.with_label_values(&[batch.batch.as_str(), state]);
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
    }

    /// The page `docs/metrics.md`.
    pub fn document(&self) -> String {
        catalogue::document(&self.catalogue.entries)
    }
}

/// The log is the process's, so it is counted there, and asked for when somebody looks.
const DROPPED_LINES: (&str, &str) = (
    "sluice_log_lines_dropped_total",
    "Lines of the log that nobody will read: its reader does not keep up, or stderr cannot be written. Of the process, whatever its lanes.",
);

fn dropped_lines() -> Vec<MetricFamily> {
    let counter = IntCounter::new(DROPPED_LINES.0, DROPPED_LINES.1);
    counter.map_or_else(
        |_| Vec::new(),
        |counter| {
            counter.inc_by(crate::observe::log::dropped());
            prometheus::core::Collector::collect(&counter)
        },
    )
}

/// The text of `GET /metrics`: all lanes, and the process's own.
pub fn render<'a>(lanes: impl IntoIterator<Item = &'a Metrics>) -> String {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    let gathered = lanes.into_iter().flat_map(|lane| {
        lane.series.loop_age.set(lane.loop_age().as_secs_f64());
        lane.catalogue.registry.gather()
    });
    for family in gathered {
        match families.get_mut(family.name()) {
            Some(known) => known.mut_metric().extend_from_slice(family.get_metric()),
            None => drop(families.insert(family.name().to_owned(), family)),
        }
    }
    // Not in a registry with labels: the process is one, whatever its lanes.
    let process = prometheus::core::Collector::collect(&ProcessCollector::for_self());
    let process = process.into_iter().chain(dropped_lines());
    families.extend(process.map(|family| (family.name().to_owned(), family)));
    let families: Vec<_> = families.into_values().collect();
    TextEncoder::new().encode_to_string(&families).unwrap_or_else(|e| format!("# {e}\n"))
}
