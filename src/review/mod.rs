//! What is a dead letter, why did it die, and what can be done about it? The pure half of the review: no broker here.
//!
//! A [`Letter`] is read from a [`crate::message::parcel::Parcel`]; letters with the same [`Cause`] form a [`Group`]; a [`Filter`] selects some;
//! an [`edit::Edit`] mends bodies; every action leaves an [`crate::message::audit::Act`].

mod cause;
pub mod edit;
pub mod file;
mod filter;
mod letter;
pub mod schema;

pub use cause::{Cause, Group, groups};
pub use filter::Filter;
pub use letter::{Death, Letter, Past};
pub(crate) use letter::{Unread, read_request};
