//! Tests that talk to a real RabbitMQ.

mod broker;
mod control;
mod examples;
mod lanes;
mod monitoring;
mod network;
mod places;
mod planner;
mod process;
mod review;
mod worker;
