//! What of an input do decisions depend on? That, and nothing else, is written down.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::CallId;
use crate::core::engine::{Fetched, Hot, Input, Steer};
use crate::core::gate::Pause;
use crate::core::orders::Order;
use crate::core::outcome::Settlement;
use crate::core::rate::Rate;
use crate::core::request::{Job, Rare, Request, RowNumber, Run, Shared, Stamp};
use crate::core::schedule::Schedule;
use crate::core::sparse::Sparse;
use crate::core::time::{Moment, Now};
use crate::core::verdict::{Fault, Listing, Verdict};

/// An input, without what only a shell knows. A job that comes back is named by the number of its delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputRecord {
    Opened {
        session: u32,
        waiting: usize,
    },
    Lost,
    Blocked(bool),
    Renewed,
    Delivered(DeliveryRecord),
    /// What the violations quote stands in the body: their number is all that is here.
    Invalid {
        delivery: DeliveryRecord,
        violations: usize,
    },
    /// What the panic said may quote the body.
    Unreadable(DeliveryRecord),
    Answered {
        job: u64,
        started: Now,
        verdict: Verdict,
        generation: u64,
    },
    Told {
        call: CallId,
        started: Now,
        result: Result<Listing, Verdict>,
        generation: u64,
    },
    Late(u64),
    Panicked(u64),
    Refreshed(Result<u64, Fault>),
    Settled {
        job: u64,
        how: Settlement,
        dead_lettered: bool,
    },
    Parked(u64),
    NotParked(u64),
    Fetched {
        session: u32,
        fetched: Option<Fetched>,
    },
    Orders(Vec<Order>),
    Ordered(Steer),
    Reconfigured(Hot),
    Stop,
    SourceEnded,
}

/// A delivery, and what of its request decisions depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a word of the message")]
pub struct DeliveryRecord {
    /// The number that the core gives it.
    pub job: u64,
    session: u32,
    redelivered: bool,
    received: Moment,
    pub id: String,
    /// Made of the message id, the digest of the body, the time of enqueueing and the number of the replay.
    run: Run,
    name: String,
    source_server_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_vm_id: Option<String>,
    project_id: Box<str>,
    region_id: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch_run: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    priority: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enqueued_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    #[serde(default)]
    replay: u32,
    #[serde(default)]
    again: bool,
    #[serde(default)]
    never_sent: bool,
    starts: bool,
    /// The length of the body.
    bytes: u32,
}

impl DeliveryRecord {
    fn of<D>(job: &Job<D>, number: u64) -> Self {
        let request = &job.request;
        Self {
            job: number,
            session: job.session,
            redelivered: job.redelivered,
            received: job.received,
            id: request.id.to_string(),
            run: request.run,
            name: request.name.to_string(),
            source_server_id: request.source_server_id.to_string(),
            target_vm_id: request.target_vm_id.as_ref().map(ToString::to_string),
            project_id: request.shared.project_id.clone(),
            region_id: request.shared.region_id.clone(),
            batch: request.shared.batch.clone(),
            batch_run: request.shared.batch_run,
            row: request.row.get(),
            priority: request.priority,
            enqueued_at: request.enqueued_at.get(),
            not_before: request.rare.not_before,
            deadline: request.rare.deadline,
            replay: request.rare.replay,
            again: request.rare.again,
            never_sent: request.rare.never_sent,
            starts: request.starts,
            bytes: request.bytes,
        }
    }

    /// One that is never sent: what was read of its body does not matter.
    fn unsent<D>(job: &Job<D>, number: u64) -> Self {
        Self {
            name: String::new(),
            source_server_id: String::new(),
            target_vm_id: None,
            project_id: Box::default(),
            region_id: Box::default(),
            ..Self::of(job, number)
        }
    }

    /// The job as it was delivered, without its body.
    pub(super) fn job(self) -> Job<()> {
        let rare = Rare {
            not_before: self.not_before,
            deadline: self.deadline,
            replay: self.replay,
            again: self.again,
            never_sent: self.never_sent,
            ..Rare::default()
        };
        let shared = Shared {
            project_id: self.project_id,
            region_id: self.region_id,
            batch: self.batch,
            batch_run: self.batch_run,
        };
        let request = Request {
            id: self.id.into(),
            run: self.run,
            name: self.name.into(),
            source_server_id: self.source_server_id.into(),
            target_vm_id: self.target_vm_id.map(Into::into),
            shared: shared.into(),
            row: RowNumber::from(self.row),
            priority: self.priority,
            enqueued_at: Stamp::from(self.enqueued_at),
            rare: Sparse::new(rare),
            span: None,
            starts: self.starts,
            bytes: self.bytes,
        };
        Job::new(request, (), self.session, self.redelivered, self.received)
    }
}

