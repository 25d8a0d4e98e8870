//! The names of all headers of messages, and who writes them.

/// What all headers of ours begin with.
pub const PREFIX: &str = "x-sluice-";

// Of a request, written by whoever enqueues it.
pub const BATCH: &str = "x-sluice-batch";
/// The generation of the batch (UUID): an id that is used again is another batch.
pub const BATCH_RUN: &str = "x-sluice-batch-run";
pub const ENQUEUED_AT: &str = "x-sluice-enqueued-at";
pub const ROW: &str = "x-sluice-row";
pub const NOT_BEFORE: &str = "x-sluice-not-before";
pub const DEADLINE: &str = "x-sluice-deadline";
pub const PRIORITY: &str = "x-sluice-priority";
pub const REPLAY: &str = "x-sluice-replay";
pub const AGAIN: &str = "x-sluice-again";
/// No `POST` of it was ever begun, says the worker that dead-lettered it: a replay is no doubt.
pub const NEVER_SENT: &str = "x-sluice-never-sent";
/// Published anew by a worker, to be parked or because its time has come: looked up like what was delivered before.
pub const MOVED: &str = "x-sluice-moved";
/// Of a replay, how it ended before: JSON, an array of [`crate::review::Past`], the latest last.
pub const PAST: &str = "x-sluice-past";
pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";

// Of a dead letter, written by the worker beside those of the request.
pub const OUTCOME: &str = "x-sluice-outcome";
pub const ERROR_CODE: &str = "x-sluice-error-code";
pub const STATUS: &str = "x-sluice-status";
pub const REASON: &str = "x-sluice-reason";
pub const ATTEMPTS: &str = "x-sluice-attempts";
pub const FAILED_AT: &str = "x-sluice-failed-at";
/// JSON: an array of violations.
pub const VIOLATIONS: &str = "x-sluice-violations";
/// JSON: an array of [`crate::core::Try`].
pub const HISTORY: &str = "x-sluice-history";
/// JSON: the whole error, as in a result.
pub const ERROR: &str = "x-sluice-error";
/// Of a message that cannot be read: its properties as AMQP has them, the first 8 KiB, as hexadecimal digits.
pub const ORIGINAL: &str = "x-sluice-original-properties";

/// `true`: the dead letter was put into the queue by somebody else, says the reviewer who put it there again.
pub const STRANGER: &str = "x-sluice-stranger";

/// The message id of the request: the dead letter's own is its result's.
pub const REQUEST_ID: &str = "x-sluice-request-id";

/// How it ended: a replay leaves all of them behind.
pub const OF_A_DEAD_LETTER: [&str; 11] = [
    OUTCOME, ERROR_CODE, STATUS, REASON, ATTEMPTS, FAILED_AT, VIOLATIONS, HISTORY, ERROR, ORIGINAL,
    STRANGER,
];
