//! The pure core: what a request is, what an answer means, what goes next and when. It does no input or output and
//! never asks the time; it is told [`Now`].

#[macro_use]
mod labels;

pub mod away;
pub mod breaker;
pub mod engine;
pub mod gate;
pub mod judge;
pub mod limits;
pub mod memory;
pub mod orders;
pub mod outcome;
pub mod rate;
pub mod record;
pub mod request;
pub mod retry;
pub mod running;
pub mod schedule;
pub mod sparse;
pub mod sweep;
pub mod text;
pub mod time;
pub mod trace;
pub mod verdict;
pub mod window;

pub use engine::{
    Core, Fetch, Fetched, Hot, Input, Obeyed, Question, Reply, Settings, Steer, Step,
};
pub use judge::Found;
pub use limits::Limits;
pub use orders::{Change, Order, Orders, Target};
pub use outcome::{Ending, Outcome, Settlement, Try};
pub use rate::{Rate, RateError};
pub use request::{Doubt, Job, Parts, Progress, Rare, Request, RowNumber, Run, Shared, Stamp};
pub use sparse::Sparse;
pub use text::Text;
pub use time::{Moment, Now};
pub use trace::Trace;
pub use verdict::{Fault, FaultDetail, Listing, Query, Task, Verdict, VerdictKind};

/// How what is remembered is hashed: from a seed, so that nothing depends on the process it happens in.
pub(crate) type Hashes = foldhash::quality::FixedState;
