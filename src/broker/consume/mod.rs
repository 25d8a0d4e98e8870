//! From a delivery to a job: what is received is kept in memory or on disk, and becomes a [`source`](crate::worker::source)
//! of requests.

pub(in crate::broker) mod common;
pub(in crate::broker) mod delivery;
pub(in crate::broker) mod source;
pub(in crate::broker) mod taker;
