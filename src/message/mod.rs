//! Everything that other programs see: requests as they are read, results, dead letters, commands, audit entries, the
//! status.

pub mod audit;
pub(crate) mod bug;
pub mod command;
mod dead_letter;
pub mod generation;
pub mod headers;
pub mod intake;
pub mod parcel;
pub mod result;
pub mod status;
pub(crate) mod words;
