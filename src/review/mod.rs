//! What is a dead letter, why did it die, and what can be done about it? The pure half of the review: no broker here.
//!
//! A [`DeadLetter`] is read from a [`crate::message::parcel::Parcel`]; dead letters with the same [`Cause`] form a [`Group`]; a [`Filter`] selects some;
//! an [`edit::Edit`] fixes bodies; every action leaves an [`crate::message::audit::Act`].

mod cause;
mod dead_letter;
pub mod edit;
pub mod file;
mod filter;
mod named;
pub mod schema;

pub use cause::{Cause, Group, groups, groups_of_results};
pub use dead_letter::{DeadLetter, Death, Past};
pub(crate) use dead_letter::{Unread, read_request};
pub use filter::Filter;
pub use named::Named;
