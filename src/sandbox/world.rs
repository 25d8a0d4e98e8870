//! What does the sandbox know? Everything behind one lock, brought up to the moment before it is looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::call::{Answer, Call, Kind};
use super::errors;
use super::faults::{FaultCount, Faults, Strike};
use super::iam::Iam;
use super::log::{CallRecord, Log, What};
use super::options::{Account, Options, SourceServer};
use super::quota::Meter;
use super::stats::{End, Raw, Tally, Ticket};
use super::task::NewTask;
use super::tasks::Tasks;
use super::{account, api};
use crate::core::{Moment, Now};
use crate::worker::clock::Clock;

pub(super) struct World {
    pub(super) options: Options,
    pub(super) tasks: Tasks,
    pub(super) iam: Iam,
    pub(super) log: Log,
    pub(super) tally: Tally,
    /// The registered source servers; `None`: any.
    pub(super) sources: Option<BTreeMap<String, SourceServer>>,
    clock: Clock,
    dice: fastrand::Rng,
    meter: Meter,
    faults: Faults,
    late: BinaryHeap<Reverse<(Moment, u64)>>,
    late_calls: BTreeMap<u64, Call>,
    last_call: u64,
    since: Timestamp,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let clock = Clock::start();
        let now = clock.now();
        let seed = options.seed;
        let (sources, tasks) = registered(&options);
        let mut world = Self {
            tasks: Tasks::new(&options.tasks, options.time_scale, seed),
            iam: Iam::new(&options.auth, options.time_scale, seed.wrapping_add(1)),
            log: Log::new(options.log_capacity),
            tally: Tally::new(options.arrivals_capacity, now.at),
            sources,
            clock,
            dice: fastrand::Rng::with_seed(seed.wrapping_add(2)),
            meter: Meter::new(&options.quota),
            faults: Faults::new(&options.faults, seed, now.at),
            late: BinaryHeap::new(),
            late_calls: BTreeMap::new(),
            last_call: 0,
            since: now.wall,
            options,
        };
        world.preload(tasks);
        world
    }

    /// The present, with everything done that was due before it.
    pub(super) fn now(&mut self) -> Now {
        let now = self.clock.now();
        loop {
            let task = self.tasks.next_due().unwrap_or(Moment::FAR);
            let late = self.late.peek().map_or(Moment::FAR, |Reverse((due, _))| *due);
            if task.min(late) > now.at {
                return now;
            }
            if task <= late {
                let then = self.api_time(back(now, task));
                self.tasks.step(then);
            } else {
                self.apply_late(back(now, late));
            }
            self.write_changes(now);
        }
    }

    /// The API's clock, which may be off.
    pub(super) fn api_time(&self, now: Now) -> Now {
        let skew = SignedDuration::try_from_secs_f64(self.options.clock_skew).unwrap_or_default();
        Now { wall: now.wall.saturating_add(skew).unwrap_or(now.wall), ..now }
    }

    pub(super) fn request_id(&mut self) -> String {
        format!("{:032x}", self.dice.u128(..))
    }

    /// Counts a call in; the number is its place in the order of arrival.
    pub(super) fn arrived(&mut self, kind: Kind) -> (u64, Ticket, Now, String) {
        let now = self.now();
        self.last_call += 1;
        let ticket = self.tally.arrived(kind, now.at);
        (self.last_call, ticket, now, self.request_id())
    }

    /// The gateway's quota, of which IAM knows nothing. Counted by the moment of arrival.
    pub(super) fn pass(
        &mut self,
        kind: Kind,
        arrived: Moment,
        request_id: &str,
    ) -> Result<(), Answer> {
        if kind == Kind::Token {
            return Ok(());
        }
        self.meter.take(arrived).map_err(|full| {
            let answer = errors::throttled(full.quota, &self.options.quota.prefix, request_id);
            if self.options.quota.retry_after {
                let seconds = full.wait.as_secs() + u64::from(full.wait.subsec_nanos() > 0);
                return answer.header("Retry-After", seconds.to_string());
            }
            answer
        })
    }

    /// What goes wrong with this call, and how long it waits before it is processed.
    pub(super) fn draw(&mut self, call: &Call) -> Strike {
        let now = self.now();
        let mut strike = self.faults.draw(call.kind, &call.path, call.source(), now.at);
        strike.delay += self.options.latency.draw(&mut self.dice);
        strike
    }

    pub(super) fn process(&mut self, call: &Call, request_id: &str) -> Answer {
        let now = self.now();
        self.process_at(call, request_id, now)
    }

    fn process_at(&mut self, call: &Call, request_id: &str, now: Now) -> Answer {
        let answer = api::answer(self, call, request_id, self.api_time(now));
        self.write_changes(now);
        answer
    }

    /// The call is processed so much later, whatever becomes of its connection.
    pub(super) fn put_off(&mut self, number: u64, call: Call, by: Duration) {
        let due = self.now().at + by;
        self.late.push(Reverse((due, number)));
        self.late_calls.insert(number, call);
    }

    fn apply_late(&mut self, now: Now) {
        let Some(Reverse((_, number))) = self.late.pop() else { return };
        let Some(call) = self.late_calls.remove(&number) else { return };
        let request_id = self.request_id();
        let answer = self.process_at(&call, &request_id, now);
        let Answer { task_id, error_code, .. } = answer;
        self.log.push(now.wall, What::Applied { call: number, task_id, error_code });
    }

    pub(super) fn made(&self) -> u64 {
        self.tally.tasks_created()
    }

    pub(super) fn ended(&mut self, ticket: Ticket, mut record: CallRecord) {
        let now = self.now();
        record.ended = now.wall;
        let end = End {
            status: record.status,
            error_code: record.error_code.as_deref(),
            priority: record.priority,
            made: record.task_id.is_some(),
        };
        self.tally.ended(ticket, &end, now.at);
        self.log.push(now.wall, What::Call(Box::new(record)));
    }

    /// Tasks that are there from the start, or from outside of the rehearsal.
    pub(super) fn preload(&mut self, new: Vec<NewTask>) -> Vec<String> {
        let now = self.now();
        let then = self.api_time(now);
        let ids = new.into_iter().map(|task| self.tasks.create(task, then)).collect();
        self.write_changes(now);
        ids
    }

    /// Does something to a task, by its id.
    pub(super) fn change_task(&mut self, change: impl FnOnce(&mut Tasks, Now) -> bool) -> bool {
        let now = self.now();
        let then = self.api_time(now);
        let done = change(&mut self.tasks, then);
        self.write_changes(now);
        done
    }

    /// Takes new options; what has not changed goes on as it was, counters and all.
    pub(super) fn set_options(&mut self, options: Options) {
        let now = self.now();
        let old = std::mem::replace(&mut self.options, options);
        self.options.listen = old.listen;
        self.options.seed = old.seed;
        self.options.time_scale = old.time_scale;
        self.options.log_capacity = old.log_capacity;
        self.options.arrivals_capacity = old.arrivals_capacity;
        if old.quota != self.options.quota {
            self.meter = Meter::new(&self.options.quota);
        }
        if old.faults != self.options.faults {
            self.faults = Faults::new(&self.options.faults, old.seed, now.at);
        }
        if old.sources != self.options.sources || old.servers != self.options.servers {
            self.sources = registered(&self.options).0;
        }
        self.iam.set_options(&self.options.auth);
        let then = self.api_time(now);
        self.tasks.set_options(&self.options.tasks, then);
        self.log.push(now.wall, What::Options);
        if old.account != self.options.account {
            self.account_changed(now);
        }
        self.write_changes(now);
    }

    fn account_changed(&mut self, now: Now) {
        let state = self.options.account;
        if state == Account::TokenRevoked {
            self.iam.revoke();
        }
        self.log.push(now.wall, What::Account { state });
    }

    /// Rules as given, from now on, counted from zero even if they are the same as before.
    pub(super) fn set_faults(&mut self, rules: Vec<super::faults::Fault>) {
        let now = self.now();
        self.faults = Faults::new(&rules, self.options.seed, now.at);
        self.options.faults = rules;
        self.log.push(now.wall, What::Options);
    }

    pub(super) fn fault_counts(&self) -> Vec<FaultCount> {
        self.faults.counts()
    }

    /// Statistics and log begin anew; with `tasks`, all tasks are gone too.
    pub(super) fn reset(&mut self, tasks: bool) {
        let now = self.now();
        if tasks {
            self.tasks =
                Tasks::new(&self.options.tasks, self.options.time_scale, self.options.seed);
            self.late.clear();
            self.late_calls.clear();
        }
        self.tasks.reset_max();
        self.tally = Tally::new(self.options.arrivals_capacity, now.at);
        self.iam.logins = super::iam::Logins::default();
        self.since = now.wall;
        self.log.clear();
        self.log.push(now.wall, What::Reset);
    }

    /// The raw material of the statistics; summing it up needs no lock.
    pub(super) fn raw_stats(&mut self) -> Raw {
        let now = self.now();
        let mut raw = self.tally.raw();
        let stats = &mut raw.stats;
        stats.since = self.since;
        stats.seconds = now.wall.duration_since(self.since).as_secs_f64();
        stats.logins = self.iam.logins;
        for task in self.tasks.all() {
            stats.tasks.total += 1;
            *stats.tasks.by_state.entry(task.state().to_owned()).or_default() += 1;
        }
        stats.tasks.running = self.tasks.running();
        stats.tasks.max_running = self.tasks.max_running();
        stats.tasks.waiting_for_a_place = self.tasks.queued();
        raw
    }

    fn write_changes(&mut self, now: Now) {
        for change in self.tasks.take_changes() {
            let what = What::Task {
                task_id: change.task,
                source_server_id: change.source,
                from: change.from,
                to: change.to,
            };
            self.log.push(back(now, change.at).wall, what);
        }
    }
}

/// The source servers by id, if not any id is one, and the tasks that they have from the start.
fn registered(options: &Options) -> (Option<BTreeMap<String, SourceServer>>, Vec<NewTask>) {
    let (servers, tasks) = match &options.sources {
        Some(sources) => (sources.clone(), Vec::new()),
        None if options.servers > 0 => account::account(options.servers, options.seed),
        None => return (None, Vec::new()),
    };
    (Some(servers.into_iter().map(|server| (server.id.clone(), server)).collect()), tasks)
}

/// A moment that has passed, with the wall clock as it was then.
fn back(now: Now, at: Moment) -> Now {
    let ago = SignedDuration::try_from(now.at - at).unwrap_or_default();
    Now { at, wall: now.wall.saturating_sub(ago).unwrap_or(now.wall) }
}

/// The digest that the log shows of a body.
pub(super) fn sha256(body: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(body))
}