impl InputRecord {
    /// `number`: what the next delivery is numbered.
    pub fn of<D>(input: &Input<D>, number: u64) -> Self {
        match input {
            Input::Opened { session, waiting } => {
                Self::Opened { session: *session, waiting: *waiting }
            }
            Input::Lost => Self::Lost,
            Input::Blocked(blocked) => Self::Blocked(*blocked),
            Input::Renewed => Self::Renewed,
            Input::Delivered(job) => Self::Delivered(DeliveryRecord::of(job, number)),
            Input::Invalid(job, violations) => Self::Invalid {
                delivery: DeliveryRecord::unsent(job, number),
                violations: violations.len(),
            },
            Input::Unreadable(job, _) => Self::Unreadable(DeliveryRecord::unsent(job, number)),
            Input::Answered { job, started, verdict, generation } => Self::Answered {
                job: job.arrival,
                started: *started,
                verdict: wordless(verdict),
                generation: *generation,
            },
            Input::Told { question, started, result, generation } => Self::Told {
                call: CallId::of(question),
                started: *started,
                result: result.as_ref().map_err(wordless).cloned(),
                generation: *generation,
            },
            Input::Late(job) => Self::Late(job.arrival),
            Input::Panicked(job, _) => Self::Panicked(job.arrival),
            Input::Refreshed(result) => Self::Refreshed(result.as_ref().map_err(bare).copied()),
            Input::Settled { job, ending, how } => {
                Self::Settled { job: job.arrival, how: *how, dead_lettered: ending.dead_lettered }
            }
            Input::Parked(job) => Self::Parked(job.arrival),
            Input::NotParked(job) => Self::NotParked(job.arrival),
            Input::Fetched { session, fetched } => {
                Self::Fetched { session: *session, fetched: fetched.clone() }
            }
            Input::Orders(orders) => Self::Orders(orders.clone()),
            Input::Ordered(order) => Self::Ordered(nameless(order)),
            Input::Reconfigured(hot) => Self::Reconfigured(hot.clone()),
            Input::Stop => Self::Stop,
            Input::SourceEnded => Self::SourceEnded,
        }
    }
}

/// Of a fault what decides: the words of the API may quote a body.
fn bare(fault: &Fault) -> Fault {
    Fault {
        status: fault.status,
        error_code: fault.error_code.clone(),
        request_id: fault.request_id.clone(),
        ..Fault::default()
    }
}

fn wordless(verdict: &Verdict) -> Verdict {
    match verdict {
        Verdict::Created { task_id } => Verdict::Created { task_id: task_id.clone() },
        Verdict::Rejected(fault) => Verdict::Rejected(bare(fault)),
        Verdict::Ambiguous { fault, conflict } => {
            Verdict::Ambiguous { fault: bare(fault), conflict: *conflict }
        }
        Verdict::Transient { fault, answered } => {
            Verdict::Transient { fault: bare(fault), answered: *answered }
        }
        Verdict::Throttled { fault, wait, limit } => {
            Verdict::Throttled { fault: bare(fault), wait: *wait, limit: *limit }
        }
        Verdict::Unauthorized(fault) => Verdict::Unauthorized(bare(fault)),
        Verdict::Account { fault, one_resource } => {
            Verdict::Account { fault: bare(fault), one_resource: *one_resource }
        }
    }
}

/// No decision depends on who it is, and why.
fn nameless(order: &Steer) -> Steer {
    let nobody = || Pause { by: String::new(), reason: String::new() };
    match order {
        Steer::Set { pause, rates } => {
            Steer::Set { pause: pause.as_ref().map(|_| nobody()), rates: rates.clone() }
        }
        Steer::Pause(_) => Steer::Pause(nobody()),
        other => other.clone(),
    }
}

/// A fault without the words of the API.
pub(super) fn said(fault: &Fault) -> String {
    match (fault.error_code.as_deref(), fault.status) {
        (Some(code), Some(status)) => format!("{code}, status {status}"),
        (Some(code), None) => code.to_owned(),
        (None, Some(status)) => format!("no error code, status {status}"),
        (None, None) => "no answer".to_owned(),
    }
}

fn rates(rates: &[Rate]) -> String {
    let rates: Vec<_> = rates.iter().map(ToString::to_string).collect();
    if rates.is_empty() { "none".to_owned() } else { rates.join(", ") }
}

