//! Sluicegate submits *create migration task* requests to the Server Migration Service: most urgent first, never over
//! the quota, nothing lost, nothing created twice.
//!
//! The way of one request: a delivery comes from the broker (or a row from a plan) and is read against the API's
//! [`contract`]; what is invalid is settled at once. What is valid becomes a job in the window of the [`core`], which
//! decides, without any input or output of its own, which job starts next and when, and what an answer means. The
//! worker's loop carries those decisions out: attempts and looks through [`api`], settlements through [`broker`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod asyncapi;
pub mod batches;
pub mod broker;
mod bug;
pub mod clock;
pub mod commands;
pub mod config;
pub mod console;
pub mod contract;
pub mod control;
pub mod core;
pub mod enqueue;
pub mod export;
pub mod http;
pub mod intake;
pub mod logging;
pub mod metrics;
pub mod new_file;
pub mod notify;
pub mod observe;
pub mod plan;
pub mod progress;
pub mod results;
pub mod review;
pub mod sandbox;
pub mod source;
pub mod status;
pub mod submit;
pub mod traces;
pub mod watch;
pub mod worker;
