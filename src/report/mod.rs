//! How far a batch has come, and what became of it, for people.

pub mod batches;
pub mod export;
pub mod new_file;
pub mod outlook;
pub mod planned;
pub mod progress;
pub mod text;
