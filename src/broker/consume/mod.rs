//! From a delivery to a job: what is received is kept in memory or on disk, and becomes a job.

pub(in crate::broker) mod delivery;
pub(in crate::broker) mod interner;
pub(in crate::broker) mod receiver;
