//! How are many questions asked beside a worker? Each waits for its permit, and is asked again while that may help: after a
//! 429, a failure, or with a new credential.

use std::future::Future;
use std::time::Duration;

use super::{Client, Got};
use crate::core::rate::Rate;
use crate::core::{Fault, Verdict, retry};

/// Who says when the next call may go.
pub trait Permits {
    /// Resolves when one call may go at once.
    ///
    /// # Errors
    /// No more calls may go: why, for people.
    fn permit(&mut self) -> impl Future<Output = Result<(), String>>;

    /// The API refused a call with a 429, and named this quota.
    fn refused(&mut self, named: Option<Rate>);
}

/// Why no more is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// What the account, or the way to it, suffers from, or what the API answered again and again.
    Fault(Fault),
    /// The credential is refused, and there is no other.
    Credential(Fault),
    /// No more calls may go.
    Denied(String),
}

/// What happens meanwhile, for people.
#[derive(Debug)]
pub enum Told<'a> {
    /// So many rows of a list have been read, of so many.
    Read { what: &'static str, rows: u32, of: u32 },
    /// The API refuses or fails: it is asked again after this.
    Waits(Duration, &'a Fault),
}

/// Whoever asks many questions.
pub(super) struct Asking<'a, P, F> {
    pub(super) client: &'a Client,
    permits: &'a mut P,
    retry: &'a retry::RetrySettings,
    told: F,
    jitter: retry::Jitter,
    pub(super) calls: u32,
}

impl<'a, P: Permits, F: FnMut(Told<'_>)> Asking<'a, P, F> {
    pub(super) fn new(
        client: &'a Client,
        permits: &'a mut P,
        retry: &'a retry::RetrySettings,
        told: F,
    ) -> Self {
        Self { client, permits, retry, told, jitter: retry::Jitter::new(), calls: 0 }
    }

    pub(super) fn say(&mut self, what: &'static str, offset: u32, rows: usize, of: u32) {
        let rows = offset.saturating_add(u32::try_from(rows).unwrap_or(u32::MAX));
        (self.told)(Told::Read { what, rows, of });
    }

    /// One question, asked again while it may help.
    pub(super) async fn ask<T, G: Future<Output = Got<T>>>(
        &mut self,
        question: impl Fn() -> G,
    ) -> Result<T, Stopped> {
        let (mut failures, mut renewed) = (0, false);
        loop {
            self.permits.permit().await.map_err(Stopped::Denied)?;
            self.calls += 1;
            let got = question().await;
            let (fault, wait) = match got.result {
                Ok(answer) => return Ok(answer),
                Err(Verdict::Throttled { fault, wait, limit }) => {
                    self.permits
                        .refused(limit.and_then(|(count, window)| Rate::new(count, window)));
                    (fault, wait.or(limit.map(|(_, window)| window)))
                }
                Err(Verdict::Unauthorized(fault)) => {
                    if renewed {
                        return Err(Stopped::Credential(fault));
                    }
                    renewed = true;
                    let refreshed = self.client.refresh(Some(got.generation)).await;
                    // What the API said of the credential tells more than that there is no other one; of an unsent call it
                    // is the other way round.
                    refreshed.map_err(|why| {
                        Stopped::Credential(if fault.status.is_some() { fault } else { why })
                    })?;
                    continue;
                }
                Err(Verdict::Transient { fault, .. } | Verdict::Ambiguous { fault, .. }) => {
                    (fault, None)
                }
                Err(verdict) => {
                    return Err(Stopped::Fault(verdict.fault().cloned().unwrap_or_default()));
                }
            };
            failures += 1;
            if failures >= self.retry.attempts {
                return Err(Stopped::Fault(fault));
            }
            let wait = wait.unwrap_or_else(|| retry::delay(self.retry, failures, &mut self.jitter));
            (self.told)(Told::Waits(wait, &fault));
            tokio::time::sleep(wait).await;
        }
    }
}
