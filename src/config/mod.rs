//! What did the operator ask for?
//!
//! Every section is a struct that derives `Deserialize` and `Debug` and stands with the module it configures
//! ([`crate::api`], [`crate::broker`], ...). The embedded `config/sluice.toml` holds every default, so the structs have
//! none: a key without a default is an `Option`. Unknown keys are found by the reader, so no `deny_unknown_fields`.
//! How values are written: [`values`].

pub mod values;
