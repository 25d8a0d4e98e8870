//! Sluicegate submits *create migration task* requests to the Server Migration Service: most urgent first, never over
//! the quota, nothing lost, nothing created twice.
//!
//! The way of one request: a delivery comes from the broker (or a row from a plan) and is read against the API's
//! [`contract`]; what is invalid is settled at once. What is valid becomes a job in the window of the [`core`], which
//! decides, without any input or output of its own, which job starts next and when, and what an answer means. The
//! worker's loop carries those decisions out: attempts and look-ups through [`api`], settlements through [`broker`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod broker;
pub mod commands;
pub mod config;
pub mod contract;
pub mod core;
pub mod lane;
pub mod message;
pub mod observe;
pub mod plan;
pub mod planner;
pub mod report;
pub mod review;
pub mod sandbox;
pub mod web;
pub mod worker;
