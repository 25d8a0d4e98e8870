//! What can a reviewer do with dead letters? See them, send them again, fix them, take them out and put them back.
//!
//! Each task is one short pass over the queue ([`crate::broker::dead_letters::pass`]): nothing is held while a person thinks. What moves is
//! first published (where it goes, and to the audit, both confirmed), and only then acknowledged, so a crash at any point
//! leaves a dead letter at worst in both places: sent twice, the worker's look-up finds the first.

mod back;
mod lock;
mod moves;
mod parcels;
mod pass;
mod snapshot;
mod taking;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

pub use moves::ReviewAction;
pub(super) use snapshot::whole;
pub use snapshot::{Found, Preview, Snapshot};

use crate::broker::connection::link::SessionLost;
use crate::broker::control::short_connection::ShortConnection;
use crate::broker::convert::Outgoing;
use crate::broker::convert::short;
use crate::broker::dead_letters::pass::{NoPass, ReviewPass, Terms};
use crate::broker::publish::planner::PlannerError;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::audit::Acts;
use crate::broker::topology::TopologyError;
use crate::contract::Rules;
use crate::message::audit::{Act, Action, AuditEntry, By, UnreadableAct};
use crate::message::parcel::Parcel;
use crate::worker::bodies::Spill;

/// How many dead letters are on their way at once.
pub(super) const IN_FLIGHT: usize = 64;

/// Dead letters without their bodies may take so many times as much memory as bodies: there are tens of thousands of them.
const LETTERS: u64 = 4;
/// But no less than as many take as a pass holds: else a small bound for bodies would hide dead letters.
const LETTERS_LEAST: u64 = 256 << 20;

/// The most dead letters that one pass holds: a few kilobytes each, without their bodies.
pub const MOST: u32 = 30_000;

/// The reviewer's end of the broker.
#[derive(Clone, Debug)]
pub struct Review {
    pub settings: Settings,
    pub queues: Queues,
    pub rules: Rules,
    /// Bytes of bodies that a pass keeps in memory; the rest waits in a temporary file.
    pub max_bytes: u64,
    /// How long to wait for another reviewer.
    pub patience: Duration,
    /// Who reviews: what another one who has to wait is told.
    pub who: String,
    /// Told once, when somebody else is at it, who that is.
    pub on_wait: fn(&str),
    /// Told of what stands in the audit and cannot be read, where acts are looked for.
    pub on_unreadable: fn(&UnreadableAct),
    /// The most dead letters of a pass; more are reviewed in parts. 65,535 at most.
    pub most: u32,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MoveProgress {
    /// Dead letters that have moved, repeats counted once.
    pub moved: usize,
    pub of: usize,
    /// More dead letters in the queue than one pass can hold: so many were not looked at.
    pub left: u32,
}

/// Watches an order while it runs, and may stop it.
pub trait Attend: Send {
    /// Called before the first dead letter and after every one; `false`: no more are begun.
    fn progress(&mut self, progress: MoveProgress) -> bool;
}

impl<F: FnMut(MoveProgress) -> bool + Send> Attend for F {
    fn progress(&mut self, progress: MoveProgress) -> bool {
        self(progress)
    }
}

/// Why a review did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    #[error(transparent)]
    Unreachable(#[from] TopologyError),
    #[error("the audit cannot be read: {0}")]
    Audit(#[from] PlannerError),
    #[error("{0}; nothing was done, try again in a moment")]
    Busy(String),
    #[error("{} dead letters would still be invalid; nothing was moved", .0.len())]
    Invalid(Vec<Preview>),
    #[error(
        "there is no dead-letter queue on the broker ({0}): start the worker once, or run `sluice topology apply`; if it was, check queues.prefix"
    )]
    Missing(SessionLost),
    #[error("{}", lost(.progress, .why))]
    Lost { progress: MoveProgress, why: SessionLost },
    #[error("the temporary file cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Nothing(String),
}

/// What is known after a loss, and what is not: whatever was on its way may have arrived or not, and the broker may not
/// have read every acknowledgement.
fn lost(progress: &MoveProgress, why: &SessionLost) -> String {
    let MoveProgress { moved, of, .. } = progress;
    if *of == 0 {
        return format!("the connection to the broker was lost before anything had moved: {why}");
    }
    let unsure = IN_FLIGHT.min(of - moved);
    format!(
        "the connection to the broker was lost: {why}. {moved} of {of} dead letters have moved for certain, {unsure} more may have, and some of them may lie in the queue as well. Nothing is lost; list what is there before you go on (what is sent twice is created once)"
    )
}

