//! Reading a configuration: TOML, environment and flags into one tree whose values know where they come from, and the tree
//! into structs, with all that is wrong at once. It knows no section.

mod problem;
pub(crate) mod read;
pub(crate) mod show;
pub(crate) mod tree;
mod trouble;
pub mod values;

pub use problem::{Problem, Problems};
