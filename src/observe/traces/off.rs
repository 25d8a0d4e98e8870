//! No spans: this is a build without the feature `otlp`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::Trace;
use crate::core::{Ending, Job, Now};
use crate::worker::Call;

/// Stands where spans would be made.
#[derive(Clone, Debug)]
pub struct Traces;

impl Traces {
    /// None, and a word about it where somebody expects spans.
    ///
    /// # Errors
    /// Never.
    pub fn from_env(env: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        if env.keys().any(|name| name.starts_with("OTEL_EXPORTER_OTLP_")) {
            tracing::warn!(
                "OTEL_EXPORTER_OTLP_* is set, but this sluice was built without the feature otlp"
            );
        }
        Ok(None)
    }

    /// The trace context that a call carries to the API.
    pub fn context<D>(&self, job: &Job<D>, _: Call) -> Option<Trace> {
        job.request.trace()
    }

    pub fn called<D>(&self, _: &Job<D>, _: Call, _: &str, _: Now, _: Duration) {}

    pub fn settled<D>(&self, _: &Job<D>, _: &Ending, _: Now) {}

    pub fn finish(&self) {}
}
