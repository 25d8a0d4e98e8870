//! What do dashboards see of the worker?
//!
//! One [`Metrics`] a lane, made once and shared; its methods are what happened, in the words of the design. Label values
//! come from enumerations, never from requests: but for the ids of the open batches, which are few.

mod catalogue;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Gauge, Histogram, IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder,
    process_collector::ProcessCollector,
};

use crate::core::gate::Reason;
use crate::core::{Found, Outcome, VerdictKind};
use crate::message::status::{BatchCounts, WindowCounts};
use catalogue::Catalogue;

const STATES: [&str; 5] = ["ready", "waiting", "in_flight", "settling", "unpublished"];
const QUEUES: [&str; 2] = ["requests", "dead-letters"];
const BATCH_STATES: [&str; 3] = ["open", "done", "failed"];
/// More open batches than this are not told apart.
const BATCHES: usize = 20;

/// An answer of the API takes from milliseconds to `api.timeout`.
const API_SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Enqueued to settled: seconds for an urgent one, a night for a plan. Few, for there is a series for each and outcome.
const WAY_SECONDS: [f64; 9] =
    [1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0, 259_200.0];
const CONFIRM_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

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
    /// When the worker's loop turned last, in milliseconds since `made`.
    turned: AtomicU64,
    made: Instant,
}

#[derive(Debug)]
struct Series {
    requests: [IntCounter; Outcome::ALL.len()],
    request_seconds: [Histogram; Outcome::ALL.len()],
    attempts: [IntCounter; VerdictKind::ALL.len()],
    attempt_seconds: Histogram,
    window: [IntGauge; STATES.len()],
    window_bytes: IntGauge,
    spill_failures: IntCounter,
    oldest_held: Gauge,
    queues: [Gauge; QUEUES.len()],
    gate_open: IntGauge,
    gate_shut: [Counter; Reason::ALL.len()],
    gate_rate: Gauge,
    gate_limit: Gauge,
    running: IntGauge,
    look_ups: [IntCounter; Found::ALL.len()],
    redeliveries: IntCounter,
    confirm_seconds: Histogram,
    session: SessionSeries,
    token_expiry: Gauge,
    batches: IntGaugeVec,
    loop_age: Gauge,
}

#[derive(Debug)]
struct SessionSeries {
    connected: IntGauge,
    active: IntGauge,
    others: IntGauge,
    short: IntGauge,
}

impl SessionSeries {
    fn register(c: &mut Catalogue) -> Result<Self, prometheus::Error> {
        Ok(Self {
            connected: c.int_gauge(
                "sluice_broker_connected",
                "1 while there is a session with the broker.",
            )?,
            active: c.int_gauge(
                "sluice_consumer_active",
                "1 while this worker is the active one, 0 as a standby.",
            )?,
            others: c.int_gauge(
                "sluice_other_consumers",
                "Consumers of the request queue that are none of Sluicegate's active worker: they take its requests, or are going to.",
            )?,
            short: c.int_gauge(
                "sluice_short_sessions",
                "Sessions in a row that have ended before requests in doubt could be looked up a second time; 0 once one has lasted.",
            )?,
        })
    }
}

