//! Commands of operators on their way to the active worker, and the connection that such a task opens.

pub(in crate::broker) mod steer;
pub(in crate::broker) mod tool;
