//! What do the tasks that a look-up found mean for this request? The rules of `docs/architecture.md`, "Doubt"; the first
//! that matches wins.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::request::Request;
use super::verdict::{Query, Task};

/// States that a task does not leave. An unknown state counts as not ended: it stands in the way until a person says
/// otherwise.
pub const ENDED: [&str; 4] =
    ["MIGRATE_SUCCESS", "MIGRATE_FAIL", "ABORT", "SYNC_F_ROLLBACK_SUCCESS"];

/// The ended state in which the server's data has arrived.
const SUCCESS: &str = "MIGRATE_SUCCESS";

pub fn is_ended(state: &str) -> bool {
    ENDED.contains(&state)
}

/// What a look-up says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding<'a> {
    /// Made for this run: same name, created since the run was enqueued.
    Created(&'a Task),
    /// What the request asks for is there already.
    Exists(&'a Task),
    /// Another task holds the source server.
    Conflict(&'a Task),
    /// A same-name task that ended, and no enqueue time to tell whose it was: never a reason to send.
    Unclear(&'a Task),
    Nothing,
}

labelled! {
    /// What a question to the API has shown: for the metric's `found` label.
    Found {
        Nothing => "nothing",
        Created => "created",
        Exists => "exists",
        Conflict => "conflict",
        Unclear => "unclear",
        /// A page of the list of all tasks.
        Page => "page",
        /// One of those that count what runs.
        Count => "count",
        /// It was not answered.
        Failed => "failed",
    }
}

impl Finding<'_> {
    pub fn found(&self) -> Found {
        match self {
            Self::Created(_) => Found::Created,
            Self::Exists(_) => Found::Exists,
            Self::Conflict(_) => Found::Conflict,
            Self::Unclear(_) => Found::Unclear,
            Self::Nothing => Found::Nothing,
        }
    }
}

/// How the API's clock stands to ours, and how far either is trusted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// The API's clock minus ours, from its `Date` header.
    pub skew: SignedDuration,
    /// `api.clock_slack`
    pub slack: Duration,
}

/// Judges the rows of a listing for `request`. Rows of other source servers are passed over: whether the API's filter
/// is exact is not documented.
///
/// `of_another`: the task is known to be another run's. Once it has ended it is never this run's, whatever the clocks say.
pub fn judge<'a>(
    request: &Request,
    rows: &'a [Task],
    clocks: Clocks,
    of_another: impl Fn(&Task) -> bool,
) -> Finding<'a> {
    let (source, name) = (request.source_server_id.get(), request.name.get());
    let ours = || rows.iter().filter(|task| task.source_server_id == *source);
    let named = || ours().filter(|task| task.name == *name);
    let own = || named().filter(|task| !(is_ended(&task.state) && of_another(task)));
    if let Some(since) = request.enqueued_at.get().map(|at| earliest(at, clocks))
        && let Some(task) = own().find(|task| task.create_date.is_some_and(|at| at >= since))
    {
        return Finding::Created(task);
    }
    if let Some(task) = named().find(|task| !is_ended(&task.state)) {
        return Finding::Exists(task);
    }
    if let Some(task) = ours().find(|task| !is_ended(&task.state)) {
        return Finding::Conflict(task);
    }
    match (named().find(|task| task.state == SUCCESS), own().next()) {
        (_, Some(task)) if request.enqueued_at.get().is_none() => Finding::Unclear(task),
        (Some(task), _) if !request.rare.again => Finding::Exists(task),
        _ => Finding::Nothing,
    }
}

/// Any task that stands on the request's target server, ended ones included: what a conflict without a task at the
/// source is about.
pub fn by_target<'a>(request: &Request, rows: &'a [Task]) -> Option<&'a Task> {
    let target = request.target_vm_id.as_ref().filter(|id| !id.is_empty())?.get();
    let mut there = rows.iter().filter(|task| task.target_vm_id.as_deref() == Some(&*target));
    there.clone().find(|task| !is_ended(&task.state)).or_else(|| there.next())
}

/// The look-up for one request.
pub fn query(request: &Request) -> Query {
    Query::Source(request.source_server_id.to_string())
}

/// The earliest `create_date`, on the API's clock, of a task made for a run enqueued `at`.
fn earliest(at: Timestamp, clocks: Clocks) -> Timestamp {
    at.saturating_add(clocks.skew)
        .and_then(|at| at.saturating_sub(clocks.slack))
        .unwrap_or(Timestamp::MIN)
}