impl Series {
    fn register(c: &mut Catalogue) -> Result<Self, prometheus::Error> {
        let outcomes = ("outcome", Outcome::ALL.map(Outcome::as_str));
        Ok(Self {
            requests: c.int_counters(
                "sluice_requests_total",
                "Requests settled, by how they ended.",
                outcomes,
            )?,
            request_seconds: c.histograms(
                "sluice_request_duration_seconds",
                "From enqueued to settled.",
                outcomes,
                &WAY_SECONDS,
            )?,
            attempts: c.int_counters(
                "sluice_attempts_total",
                "POSTs to the API, by what the answer showed.",
                ("verdict", VerdictKind::ALL.map(VerdictKind::as_str)),
            )?,
            attempt_seconds: c.histogram(
                "sluice_attempt_duration_seconds",
                "From the start of a POST to the end of its answer.",
                &API_SECONDS,
            )?,
            window: c.int_gauges(
                "sluice_window_requests",
                "Requests held, by state; `unpublished`: ended, and the broker refuses the dead letter or the result.",
                ("state", STATES),
            )?,
            window_bytes: c.int_gauge(
                "sluice_window_bytes",
                "Bodies held, in memory and in the spill file.",
            )?,
            spill_failures: c.int_counter(
                "sluice_spill_failures_total",
                "Bodies that the spill file did not take: the disk is full, and the window shrinks.",
            )?,
            oldest_held: c.gauge(
                "sluice_oldest_held_seconds",
                "How long the oldest delivery has been held; window.max_hold is its bound.",
            )?,
            queues: c.gauges(
                "sluice_queue_messages",
                "Messages ready in a queue, looked at every 5 s by the active worker; NaN while that cannot be known.",
                ("queue", QUEUES),
            )?,
            gate_open: c.int_gauge(
                "sluice_gate_open",
                "1 if the next request may go, or waits for company or for its turn in the rate.",
            )?,
            gate_shut: c.counters(
                "sluice_gate_shut_seconds_total",
                "How long the gate was shut while requests were ready, by reason.",
                ("reason", Reason::ALL.map(Reason::as_str)),
            )?,
            gate_rate: c.gauge(
                "sluice_gate_rate_per_second",
                "Calls to the API, averaged over the last minute.",
            )?,
            gate_limit: c.gauge(
                "sluice_gate_limit_per_second",
                "The tightest limit as it holds now, lowered by 429s; +Inf without limits.",
            )?,
            running: c.int_gauge(
                "sluice_running_migrations",
                "Migrations running in the account, as last looked.",
            )?,
            look_ups: c.int_counters(
                "sluice_look_ups_total",
                "Look-ups, by what they found.",
                ("found", Found::ALL.map(Found::as_str)),
            )?,
            redeliveries: c.int_counter(
                "sluice_redeliveries_total",
                "Deliveries that the broker had given out before.",
            )?,
            confirm_seconds: c.histogram(
                "sluice_confirm_duration_seconds",
                "From a result's publish to the broker's confirm.",
                &CONFIRM_SECONDS,
            )?,
            session: SessionSeries::register(c)?,
            token_expiry: c.gauge(
                "sluice_token_expiry_timestamp_seconds",
                "When the API token ends; 0 if it has no known end.",
            )?,
            batches: c.open_gauges(
                "sluice_batch_requests",
                "Requests of the open batches (the latest 20; of an id that was used again the latest generation), by state.",
                &["batch", "state"],
                ("batch`, `state", &BATCH_STATES),
            )?,
            loop_age: c.gauge(
                "sluice_loop_age_seconds",
                "How long ago the worker's loop turned last. It turns at least every 5 s, whatever it waits for.",
            )?,
        })
    }
}

impl Metrics {
    /// `lane` becomes a label of every series: for a process that runs several.
    ///
    /// # Errors
    /// None but of a bug: a name registered twice.
    pub fn new(lane: Option<&str>) -> Result<Self, prometheus::Error> {
        let label = lane.map(|lane| [("lane".to_owned(), lane.to_owned())].into_iter().collect());
        let mut c = Catalogue::new(Registry::new_custom(None, label)?);
        let series = Series::register(&mut c)?;
        let info = c.open_gauges(
            "sluice_build_info",
            "1, with the version as label.",
            &["version"],
            ("version", &[]),
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        c.document_counter(DROPPED_LINES.0, DROPPED_LINES.1);
        Ok(Self { catalogue: c, series, turned: AtomicU64::new(0), made: Instant::now() })
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

    /// How many bodies the spill file did not take so far.
    pub fn set_spill_failures(&self, so_far: u64) {
        let failures = &self.series.spill_failures;
        failures.inc_by(so_far.saturating_sub(failures.get()));
    }

    /// Messages ready in the request queue and in the dead-letter queue; `None`: not known.
    pub fn set_queues(&self, requests: Option<u64>, dead_letters: Option<u64>) {
        for (gauge, value) in self.series.queues.iter().zip([requests, dead_letters]) {
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
