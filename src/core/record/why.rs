//! Why was a step decided? In words for people, from what the core knows just then, and none of the API's or an operator's:
//! the former may quote a body.

use super::given::said;
use crate::core::engine::{BUG, Core, Counts, Question, Step};
use crate::core::gate::Reason;
use crate::core::outcome::{Ending, Outcome};
use crate::core::request::{Doubt, Job};
use crate::core::time::Now;

/// `core` has just decided `step`.
pub(super) fn why<D>(core: &Core<D>, now: Now, step: &Step<D>) -> String {
    match step {
        Step::Post(job) => post(core, job),
        Step::Ask(Question::LookUp(job)) => look_up(job),
        Step::Ask(Question::List { .. }) => "requests in doubt wait for the list".to_owned(),
        Step::Ask(Question::Count(_)) => {
            "the running cap must know how many migrations run".to_owned()
        }
        Step::Ask(Question::Any) => "are look-ups of others answered?".to_owned(),
        Step::Refresh { .. } => "the token was refused".to_owned(),
        Step::Settle(_, ending) => ended(ending),
        Step::Acknowledge(_) => "its result was published before".to_owned(),
        Step::Requeue(job) => format!("held for {:.0?}", now.at - job.received),
        Step::Park(_) => "more than half of the window waits for a time or a planner".to_owned(),
        Step::Fetch(_) => "what is parked may be due".to_owned(),
        Step::Wait(_) => waits(core),
    }
}

fn post<D>(core: &Core<D>, job: &Job<D>) -> String {
    let (priority, tries) = (job.request.priority, job.progress.attempts);
    let which = match (core.gate().breaker().opened(), job.progress.aside) {
        (Some(_), _) => "a probe of the open breaker",
        (None, true) => "tried again after it was set aside",
        (None, false) => "the most urgent that may go",
    };
    match tries {
        0 => format!("{which}, priority {priority}"),
        tries => format!("{which}, priority {priority}, attempt {}", tries + 1),
    }
}

fn look_up<D>(job: &Job<D>) -> String {
    match &job.progress.doubt {
        Doubt::LookUp { conflict: Some(fault), .. } => {
            format!("the API says that a task is in the way: {}", said(fault))
        }
        Doubt::LookUp { once: true, .. } => {
            "a task may exist, and one look-up is enough to tell".to_owned()
        }
        Doubt::LookUp { first: None, .. } => "a task may exist: first look-up".to_owned(),
        Doubt::LookUp { first: Some(_), .. } => {
            "the first look-up found nothing: second look-up".to_owned()
        }
        Doubt::None | Doubt::Target(_) => String::new(),
    }
}

/// What says why a request ended must not quote its body.
fn ended(ending: &Ending) -> String {
    match ending.outcome {
        Outcome::Invalid => format!("{} violations of the contract", ending.violations.len()),
        _ if ending.reason.starts_with(BUG) => BUG.to_owned(),
        _ if ending.reason.is_empty() => {
            format!("task {}", ending.task_id.as_deref().unwrap_or("unknown"))
        }
        // These quote what the API said.
        Outcome::Rejected | Outcome::Exhausted | Outcome::Unknown => {
            let said = ending.fault.as_ref().map_or_else(|| "no answer".to_owned(), said);
            format!("the last answer: {said}")
        }
        _ => ending.reason.clone(),
    }
}

fn waits<D>(core: &Core<D>) -> String {
    let Some(shut) = core.shut() else {
        return match core.counts() {
            Counts { in_flight: 0, settling: 0, .. } => "nothing is due".to_owned(),
            Counts { in_flight, settling, .. } => {
                format!("nothing else is due; {in_flight} calls and {settling} settlements are out")
            }
        };
    };
    let gate = core.gate();
    match shut.reason {
        Reason::Stopping => "the worker is stopping".to_owned(),
        Reason::NoSession => "there is no session".to_owned(),
        Reason::Linger => "more urgent requests may be on their way".to_owned(),
        Reason::Blocked => "the broker takes no results".to_owned(),
        Reason::Unpublished => "the broker refuses too many results or dead letters".to_owned(),
        Reason::Halted | Reason::Breaker => {
            let fault = gate.breaker().opened().map(|open| said(&open.fault));
            format!("the breaker is open: {}", fault.unwrap_or_default())
        }
        Reason::Token => "a fresh token is being fetched".to_owned(),
        Reason::Throttled => "the API said 429".to_owned(),
        Reason::Paused => "an operator has paused it".to_owned(),
        Reason::Schedule => "outside of the schedule".to_owned(),
        Reason::Running => "no room for another migration".to_owned(),
        Reason::InFlight => format!("{} are in flight", gate.in_flight()),
        Reason::Rate => "the rate allows no call before that".to_owned(),
    }
}
