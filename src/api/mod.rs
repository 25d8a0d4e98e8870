//! See lib.rs.

pub mod settings;
