//! Tests that talk to a real RabbitMQ.

mod alerts;
mod broker;
mod chaos;
mod control;
mod examples;
pub(crate) mod failover;
mod held;
mod lanes;
mod monitoring;
mod network;
mod places;
mod planner;
mod process;
mod report;
mod review;
mod secrets;
mod traps;
mod worker;
