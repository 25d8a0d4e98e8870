//! What do people see of a running worker? Log lines, metrics and the status snapshot, all from the worker's loop.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::core::gate::Reason;
use crate::core::window::Place;
use crate::core::{Core, Ending, Found, Job, Listing, Moment, Now, Trace, Verdict};
use crate::message::status::WindowCounts;
use crate::message::status::{self, Status};
use crate::observe::batches::Batches;
use crate::observe::calls::Calls;
use crate::observe::drain::{self, Drain};
use crate::observe::metrics::Metrics;
use crate::observe::traces::Traces;
use crate::worker::Call;
use crate::worker::source::Settled;
use crate::worker::{SessionEvent, Watch};

/// The snapshot is renewed at most so often; the loop comes by at least once a second.
const SNAPSHOT: Duration = Duration::from_millis(50);

/// How often it is looked how old the oldest requests are.
const AGES: Duration = Duration::from_secs(5);

/// What stands around the worker's loop and belongs into its status.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub session: status::SessionStatus,
    pub queues: Option<status::Queues>,
    /// Consumers of the request queue beside this worker, where there are any.
    pub others: Option<status::Others>,
    /// Something that is no worker consumes the queue that says who is active.
    pub foreign: bool,
    /// Bytes of the bodies held, in memory and in the temporary file.
    pub window_bytes: u64,
    /// Bodies that the temporary file did not take so far.
    pub spill_failures: u64,
    /// When the API's token ends, where that is known.
    pub token_expiry: Option<Timestamp>,
}

/// Tells metrics, log and status what the worker does.
pub struct Observer<F> {
    metrics: Arc<Metrics>,
    status: watch::Sender<Status>,
    around: F,
    traces: Option<Traces>,
    calls: Calls,
    settled: u64,
    batches: Batches,
    drain: Drain,
    shut: Option<(Reason, Timestamp)>,
    /// The trouble that it was last shut for, and since when it has not been open.
    shut_for: Option<(Reason, Moment)>,
    /// The broker refuses what became of requests, and the log says so.
    is_refused: bool,
    last_state: Moment,
    last_snapshot: Moment,
    /// When it was looked last how old the oldest requests are.
    last_ages: Option<Moment>,
}

impl<F: Fn() -> SourceStatus> Observer<F> {
    /// `around` is asked whenever a snapshot is taken, so it must be cheap.
    pub fn new(metrics: Arc<Metrics>, status: watch::Sender<Status>, around: F) -> Self {
        metrics.turned();
        Self {
            metrics,
            status,
            around,
            traces: None,
            calls: Calls::default(),
            settled: 0,
            batches: Batches::default(),
            drain: Drain::default(),
            shut: None,
            shut_for: None,
            is_refused: false,
            last_state: Moment::START,
            last_snapshot: Moment::START,
            last_ages: None,
        }
    }

    /// Makes spans too.
    #[must_use]
    pub fn tracing(self, traces: Option<Traces>) -> Self {
        Self { traces, ..self }
    }

