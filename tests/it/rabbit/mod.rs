//! Tests that talk to a real RabbitMQ.

mod broker;
mod monitoring;
mod network;
mod planner;
mod process;
mod review;
mod worker;
