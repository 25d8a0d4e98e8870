//! The pure core: what a request is, what an answer means, what goes next and when. It does no input or output and
//! never asks the time; it is told [`Now`].

pub mod away;
pub mod breaker;
pub mod engine;
pub mod gate;
pub mod judge;
pub mod limits;
pub mod memory;
pub mod outcome;
pub mod rate;
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

pub use engine::{Core, Hot, Settings, Step};
pub use limits::Limits;
pub use outcome::{Ending, Outcome, Settlement, Try};
pub use rate::{Rate, RateError};
pub use request::{Doubt, Job, Parts, Progress, Rare, Request, Row, Run, Shared, Stamp};
pub use sparse::Sparse;
pub use text::Text;
pub use time::{Moment, Now};
pub use trace::Trace;
pub use verdict::{Fault, FaultDetail, Listing, Query, Task, Verdict};
