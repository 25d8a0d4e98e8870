//! Tests that talk to a real RabbitMQ.

mod broker;
mod process;
mod review;
mod worker;
