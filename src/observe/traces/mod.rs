//! What does a tracing system see of a request? With the cargo feature `otlp`, and where `OTEL_EXPORTER_OTLP_ENDPOINT` is
//! set, a span from its receipt to its settlement, and one in it for each look-up and each `POST`, by OTLP over HTTP.
//!
//! A span is made when what it is about has ended: nothing is held meanwhile, and no job knows of it.

#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod otlp;

#[cfg(not(feature = "otlp"))]
pub use off::Traces;
#[cfg(feature = "otlp")]
pub use otlp::Traces;
