//! What people see of a running worker: the log, metrics, traces, and the observer of its loop that feeds them.

pub mod batches;
mod calls;
mod drain;
pub mod log;
pub mod metrics;
mod observer;
pub mod traces;

pub use observer::*;
