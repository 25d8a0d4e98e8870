//! Publishing with confirms: by the worker, and from a planner's machine.

pub(in crate::broker) mod orders;
pub(in crate::broker) mod planner;
pub(in crate::broker) mod publisher;
