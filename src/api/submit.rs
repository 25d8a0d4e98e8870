//! How does the worker use the client? As [`Submit`]: one call a permit, verdicts and listings only.

use bytes::Bytes;
use tokio::sync::watch;

use super::Client;
use crate::core::Trace;
use crate::core::{Fault, Listing, Query, Verdict};
use crate::worker::Submit;

impl Submit for Client {
    async fn post(&self, body: Bytes, trace: Option<&Trace>) -> (Verdict, u64) {
        let posted = Self::post(self, body, trace).await;
        (posted.verdict, posted.generation)
    }

    async fn list(&self, query: &Query, trace: Option<&Trace>) -> (Result<Listing, Verdict>, u64) {
        let got = Self::list(self, query, trace).await;
        (got.result, got.generation)
    }

    async fn refresh(&self, generation: Option<u64>) -> Result<u64, Fault> {
        Self::refresh(self, generation).await
    }

    fn renewals(&self) -> Option<watch::Receiver<u64>> {
        Some(Self::renewals(self))
    }
}
