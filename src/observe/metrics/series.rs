//! Which series does a lane have, under which names, and with which help?

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::catalogue::Catalogue;
use crate::core::gate::Reason;
use crate::core::{Found, Outcome, VerdictKind};

pub(super) const STATES: [&str; 5] = ["ready", "waiting", "in_flight", "settling", "unpublished"];
pub(super) const QUEUES: [&str; 2] = ["requests", "dead-letters"];
/// Requests by the priority that they were enqueued with: none (absent is 1), raised, and those for which all else waits.
pub(super) const CLASSES: [&str; 3] = ["normal", "raised", "urgent"];
pub(super) const BATCH_STATES: [&str; 3] = ["open", "done", "failed"];

/// An answer of the API takes from milliseconds to `api.timeout`.
const API_SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Enqueued to settled: seconds for an urgent one, a night for a plan. Few, for there is a series for each and outcome.
const WAY_SECONDS: [f64; 9] =
    [1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0, 259_200.0];
const CONFIRM_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

#[derive(Debug)]
pub(super) struct Series {
    pub(super) requests: [IntCounter; Outcome::ALL.len()],
    pub(super) request_seconds: [Histogram; Outcome::ALL.len()],
    pub(super) attempts: [IntCounter; VerdictKind::ALL.len()],
    pub(super) attempt_seconds: Histogram,
    pub(super) window: [IntGauge; STATES.len()],
    pub(super) window_bytes: IntGauge,
    pub(super) spill_failures: IntCounter,
    pub(super) oldest_held: Gauge,
    pub(super) backlog: BacklogSeries,
    pub(super) gate_open: IntGauge,
    pub(super) gate_shut: [Counter; Reason::ALL.len()],
    pub(super) gate_rate: Gauge,
    pub(super) gate_limit: Gauge,
    pub(super) running: IntGauge,
    pub(super) force: InForce,
    pub(super) dead_letters: IntCounterVec,
    pub(super) look_ups: [IntCounter; Found::ALL.len()],
    pub(super) redeliveries: IntCounter,
    pub(super) confirm_seconds: Histogram,
    pub(super) session: SessionSeries,
    pub(super) token_expiry: Gauge,
    pub(super) batches: IntGaugeVec,
    pub(super) loop_age: Gauge,
}

#[derive(Debug)]
pub(super) struct SessionSeries {
    pub(super) connected: IntGauge,
    pub(super) active: IntGauge,
    pub(super) others: IntGauge,
    pub(super) foreign: IntGauge,
    pub(super) short: IntGauge,
}

/// What holds just now, whoever set it.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) window: IntGauge,
    pub(super) in_flight: IntGauge,
    pub(super) running: IntGauge,
    pub(super) paused: IntGauge,
    pub(super) overridden: IntGauge,
}

impl InForce {
    fn register(c: &mut Catalogue) -> Result<Self, prometheus::Error> {
        Ok(Self {
            window: c.int_gauge(
                "sluice_window_size",
                "Requests that are held at most: window.size as it holds now.",
            )?,
            in_flight: c.int_gauge(
                "sluice_max_in_flight",
                "Requests in flight at most: limits.max_in_flight as it holds now.",
            )?,
            running: c.int_gauge(
                "sluice_max_running",
                "Migrations that may run in the account: limits.max_running as it holds now; 0: not watched.",
            )?,
            paused: c.int_gauge("sluice_paused", "1 while an operator has paused the gate.")?,
            overridden: c.int_gauge(
                "sluice_rates_overridden",
                "1 while an operator's rates hold in place of limits.rates.",
            )?,
        })
    }
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
            foreign: c.int_gauge(
                "sluice_foreign_active_consumers",
                "1 while something that is no worker consumes the queue that says who is active, so that no worker can be it; a standby sees that.",
            )?,
            short: c.int_gauge(
                "sluice_short_sessions",
                "Sessions in a row that have ended before requests in doubt could be looked up a second time; 0 once one has lasted.",
            )?,
        })
    }
}

impl Series {
    pub(super) fn register(c: &mut Catalogue) -> Result<Self, prometheus::Error> {
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
            backlog: BacklogSeries::register(c)?,
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
            force: InForce::register(c)?,
            dead_letters: c.open_counters(
                "sluice_dead_letters_total",
                "Requests that became dead letters, by error code of the API (20 of them, the rest is `other`); `none`: no answer of the API ended them.",
                "code",
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

/// What waits, and for how long.
#[derive(Debug)]
pub(super) struct BacklogSeries {
    pub(super) oldest_enqueued: [Gauge; CLASSES.len()],
    pub(super) drain: Gauge,
    pub(super) queues: [Gauge; QUEUES.len()],
}

impl BacklogSeries {
    fn register(c: &mut Catalogue) -> Result<Self, prometheus::Error> {
        Ok(Self {
            oldest_enqueued: c.gauges(
                "sluice_oldest_enqueued_seconds",
                "How long ago the oldest request held was enqueued that waits for its turn or for a retry, by class of priority: normal (0 and 1), raised (2 to 999), urgent (1000 and more).",
                ("class", CLASSES),
            )?,
            drain: c.gauge(
                "sluice_drain_seconds",
                "How long all that waits, in the window, parked and in the queue, takes by the forecast that `sluice gate status` tells; +Inf while somebody has to end what holds it (a pause, a halt, a hold), NaN while that cannot be known.",
            )?,
            queues: c.gauges(
                "sluice_queue_messages",
                "Messages ready in a queue, looked at every 5 s by the active worker; NaN while that cannot be known, and of a standby.",
                ("queue", QUEUES),
            )?,
        })
    }
}
