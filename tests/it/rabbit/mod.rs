//! Tests that talk to a real RabbitMQ.

mod alerts;
mod asyncapi;
mod broker;
mod chaos;
mod control;
mod documents;
mod examples;
pub(crate) mod failover;
mod held;
mod lanes;
mod letters;
mod logging;
mod memory;
mod monitoring;
mod network;
mod places;
mod planner;
mod priority;
mod process;
mod reload;
mod report;
mod review;
mod secrets;
mod traces;
mod traps;
mod unreadable;
mod worker;
