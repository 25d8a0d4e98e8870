//! What does a computation cost, whatever else the machine does meanwhile? The processor's time of this thread.

use std::time::Duration;

/// The time that a processor has spent on this thread so far.
pub(crate) fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
