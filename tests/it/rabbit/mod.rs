//! Tests that talk to a real RabbitMQ.

mod broker;
mod monitoring;
mod process;
mod review;
mod worker;