impl From<SessionLost> for ReviewError {
    /// Before anything has moved: what is not there was never declared.
    fn from(why: SessionLost) -> Self {
        if why.0.contains("NOT_FOUND") {
            return Self::Missing(why);
        }
        Self::Lost { progress: MoveProgress::default(), why }
    }
}

impl From<NoPass> for ReviewError {
    fn from(no: NoPass) -> Self {
        match no {
            NoPass::Busy(why) => Self::Busy(why),
            NoPass::Lost(why) => why.into(),
        }
    }
}

impl Review {
    /// A review with 64 MiB of bodies in memory, that waits half a minute for another reviewer.
    pub fn new(settings: &Settings, queues: &Queues, rules: Rules) -> Self {
        Self {
            settings: settings.clone(),
            queues: queues.clone(),
            rules,
            max_bytes: 64 << 20,
            patience: Duration::from_secs(30),
            who: "somebody".into(),
            on_wait: |_| {},
            on_unreadable: |_| {},
            most: MOST,
        }
    }

    async fn tool(&self) -> Result<ShortConnection, TopologyError> {
        ShortConnection::connect(&self.settings, &self.queues, "review").await
    }

    async fn pass<'a>(&self, tool: &'a ShortConnection) -> Result<ReviewPass<'a>, NoPass> {
        let terms = Terms {
            rules: &self.rules,
            spill: &Spill::new(self.max_bytes),
            room: (LETTERS * self.max_bytes).max(LETTERS_LEAST),
            who: &self.who,
            most: self.most,
            patience: self.patience,
            on_wait: self.on_wait,
        };
        ReviewPass::take(tool, &terms).await
    }

    /// Everything that lies in the queue, in one pass.
    ///
    /// # Errors
    /// The broker is unreachable, or somebody else reviews for too long.
    pub async fn list(&self) -> Result<Snapshot, ReviewError> {
        let review = self.clone();
        to_the_end(async move { review.list_now().await }).await
    }

    async fn list_now(&self) -> Result<Snapshot, ReviewError> {
        let tool = self.tool().await?;
        let mut pass = self.pass(&tool).await?;
        let letters = std::mem::take(&mut pass.entries).into_iter().map(Found::from).collect();
        let snapshot = Snapshot { at: Timestamp::now(), letters, left: pass.left };
        pass.requeue().await?;
        tool.close().await;
        Ok(snapshot)
    }

    /// Writes something down about a dead letter.
    ///
    /// # Errors
    /// The broker is unreachable.
    pub async fn note(&self, letter: Uuid, by: &By) -> Result<Act, ReviewError> {
        let tool = self.tool().await?;
        let act = Act { letter: Some(letter), ..Act::new(Action::Note, by, Timestamp::now()) };
        tool.record(&act).await?;
        tool.close().await;
        Ok(act)
    }

    /// The acts that `wanted` wants, oldest first. `wanted` sees every act, and only what it wants is kept in memory.
    ///
    /// # Errors
    /// The broker is unreachable.
    pub async fn acts(
        &self,
        mut wanted: impl FnMut(&Act) -> bool,
    ) -> Result<Vec<Act>, ReviewError> {
        let mut found = Vec::new();
        let take = |entry| match entry {
            AuditEntry::Act(act) if wanted(&act) => found.push(*act),
            AuditEntry::Act(_) => {}
            AuditEntry::Unreadable(entry) => (self.on_unreadable)(&entry),
        };
        self.audit(take).await?;
        Ok(found)
    }

    /// All that stands in the audit, oldest first: acts, and what cannot be read as one.
    ///
    /// # Errors
    /// The broker is unreachable.
    pub async fn audit(&self, mut take: impl FnMut(AuditEntry)) -> Result<(), ReviewError> {
        let mut acts = Acts::open(&self.settings, &self.queues).await?;
        while let Some(entry) = acts.next().await? {
            take(entry);
        }
        acts.close().await;
        Ok(())
    }
}

/// The message that puts a dead letter into the queue.
pub(super) fn letter_message(queues: &Queues, parcel: &Parcel) -> Outgoing {
    Outgoing {
        exchange: short(&queues.review()),
        key: short(&queues.dead_letters()),
        body: parcel.body.clone(),
        properties: parcels::properties(parcel),
    }
}

/// Goes on when nobody waits any more (a page that was left, say): dropped half way, its connection would keep the lock
/// until the broker misses a heartbeat.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
