//! What did one call to the API show? The API client turns an answer into a [`Verdict`] or a [`Listing`]; the core
//! decides what follows.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

labelled! {
    /// A [`Verdict`] without what was said.
    VerdictKind {
        Created => "created",
        Rejected => "rejected",
        Ambiguous => "ambiguous",
        Transient => "transient",
        Throttled => "throttled",
        Unauthorized => "unauthorized",
        Account => "account",
    }
}

/// What one attempt (a `POST`) showed, or why a look-up failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// 2xx with an `id`.
    Created { task_id: String },
    /// The answer is final for this request.
    Rejected(Fault),
    /// It may have been applied. `conflict`: the API says that a task is in the way (7605, 6615, 6005), which may be
    /// our own.
    Ambiguous { fault: Fault, conflict: bool },
    /// Worth trying again. `answered`: SMS itself said so, so one look-up settles the doubt; otherwise the request surely
    /// never left (refused, DNS, TLS) and needs no look-up.
    Transient { fault: Fault, answered: bool },
    /// 429: the whole gate waits, `wait` if the answer says how long. `limit` is the quota that the text names,
    /// as (calls, window).
    Throttled { fault: Fault, wait: Option<Duration>, limit: Option<(u32, Duration)> },
    /// The token was refused.
    Unauthorized(Fault),
    /// Refused as the account's: what others are answered shows whether it is. `one_resource`: the answer names a resource
    /// (SMS.9004).
    Account { fault: Fault, one_resource: bool },
}

impl Verdict {
    pub fn kind(&self) -> VerdictKind {
        match self {
            Self::Created { .. } => VerdictKind::Created,
            Self::Rejected(_) => VerdictKind::Rejected,
            Self::Ambiguous { .. } => VerdictKind::Ambiguous,
            Self::Transient { .. } => VerdictKind::Transient,
            Self::Throttled { .. } => VerdictKind::Throttled,
            Self::Unauthorized(_) => VerdictKind::Unauthorized,
            Self::Account { .. } => VerdictKind::Account,
        }
    }

    /// The word used in logs, histories and the `verdict` label.
    pub fn as_str(&self) -> &'static str {
        self.kind().as_str()
    }

    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Created { .. } => None,
            Self::Rejected(fault)
            | Self::Ambiguous { fault, .. }
            | Self::Transient { fault, .. }
            | Self::Throttled { fault, .. }
            | Self::Unauthorized(fault)
            | Self::Account { fault, .. } => Some(fault),
        }
    }
}

/// What the API, the gateway or the network said when a call did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fault {
    /// The HTTP status; absent where no answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The API's message; for a network error what happened, without credentials or url.
    pub error_msg: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_param: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FaultDetail>,
    /// The API's `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What was said, in one line.
impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error_msg)?;
        match (self.error_code.as_deref(), self.status) {
            (Some(code), Some(status)) => write!(f, " [{code}, status {status}]")?,
            (Some(code), None) => write!(f, " [{code}]")?,
            (None, Some(status)) => write!(f, " [no error code, status {status}]")?,
            // The network's word, or ours.
            (None, None) => {}
        }
        if !self.error_param.is_empty() {
            write!(f, " ({})", self.error_param.join("; "))?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FaultDetail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default)]
    pub error_msg: String,
}

/// A page of `GET /v3/tasks` to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The tasks of one source server: a look-up. The id of the source server.
    Source(String),
    /// One task, whichever: whether look-ups are answered at all.
    Any,
    /// A page of all tasks of the account, 200 at most.
    All { offset: u32 },
    /// One task, by its id: none if there is no such task.
    Task(String),
    /// A page of the tasks in this state, 200 at most; the `count` says how many there are.
    State { state: &'static str, offset: u32 },
}

/// What a `GET /v3/tasks` answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    pub tasks: Vec<Task>,
    /// How many there are in all, whatever the page.
    pub count: u32,
    /// The source servers of rows without an id, a state or a date that can be read; `None`: its source server cannot be
    /// read either. Such a row may be anybody's whom it could be about.
    pub unread: Vec<Option<String>>,
    /// The first row is one of those.
    pub begins_unread: bool,
    /// The API's `Date` header, for the difference between its clock and ours.
    pub date: Option<Timestamp>,
}

/// One row of a listing: what the judge needs to know of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: String,
    pub name: String,
    /// `READY`, `RUNNING`, `MIGRATE_SUCCESS`, ...: an open set.
    pub state: String,
    pub source_server_id: String,
    pub target_vm_id: Option<String>,
    pub create_date: Option<Timestamp>,
}