    fn snapshot<D>(&mut self, core: &Core<D>, now: Now) {
        let around = (self.around)();
        let counts = core.counts();
        let window = WindowCounts {
            ready: counts.ready,
            waiting: counts.waiting,
            in_flight: counts.in_flight,
            settling: counts.settling,
            unpublished: counts.unpublished,
        };
        let oldest = counts.oldest.map(|received| now.at - received);
        self.is_refused &= counts.unpublished + counts.settling > 0;
        let limits = core.gate().limits();
        let (made, allowed) = (self.calls.per_second(now.at), limits.permitted_per_second());
        let gate = self.gate(core, now);
        let running = core.running();
        let taken = running.known().map(|taken| u32::try_from(taken).unwrap_or(u32::MAX));
        self.metrics.set_running(taken.unwrap_or(0));
        self.metrics.set_window(window, around.window_bytes, oldest);
        self.metrics.set_spill_failures(around.spill_failures);
        self.metrics.set_gate(gate.open);
        self.metrics.set_rate(made, allowed);
        self.metrics.set_token_expiry(around.token_expiry);
        let connected = !matches!(around.session, status::SessionStatus::Detached { .. });
        let is_active = matches!(around.session, status::SessionStatus::Active { .. });
        let others = around.others.map_or(0, |others| others.consumers);
        self.metrics.set_session(connected, is_active, others);
        self.metrics.set_short_sessions(core.short_sessions());
        self.metrics.set_foreign(around.foreign);
        // A standby does not look: what it saw when it was the active one is nobody's figure any more.
        let queues = around.queues.filter(|_| is_active);
        self.metrics.set_queues(
            queues.map(|queues| queues.requests),
            queues.map(|queues| queues.dead_letters),
        );
        let forecast = queues.and_then(|_| self.drain.told(gate.reason));
        self.metrics.set_drain(drain::seconds(forecast.as_ref(), gate.reason, now.wall));
        self.steered(core, now);
        let settled = self.settled;
        let batches = self.batches.counts(now.at);
        if batches != self.status.borrow().batches {
            self.metrics.set_batches(&batches);
        }
        self.status.send_modify(|status| {
            status.batches = batches;
            status.at = now.wall;
            status.session = around.session;
            status.gate = gate;
            status.window = window;
            status.window_size = counts.size;
            status.next_wait =
                counts.next_wait.and_then(|at| now.wall.saturating_add(at - now.at).ok());
            status.window_bytes = around.window_bytes;
            status.oldest_held_seconds = oldest.map(|held| held.as_secs_f64());
            status.limits.rates = limits.rates().iter().map(ToString::to_string).collect();
            status.limits.made_per_second = made;
            status.limits.allowed_per_second = allowed;
            status.limits.lowered_since =
                limits.learned().map(|(_, since)| now.wall - (now.at - since));
            status.limits.max_in_flight =
                u32::try_from(core.gate().max_in_flight()).unwrap_or(u32::MAX);
            status.running = running.is_watched().then(|| status::Running {
                migrations: taken,
                most: u32::try_from(running.most()).unwrap_or(u32::MAX),
            });
            status.queues = queues;
            status.parked = counts.parked;
            status.forecast = forecast;
            status.others = around.others;
            status.foreign = around.foreign;
            status.short_sessions = core.short_sessions();
            status.settled = settled;
            status.stopping = matches!(self.shut, Some((Reason::Stopping, _)));
        });
        self.drain.renew(core, &self.status.borrow(), now);
    }

    /// What holds just now, and, now and then, how old the oldest requests are: every one is looked at for that.
    fn steered<D>(&mut self, core: &Core<D>, now: Now) {
        let (gate, settings) = (core.gate(), core.settings());
        let running = core.running();
        let most = if running.is_watched() { running.most() } else { 0 };
        self.metrics.set_caps(settings.window, gate.max_in_flight(), most);
        let overridden = gate.limits().rates() != settings.gate.rates;
        self.metrics.set_steered(gate.paused().is_some(), overridden);
        if self.last_ages.is_some_and(|last| now.at - last < AGES) {
            return;
        }
        self.last_ages = Some(now.at);
        let waits = |place| !matches!(place, Place::Planned | Place::Held);
        let held = core.held().filter(|(_, place)| waits(*place));
        let ages = held
            .filter_map(|(job, _)| Some((job.request.priority, job.request.enqueued_at.get()?)));
        self.metrics.set_oldest_enqueued(now.wall, ages);
    }

    fn gate<D>(&self, core: &Core<D>, now: Now) -> status::Gate {
        let shut = core.shut();
        let until = shut.and_then(|shut| shut.until).map(|until| now.wall + (until - now.at));
        let detail = shut.and_then(|shut| match shut.reason {
            Reason::Halted | Reason::Breaker => {
                core.gate().breaker().opened().map(|open| open.fault.to_string())
            }
            Reason::Throttled => core.gate().throttle().map(ToString::to_string),
            Reason::Paused => {
                core.gate().paused().map(|pause| format!("{}: {}", pause.by, pause.reason))
            }
            _ => None,
        });
        status::Gate {
            open: is_open(shut.map(|shut| shut.reason)),
            reason: shut.map(|shut| shut.reason),
            detail,
            since: self.shut.map(|(_, since)| since),
            until,
        }
    }

