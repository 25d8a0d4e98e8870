//! Commands of operators on their way to the active worker, and the connection that such a task opens.

pub(in crate::broker) mod leasing;
pub(in crate::broker) mod short_connection;
pub(in crate::broker) mod steer;
