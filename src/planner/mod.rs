//! A plan on its way: enqueued to the broker, or submitted without one.

pub mod batch;
pub mod changes;
pub mod enqueue;
mod lines;
pub mod submit;

pub use lines::JournalError;
