//! The two streams, results and audit: read from any point on, once or for as long as somebody follows.

pub mod announced;
pub(in crate::broker) mod audit;
pub mod follow;
pub(in crate::broker) mod reader;