    /// Adds the time since the last look at the gate to what it was shut for, and says when that changes.
    fn account<D>(&mut self, core: &Core<D>, reason: Option<Reason>, ready: bool, now: Now) {
        if let Some((was, _)) = self.shut
            && ready
        {
            self.metrics.gate_was_shut(was, now.at - self.last_state);
        }
        self.last_state = now.at;
        if self.shut.map(|(was, _)| was) == reason {
            return;
        }
        self.shut = reason.map(|reason| (reason, now.wall));
        match reason {
            Some(reason) if is_trouble(reason) => {
                let since = self.shut_for.map_or(now.at, |(_, since)| since);
                // A probe that was in between is no news.
                if self.shut_for.replace((reason, since)).map(|(was, _)| was) != Some(reason) {
                    tell_shut(core, reason);
                }
            }
            // A probe, or a token that is fetched for one, is no opening; nor is whatever else holds the next one up.
            Some(reason) if !is_open(Some(reason)) => {
                tracing::debug!(reason = reason.as_str(), "the gate waits");
            }
            reason => {
                if let Some((was, since)) = self.shut_for
                    && core.gate().breaker().opened().is_none()
                {
                    self.shut_for = None;
                    let seconds = (now.at - since).as_secs();
                    tracing::info!(reason = was.as_str(), seconds, "the gate is open again");
                } else {
                    let reason = reason.map(Reason::as_str);
                    tracing::debug!(reason, "the gate is open");
                }
            }
        }
    }
}

impl<D, F: Fn() -> SourceStatus + Send> Watch<D> for Observer<F> {
    fn posted(&mut self, job: &Job<D>, verdict: &Verdict, now: Now, took: Duration) {
        if let Some(traces) = &self.traces {
            traces.called(job, Call::Post, verdict.as_str(), now, took);
        }
        self.calls.count();
        self.metrics.attempted(verdict.kind(), took);
        tracing::debug!(
            request.id = &*job.request.id.get(),
            request.run = %job.request.run.0,
            verdict = verdict.as_str(),
            error_code = verdict.fault().and_then(|fault| fault.error_code.as_deref()),
            took_ms = millis(took),
            trace_id = job.request.trace().map(|trace| display(trace.id())),
            "attempted"
        );
    }

    fn look_answered(
        &mut self,
        job: &Job<D>,
        result: &Result<Listing, Verdict>,
        now: Now,
        took: Duration,
    ) {
        if let Some(traces) = &self.traces {
            let showed = result.as_ref().err().map_or("answered", Verdict::as_str);
            traces.called(job, Call::Look, showed, now, took);
        }
    }

    fn trace(&self, job: &Job<D>, call: Call) -> Option<Trace> {
        match &self.traces {
            Some(traces) => traces.context(job, call),
            None => job.request.trace(),
        }
    }

    fn looked(&mut self, found: Found, took: Duration) {
        self.calls.count();
        self.metrics.looked_up(found);
        tracing::debug!(found = found.as_str(), took_ms = millis(took), "looked");
    }

    fn settled(&mut self, job: &Job<D>, ending: &Ending, how: &Settled, now: Now, _: Duration) {
        match how {
            Settled::Done => {}
            Settled::SessionLost => {
                tracing::debug!(
                    request.id = &*job.request.id.get(),
                    "the session was lost under a settlement; it is made again"
                );
                return;
            }
            Settled::Refused(why) => {
                if std::mem::replace(&mut self.is_refused, true) {
                    tracing::debug!(request.id = &*job.request.id.get(), why, "refused again");
                } else {
                    tracing::warn!(
                        request.id = &*job.request.id.get(),
                        outcome = ending.outcome.as_str(),
                        why,
                        "the broker refuses what became of requests: they wait, and are offered again"
                    );
                }
                return;
            }
        }
        self.settled += 1;
        if let Some(traces) = &self.traces {
            traces.settled(job, ending, now);
        }
        let well = !ending.outcome.is_dead_letter();
        self.batches.settled(now.at, &job.request, job.session, well);
        let age = job
            .request
            .enqueued_at
            .get()
            .and_then(|at| Duration::try_from(now.wall.duration_since(at)).ok());
        self.metrics.settled(ending.outcome, age);
        if !well {
            let fault = ending.fault.as_ref();
            self.metrics.dead_lettered(fault.and_then(|fault| fault.error_code.as_deref()));
        }
        // The one line of each settled request: always this message and these fields (docs/logging.md).
        tracing::info!(
            request.id = &*job.request.id.get(),
            request.run = %job.request.run.0,
            batch = job.request.batch(),
            source_server_id = &*job.request.source_server_id.get(),
            outcome = ending.outcome.as_str(),
            task_id = ending.task_id.as_deref(),
            error_code = ending.fault.as_ref().and_then(|fault| fault.error_code.as_deref()),
            attempts = ending.attempts,
            looks = ending.look_ups,
            age_ms = age.map(millis),
            trace_id = job.request.trace().map(|trace| display(trace.id())),
            "settled"
        );
    }

