//! A connection to the broker: how it is opened, and how everybody who uses it learns that it is lost.

pub(in crate::broker) mod connect;
pub(in crate::broker) mod link;