fn command(order: &Steer) -> String {
    match order {
        Steer::Set { pause: Some(_), rates: most } => {
            format!("paused, rates {}, as set before", rates(most))
        }
        Steer::Set { pause: None, rates: most } => format!("rates {}, as set before", rates(most)),
        Steer::Pause(_) => "pause".to_owned(),
        Steer::Resume => "resume".to_owned(),
        Steer::Rates(most) => format!("rates {}", rates(most)),
        Steer::ForgetLearned => "forget what 429s have taught".to_owned(),
        Steer::Lend { calls } => format!("lend {calls} calls to another process"),
        Steer::AssumeLent => "calls may be lent that this worker does not know of".to_owned(),
    }
}

/// What happened, for people.
impl std::fmt::Display for InputRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Opened { session, waiting } => {
                write!(f, "session {session} opened, {waiting} requests wait")
            }
            Self::Lost => f.write_str("session lost"),
            Self::Blocked(true) => f.write_str("the broker takes no results"),
            Self::Blocked(false) => f.write_str("the broker takes results again"),
            Self::Renewed => f.write_str("the credential has changed"),
            Self::Delivered(delivery) => delivery.fmt(f),
            Self::Invalid { delivery, violations } => {
                write!(f, "{delivery}, invalid: {violations} violations of the contract")
            }
            Self::Unreadable(delivery) => write!(f, "{delivery}, and reading it panicked"),
            Self::Answered { job, verdict, .. } => {
                write!(f, "post of delivery {job} answered: {}", verdict.as_str())?;
                verdict.fault().map_or(Ok(()), |fault| write!(f, " ({})", said(fault)))
            }
            Self::Told { call, result, .. } => {
                write!(f, "{} answered: ", call.words())?;
                match result {
                    Ok(listing) => write!(f, "{} tasks of {}", listing.tasks.len(), listing.count),
                    Err(verdict) => {
                        f.write_str(verdict.as_str())?;
                        verdict.fault().map_or(Ok(()), |fault| write!(f, " ({})", said(fault)))
                    }
                }
            }
            Self::Late(job) => write!(f, "post of delivery {job} was not begun in time"),
            Self::Panicked(job) => write!(f, "the call for delivery {job} panicked"),
            Self::Refreshed(Ok(generation)) => write!(f, "token {generation} fetched"),
            Self::Refreshed(Err(fault)) => write!(f, "no token to be had: {}", said(fault)),
            Self::Settled { job, how, dead_lettered } => {
                let how = match how {
                    Settlement::Done => "acknowledged",
                    Settlement::Void => "its session was lost under it",
                    Settlement::Refused => "the broker refuses it",
                };
                let dead = if *dead_lettered { ", dead letter published" } else { "" };
                write!(f, "settlement of delivery {job}: {how}{dead}")
            }
            Self::Parked(job) => write!(f, "delivery {job} parked"),
            Self::NotParked(job) => write!(f, "delivery {job} not parked"),
            Self::Fetched { fetched: Some(Fetched { left, .. }), .. } => {
                write!(f, "what was due is fetched, {left} requests are parked still")
            }
            Self::Fetched { fetched: None, .. } => f.write_str("nothing could be fetched"),
            Self::Orders(orders) => write!(f, "{} orders of planners", orders.len()),
            Self::Ordered(order) => write!(f, "an operator's command: {}", command(order)),
            Self::Reconfigured(Hot { rates: most, max_in_flight, max_running, schedule }) => {
                let hours = if *schedule == Schedule::default() { "always" } else { "by schedule" };
                write!(
                    f,
                    "the configuration changed: rates {}, {max_in_flight} in flight, {max_running} running, {hours}",
                    rates(most)
                )
            }
            Self::Stop => f.write_str("the worker stops"),
            Self::SourceEnded => f.write_str("the source has no more requests"),
        }
    }
}

impl std::fmt::Display for DeliveryRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let again = if self.redelivered { " again" } else { "" };
        write!(f, "delivery {}{again}: {}, priority {}", self.job, self.id, self.priority)
    }
}

impl CallId {
    fn words(self) -> String {
        match self {
            Self::Post(job) => format!("post of delivery {job}"),
            Self::LookUp(job) => format!("look-up of delivery {job}"),
            Self::Settle(job) => format!("settlement of delivery {job}"),
            Self::Park(job) => format!("parking of delivery {job}"),
            Self::Fetch => "fetch of what is parked".to_owned(),
            Self::List => "list of all tasks".to_owned(),
            Self::Count => "count of running migrations".to_owned(),
            Self::Any => "the question whether look-ups are answered".to_owned(),
            Self::Refresh => "log-in".to_owned(),
        }
    }
}
