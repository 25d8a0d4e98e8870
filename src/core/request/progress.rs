//! What has been tried for a run, and what has it left open?

use std::time::Duration;

use jiff::Timestamp;

use crate::core::outcome::Try;
use crate::core::sparse::{Blank, Sparse};
use crate::core::time::Moment;
use crate::core::verdict::Fault;

/// Whether the job may be sent, or must be looked up first.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Doubt {
    /// Nothing says that there may be a task already.
    #[default]
    None,
    /// In doubt: it must be looked up.
    LookUp {
        /// One look-up that finds nothing is enough: no `POST` for this source server can still be on its way.
        once: bool,
        /// When the first look-up that found nothing was begun; the second begins `api.look_again` later.
        first: Option<Moment>,
        /// The API's answer that a task is in the way, if that is what raised the doubt.
        conflict: Option<Box<Fault>>,
    },
    /// A conflict, and two look-ups at the source server found nothing: all tasks are listed for its target server.
    Target(Box<Fault>),
}

/// What has been tried for a run so far. It outlives a delivery that is requeued. Of most requests that are held nothing
/// has been tried.
pub type Progress = Sparse<Tried>;

/// The attempts and look-ups of a run, and what they left open.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Attempts (`POST`s) that count against `retry.attempts`.
    pub counted: u32,
    /// The latest attempt failed, and is counted when a look-up shows that the API answers.
    pub uncounted: bool,
    /// All attempts.
    pub attempts: u32,
    /// Look-ups made for this run.
    pub look_ups: u32,
    pub first_attempt_at: Option<Timestamp>,
    /// The same on the monotonic clock, for `retry.max_age`.
    pub first_attempt: Option<Moment>,
    /// When the first of its deliveries was received, where the request does not say when it was enqueued.
    pub first_received: Option<Moment>,
    /// How long the core had kept everything back when it was attempted first: such time is no age.
    pub kept_before: Duration,
    pub doubt: Doubt,
    /// When the look-up that ended the latest doubt was begun: what the worker has learned since raises a new one.
    pub cleared: Moment,
    /// Not before this moment: a retry's delay, or the second look-up's.
    pub until: Moment,
    /// Attempts that failed, and look-ups that failed in a row: what the delay of the next one grows with.
    pub failures: u32,
    pub look_up_failures: u32,
    /// When it failed or was refused last; [`Moment::START`]: never.
    pub troubled: Moment,
    /// How often the account has refused it, and how often of these it was the request's own trouble.
    pub refusals: u32,
    pub strikes: u32,
    /// How many requests had been created when it was refused last.
    pub created_then: u64,
    /// It was refused last where others were not.
    pub aside: bool,
    /// 429s in a row.
    pub throttles: u32,
    /// The generation of the token with which it was answered 401 last, until a fresher one was.
    pub refused_token: Option<u64>,
    /// How long its look-ups have failed while those of others succeeded; and when the latest failed, and how long the core had
    /// kept everything back by then.
    pub blind: Duration,
    pub blind_since: Option<(Moment, Duration)>,
    /// What the latest failure said.
    pub fault: Option<Box<Fault>>,
    /// The latest tries, oldest first; bounded by the core.
    pub history: Vec<Try>,
}

impl Blank for Tried {
    const BLANK: &'static Self = &Self {
        counted: 0,
        uncounted: false,
        attempts: 0,
        look_ups: 0,
        first_attempt_at: None,
        first_attempt: None,
        first_received: None,
        kept_before: Duration::ZERO,
        doubt: Doubt::None,
        cleared: Moment::START,
        until: Moment::START,
        failures: 0,
        look_up_failures: 0,
        troubled: Moment::START,
        refusals: 0,
        strikes: 0,
        created_then: 0,
        aside: false,
        throttles: 0,
        refused_token: None,
        blind: Duration::ZERO,
        blind_since: None,
        fault: None,
        history: Vec::new(),
    };
}
