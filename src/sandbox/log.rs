//! What happened, in order? A ring of events, read as JSON lines or in the process.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::call::Kind;
use super::options::Account;

/// One thing that happened. `at` is this machine's clock, whatever the skew of the API's.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Counts up by one; a gap at the beginning means that older events were dropped.
    pub number: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A call ended: answered, cut, or given up by the client. Written when it ends.
    Call(Box<CallRecord>),
    /// A create that a `late` fault had put off was processed.
    Applied {
        call: u64,
        task_id: Option<String>,
        error_code: Option<String>,
    },
    /// A task came (`from` absent), changed, or went (`to` absent).
    Task {
        task_id: String,
        source_server_id: String,
        from: Option<String>,
        to: Option<String>,
    },
    Account {
        state: Account,
    },
    /// The options or faults were changed.
    Options,
    /// The statistics were reset.
    Reset,
}

/// One call to the API, from the outside.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// Counts up in the order of arrival, from 1.
    pub call: u64,
    pub kind: Kind,
    pub method: String,
    pub path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// When its head had been read.
    pub started: Timestamp,
    /// When its answer was handed to the connection, or the connection was cut or given up.
    pub ended: Timestamp,
    /// Absent: no answer was sent.
    pub status: Option<u16>,
    pub error_code: Option<String>,
    /// The task that this call made.
    pub task_id: Option<String>,
    pub source_server_id: Option<String>,
    pub name: Option<String>,
    pub priority: Option<u16>,
    pub body_bytes: usize,
    /// Of the body as it arrived; of creates only.
    pub body_sha256: Option<String>,
    pub traceparent: Option<String>,
    pub request_id: String,
    /// The fault that struck.
    pub fault: Option<String>,
    /// The client went away before the end.
    pub abandoned: bool,
}

#[derive(Debug)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    last: u64,
}

impl Log {
    pub(super) fn new(capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity: capacity.max(1), last: 0 }
    }

    pub(super) fn push(&mut self, at: Timestamp, what: What) {
        self.last += 1;
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(Event { number: self.last, at, what }));
    }

    /// Those after number `since`, the oldest first, `limit` at most.
    pub(super) fn after(&self, since: u64, limit: usize) -> Vec<Arc<Event>> {
        let first = self.events.front().map_or(0, |event| event.number);
        let skip = usize::try_from((since + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip).take(limit).cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
    }
}