    fn arrived(&mut self, job: &Job<D>) {
        if job.redelivered {
            self.metrics.redelivered();
        }
        self.batches.arrived(self.last_state, &job.request);
    }

    fn left(&mut self, job: &Job<D>) {
        self.batches.left(&job.request, job.session);
    }

    fn session(&mut self, event: SessionEvent<'_>) {
        match event {
            SessionEvent::Opened(session) => {
                self.batches.session_opened(session);
            }
            // The broker's side knows more of both, and logs them.
            SessionEvent::Lost(_) => self.batches.session_lost(),
            SessionEvent::Blocked(true) => {
                tracing::warn!("the broker takes no results just now (connection blocked)");
            }
            SessionEvent::Blocked(false) => tracing::info!("the broker takes results again"),
        }
    }

    fn status(&mut self, core: &Core<D>, now: Now) -> Option<Status> {
        self.last_snapshot = now.at;
        self.snapshot(core, now);
        Some(self.status.borrow().clone())
    }

    fn state(&mut self, core: &Core<D>, now: Now) {
        self.metrics.turned();
        let reason = core.shut().map(|shut| shut.reason);
        let changed = self.shut.map(|(was, _)| was) != reason;
        self.calls.advance(now.at);
        self.account(core, reason, core.counts().ready > 0, now);
        let urgent = changed && !(is_open(reason) && self.status.borrow().gate.open);
        if urgent || now.at - self.last_snapshot >= SNAPSHOT {
            self.last_snapshot = now.at;
            self.snapshot(core, now);
        }
    }
}

/// Somebody may have to see to it.
fn is_trouble(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Halted
            | Reason::Breaker
            | Reason::Throttled
            | Reason::Blocked
            | Reason::Unpublished
    )
}

/// Says what shut the gate: the answer, and the request that it was for.
fn tell_shut<D>(core: &Core<D>, reason: Reason) {
    let gate = core.gate();
    // What the breaker is open for may be another one's than the last.
    let open = gate.breaker().opened().map(|open| &open.fault);
    let last = gate.trouble().filter(|_| !matches!(reason, Reason::Blocked | Reason::Unpublished));
    let fault = open.or(last.map(|last| &last.fault)).filter(|_| last.is_some());
    let run = last.filter(|last| Some(&last.fault) == fault).and_then(|last| last.run);
    tracing::warn!(
        reason = reason.as_str(),
        error_code = fault.and_then(|fault| fault.error_code.as_deref()),
        status = fault.and_then(|fault| fault.status),
        said = fault.map(|fault| fault.error_msg.as_str()),
        api_request_id = fault.and_then(|fault| fault.request_id.as_deref()),
        request.run = run.map(|run| display(run.0)),
        "the gate is shut"
    );
}

/// Waiting for one's turn in the rate, or a moment for company, is not being shut out.
fn is_open(reason: Option<Reason>) -> bool {
    matches!(reason, None | Some(Reason::Rate | Reason::Linger))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gate::Shut;

    #[test]
    fn of_two_reasons_the_gate_is_open_only_if_it_is_with_each_of_them_whichever_ends_first() {
        let shut = |reason, seconds: u64| Shut {
            reason,
            until: Some(Moment::from_nanos(seconds * 1_000_000_000)),
        };
        for one in Reason::ALL {
            for other in Reason::ALL {
                let both = is_open(Some(one)) && is_open(Some(other));
                for (first, then) in [(60, 60), (60, 300), (300, 60)] {
                    let said = Shut::longest([shut(one, first), shut(other, then)]);
                    let said = said.map(|said| said.reason);
                    assert_eq!(is_open(said), both, "{one:?} {first}, {other:?} {then}: {said:?}");
                }
            }
        }
    }
}
