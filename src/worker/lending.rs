//! What does the worker say to another process that wants to call the API? A part of its own limits, for a while.

use super::{Submit, Watch, Worker};
use crate::core::limits::Grant;
use crate::core::{Input, Now, Reply, Steer};
use crate::message::command::{Answer, Lease, PendingCommand};
use crate::worker::source::Source;

/// When it is worth asking again where nobody knows: what holds the worker up takes that long at least.
const AGAIN: f64 = 5.0;

impl<S, A, W> Worker<S, A, W>
where
    S: Source,
    A: Submit,
    W: Watch<S::Delivery>,
{
    /// Whoever asked may have gone: what was lent comes back by itself.
    pub(super) fn lend(&mut self, pending: PendingCommand, now: Now, calls: u32) {
        let answer = match self.core.take(now, Input::Ordered(Steer::Lend { calls })) {
            Reply::Lent(Ok(grant)) => {
                tracing::info!(by = %pending.issued.by, calls = grant.calls, seconds = grant.lasts.as_secs_f64(), "calls to the API are lent to another process");
                Answer { lease: Some(lease(grant)), ..Answer::done("") }
            }
            Reply::Lent(Err(unlent)) => {
                tracing::debug!(by = %pending.issued.by, why = %unlent, "no calls are lent to another process");
                let wait = unlent.until().map(|at| (at - now.at).as_secs_f64());
                let again_in = if unlent.is_final() { None } else { wait.or(Some(AGAIN)) };
                Answer { again_in, ..Answer::refused(unlent.to_string()) }
            }
            Reply::Nothing | Reply::Found(_) | Reply::Obeyed(_) => return,
        };
        let _ = pending.reply.send(answer);
    }
}

fn lease(grant: Grant) -> Lease {
    let margin_ms = u64::try_from(grant.margin.as_millis()).unwrap_or(u64::MAX);
    let seconds = grant.lasts.as_secs_f64();
    Lease { calls: grant.calls, seconds, rates: grant.rates, margin_ms }
}
