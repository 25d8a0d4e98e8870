//! How is a plan submitted without a broker? The plan's file is the queue and a journal beside it remembers: a second
//! source of requests for the same worker.
//!
//! [`Journal`] is `PLAN.results.jsonl`: what became of each row, and what was begun. [`Rows`] is the worker's
//! [`Source`](crate::worker::source::Source): it hands out the rows that the journal does not know the end of, as many at a
//! time as the window holds, and settles them in the journal. A row that was begun and has no result counts as
//! redelivered: it is looked up before it is sent.

mod journal;
mod order;
mod source;

pub use journal::{Head, Journal, Past, Writer};
pub use order::{Next, Order, order};
pub use source::{Held, Options, Rows, Trouble};
