//! What can a reviewer do with dead letters? See them, send them again, mend them, take them out and put them back.
//!
//! Each task is one short pass over the queue: nothing is held while a person thinks. What moves is first published
//! (where it goes, and to the audit, both confirmed), and only then acknowledged, so a crash at any point leaves a
//! letter at worst in both places: sent twice, the worker's look-up finds the first.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::audit;
use super::convert::short;
use super::link::SessionLost;
use super::parcels;
use super::pass::{Entry, NoPass, Pass};
use super::planner::{PlannerError, coarse};
use super::publisher::Outgoing;
use super::settings::{Broker as Settings, Queues};
use super::spill::{Body, Spill};
use super::tool::Tool;
use super::topology::TopologyError;
use crate::contract::{self, Rules, Violation};
use crate::intake::header;
use crate::results;
use crate::review::audit::{Act, Action, By, undoable};
use crate::review::edit::{Difference, Edit, differences};
use crate::review::{Filter, Group, Letter, PAST, Parcel, Past, REQUEST_ID, groups};

/// How many letters are on their way at once.
const IN_FLIGHT: usize = 64;

/// How often a letter's past is remembered in its header, so that headers stay small.
const MOST_PAST: usize = 20;

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
}

/// What one pass saw. It holds nothing at the broker.
#[derive(Debug)]
pub struct Snapshot {
    pub at: Timestamp,
    pub letters: Vec<Found>,
    /// More letters than one pass can hold: so many were not looked at. They come to light when some of these are gone.
    pub left: u32,
}

/// A letter that a pass saw, with its body.
#[derive(Clone, Debug)]
pub struct Found {
    pub letter: Letter,
    parcel: Parcel,
    body: Arc<Body>,
}

/// What is to be done with the letters that are selected.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    Replay,
    Edit(Edit),
    Discard,
}

/// What an edit would do to one letter.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    pub id: Uuid,
    pub name: String,
    pub differences: Vec<Difference>,
    /// What would still be wrong with the body.
    pub violations: Vec<Violation>,
    /// Why it cannot be edited so at all.
    pub error: Option<String>,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Letters that have moved, repeats counted once.
    pub moved: usize,
    pub of: usize,
}

/// Watches an order while it runs, and may stop it.
pub trait Attend: Send {
    /// Called after every letter; `false`: no more are begun.
    fn progress(&mut self, progress: Progress) -> bool;
}

impl<F: FnMut(Progress) -> bool + Send> Attend for F {
    fn progress(&mut self, progress: Progress) -> bool {
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
    #[error(
        "somebody else is reviewing the dead letters just now (or another consumer reads their queue); try again in a moment"
    )]
    Busy,
    #[error("{} letters would still be invalid; nothing was moved", .0.len())]
    Invalid(Vec<Preview>),
    #[error("the connection to the broker was lost after {} of {} letters had moved: {why}; the others are still there", .progress.moved, .progress.of)]
    Lost { progress: Progress, why: SessionLost },
    #[error("the temporary file cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Nothing(String),
}

impl From<SessionLost> for ReviewError {
    fn from(why: SessionLost) -> Self {
        Self::Lost { progress: Progress::default(), why }
    }
}

impl From<NoPass> for ReviewError {
    fn from(no: NoPass) -> Self {
        match no {
            NoPass::Busy => Self::Busy,
            NoPass::Lost(why) => why.into(),
        }
    }
}

impl Found {
    /// # Errors
    /// The temporary file cannot be read.
    pub fn body(&self) -> std::io::Result<bytes::Bytes> {
        self.body.bytes()
    }

    /// The whole message, for an export.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn parcel(&self) -> std::io::Result<Parcel> {
        Ok(Parcel { body: self.body.bytes()?, ..self.parcel.clone() })
    }
}

impl Snapshot {
    /// The letters that are meant, in the order of the queue.
    pub fn select<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Found> {
        self.letters.iter().filter(|found| filter.matches(&found.letter, || found.body().ok()))
    }

    /// The letters that are meant, by cause.
    pub fn groups(&self, filter: &Filter) -> Vec<Group> {
        groups(self.select(filter).map(|found| &found.letter))
    }

    /// What an edit would do to each letter that is meant.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn preview(
        &self,
        filter: &Filter,
        edit: &Edit,
        rules: &Rules,
    ) -> std::io::Result<Vec<Preview>> {
        self.select(filter)
            .map(|found| Ok(preview(&found.letter, &found.body()?, edit, rules).1))
            .collect()
    }
}

/// The changed body, where it may be sent, and what to tell about it.
fn preview(
    letter: &Letter,
    body: &bytes::Bytes,
    edit: &Edit,
    rules: &Rules,
) -> (Option<bytes::Bytes>, Preview) {
    let mut told = Preview {
        id: letter.id,
        name: letter.name.clone(),
        differences: Vec::new(),
        violations: Vec::new(),
        error: None,
    };
    let new = match edit.apply(body) {
        Ok(new) => new,
        Err(error) => {
            told.error = Some(error.to_string());
            return (None, told);
        }
    };
    told.differences = differences(body, &new);
    if let Err(invalid) = contract::read(&new, rules) {
        told.violations = invalid.violations;
        return (None, told);
    }
    (Some(new), told)
}

impl Review {
    async fn tool(&self) -> Result<Tool, TopologyError> {
        Tool::connect(&self.settings, &self.queues, "review").await
    }

    async fn pass<'a>(&self, tool: &'a Tool) -> Result<Pass<'a>, NoPass> {
        Pass::take(tool, &self.rules, &Spill::new(self.max_bytes), self.patience).await
    }

    /// Everything that lies in the queue, in one pass.
    ///
    /// # Errors
    /// The broker is out of reach, or somebody else reviews for too long.
    pub async fn list(&self) -> Result<Snapshot, ReviewError> {
        let review = self.clone();
        to_the_end(async move { review.list_now().await }).await
    }

    async fn list_now(&self) -> Result<Snapshot, ReviewError> {
        let tool = self.tool().await?;
        let pass = self.pass(&tool).await?;
        let letters = pass.entries.iter().map(|entry| Found {
            letter: entry.letter.clone(),
            parcel: entry.parcel.clone(),
            body: Arc::clone(&entry.body),
        });
        let snapshot =
            Snapshot { at: Timestamp::now(), letters: letters.collect(), left: pass.left };
        pass.give_back().await?;
        tool.close().await;
        Ok(snapshot)
    }

    /// Does `order` to every letter that is meant. An edit that would leave any of them invalid moves none. It goes on
    /// when nobody waits for it any more; only `attend` stops it.
    ///
    /// # Errors
    /// See [`ReviewError`]; what has moved until then has moved for good, and is in the audit.
    pub async fn act(
        &self,
        filter: &Filter,
        order: &Order,
        by: &By,
        attend: impl Attend + 'static,
    ) -> Result<Progress, ReviewError> {
        let (review, filter, order, by) = (self.clone(), filter.clone(), order.clone(), by.clone());
        to_the_end(async move { review.act_now(&filter, &order, &by, attend).await }).await
    }

    async fn act_now(
        &self,
        filter: &Filter,
        order: &Order,
        by: &By,
        mut attend: impl Attend,
    ) -> Result<Progress, ReviewError> {
        let tool = self.tool().await?;
        let mut pass = self.pass(&tool).await?;
        let result = match self.select(&mut pass.entries, filter, order) {
            Ok(selected) => {
                let now = Timestamp::now();
                let begin = |entry: Entry| self.begin(entry, order, by, now);
                carry_out(&tool, &mut pass, selected, begin, &mut attend).await
            }
            Err(error) => Err(error),
        };
        // After a lost connection the broker gives back by itself.
        let back = pass.give_back().await;
        tool.close().await;
        let progress = result?;
        back.map_err(|why| ReviewError::Lost { progress, why })?;
        Ok(progress)
    }

    /// Takes the letters that are meant out of `entries`. Of an edit all bodies are tried first, one at a time: what is
    /// held in memory does not grow with the selection.
    fn select(
        &self,
        entries: &mut Vec<Entry>,
        filter: &Filter,
        order: &Order,
    ) -> Result<Vec<Entry>, ReviewError> {
        let (selected, others): (Vec<Entry>, Vec<Entry>) = std::mem::take(entries)
            .into_iter()
            .partition(|entry| filter.matches(&entry.letter, || entry.body.bytes().ok()));
        *entries = others;
        let mut invalid = Vec::new();
        if let Order::Edit(edit) = order {
            for entry in &selected {
                if let (None, told) =
                    preview(&entry.letter, &entry.body.bytes()?, edit, &self.rules)
                {
                    invalid.push(told);
                }
            }
        }
        if invalid.is_empty() {
            return Ok(selected);
        }
        entries.extend(selected);
        Err(ReviewError::Invalid(invalid))
    }

    /// The messages that move one letter.
    fn begin(
        &self,
        entry: Entry,
        order: &Order,
        by: &By,
        now: Timestamp,
    ) -> Result<Move, ReviewError> {
        let Entry { letter, body, parcel, tags } = entry;
        let body = body.bytes()?;
        let before = Parcel { body: body.clone(), ..parcel };
        let (action, after) = match order {
            Order::Discard => (Action::Discard, None),
            Order::Replay => (Action::Replay, Some(again(&letter, &before, body, now))),
            Order::Edit(edit) => {
                let new =
                    edit.apply(&body).map_err(|error| ReviewError::Nothing(error.to_string()))?;
                (Action::Edit, Some(again(&letter, &before, new, now)))
            }
        };
        let act = Act {
            letter: Some(letter.id),
            cause: Some(letter.cause.in_a_line()),
            before: Some(before),
            after: after.clone().filter(|_| action == Action::Edit),
            ..Act::new(action, by, now)
        };
        // The audit first: nothing moves that is not in it.
        let mut messages = vec![audit::message(&act, &self.queues)];
        if let Some(after) = after {
            let level = coarse(letter.priority, self.queues.max_priority);
            messages.push(Outgoing {
                exchange: short(""),
                key: short(&self.queues.requests()),
                body: after.body.clone(),
                properties: parcels::properties(&after).with_priority(level),
            });
        }
        Ok(Move { messages, tags })
    }

    /// Puts back what the acts took away, as it was before: all that are named and were not undone yet.
    ///
    /// # Errors
    /// None of them can be undone, or the broker is out of reach.
    pub async fn restore(&self, named: &[String], by: &By) -> Result<Vec<Act>, ReviewError> {
        let acts = self.acts(|_| true).await?;
        let tool = self.tool().await?;
        let is_named = |act: &Act| {
            let ids = [Some(act.id), act.letter].into_iter().flatten().map(|id| id.to_string());
            ids.into_iter().any(|id| {
                named.iter().any(|name| name.len() >= 8 && id.starts_with(&name.to_lowercase()))
            })
        };
        let mut seen = std::collections::HashSet::new();
        let now = Timestamp::now();
        let mut restored = Vec::new();
        // The newest of each letter only: an older one was followed by something else.
        for act in
            undoable(&acts).into_iter().filter(|act| is_named(act) && seen.insert(act.letter))
        {
            let Some(before) = act.before.clone() else { continue };
            let undo = Act {
                letter: act.letter,
                cause: act.cause.clone(),
                undoes: Some(act.id),
                ..Act::new(Action::Restore, by, now)
            };
            let back = self.letter_message(&before);
            tool.publisher.publish(vec![audit::message(&undo, &self.queues), back]).await?;
            restored.push(undo);
        }
        tool.close().await;
        if restored.is_empty() {
            return Err(ReviewError::Nothing(
                "nothing of that name can be undone: name an act or a letter that was discarded or edited, and not restored since".into(),
            ));
        }
        Ok(restored)
    }

    /// Puts letters of an exported file into the queue.
    ///
    /// # Errors
    /// The broker did not take all of them: how many it did.
    pub async fn import(
        &self,
        parcels: &[Parcel],
        by: &By,
        attend: &mut dyn Attend,
    ) -> Result<Progress, ReviewError> {
        let tool = self.tool().await?;
        let mut progress = Progress { moved: 0, of: parcels.len() };
        for parcel in parcels {
            let letter = Letter::read(parcel, None, &self.rules);
            let act = Act {
                letter: Some(letter.id),
                cause: Some(letter.cause.in_a_line()),
                ..Act::new(Action::Import, by, Timestamp::now())
            };
            let messages = vec![audit::message(&act, &self.queues), self.letter_message(parcel)];
            tool.publisher
                .publish(messages)
                .await
                .map_err(|why| ReviewError::Lost { progress, why })?;
            progress.moved += 1;
            if !attend.progress(progress) {
                break;
            }
        }
        tool.close().await;
        Ok(progress)
    }

    /// Writes something down about a letter.
    ///
    /// # Errors
    /// The broker is out of reach.
    pub async fn note(&self, letter: Uuid, by: &By) -> Result<Act, ReviewError> {
        let tool = self.tool().await?;
        let act = Act { letter: Some(letter), ..Act::new(Action::Note, by, Timestamp::now()) };
        tool.record(&act).await?;
        tool.close().await;
        Ok(act)
    }

    /// The acts that `wanted` wants, oldest first.
    ///
    /// # Errors
    /// The broker is out of reach.
    pub async fn acts(&self, wanted: impl Fn(&Act) -> bool) -> Result<Vec<Act>, ReviewError> {
        Ok(audit::acts(&self.settings, &self.queues, wanted).await?)
    }

    fn letter_message(&self, parcel: &Parcel) -> Outgoing {
        Outgoing {
            exchange: short(&self.queues.dead_letters()),
            key: short(""),
            body: parcel.body.clone(),
            properties: parcels::properties(parcel),
        }
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

/// One letter on its way.
struct Move {
    messages: Vec<Outgoing>,
    tags: Vec<u64>,
}

/// Publishes and acknowledges, [`IN_FLIGHT`] at once.
async fn carry_out(
    tool: &Tool,
    pass: &mut Pass<'_>,
    selected: Vec<Entry>,
    begin: impl Fn(Entry) -> Result<Move, ReviewError>,
    attend: &mut dyn Attend,
) -> Result<Progress, ReviewError> {
    let mut progress = Progress { moved: 0, of: selected.len() };
    let mut copies = 0;
    let mut waiting = selected.into_iter();
    let mut going = true;
    let mut failed = None;
    {
        let held: &Pass<'_> = pass;
        let mut under_way = FuturesUnordered::new();
        loop {
            while going
                && under_way.len() < IN_FLIGHT
                && let Some(entry) = waiting.next()
            {
                match begin(entry) {
                    Ok(one) => under_way.push(async move {
                        tool.publisher.publish(one.messages).await?;
                        held.acknowledge(&one.tags).await?;
                        Ok::<usize, SessionLost>(one.tags.len())
                    }),
                    Err(error) => {
                        failed = Some(error);
                        going = false;
                    }
                }
            }
            match under_way.next().await {
                Some(Ok(acknowledged)) => {
                    copies += acknowledged;
                    progress.moved += 1;
                    going = attend.progress(progress) && going;
                }
                Some(Err(why)) => {
                    failed = Some(ReviewError::Lost { progress, why });
                    break;
                }
                None => break,
            }
        }
    }
    pass.count_acknowledged(copies);
    pass.entries.extend(waiting);
    match failed {
        Some(error) => Err(error),
        None => Ok(progress),
    }
}

/// The request as it is sent again: the reason it died left behind in its past, one replay more, retries afresh.
fn again(letter: &Letter, before: &Parcel, body: bytes::Bytes, now: Timestamp) -> Parcel {
    let mut headers = before.headers.clone();
    let mut past = letter.past.clone();
    past.push(Past::of(letter));
    let old = past.len().saturating_sub(MOST_PAST);
    // Texts, numbers and times: nothing of it can fail to be written.
    let past = serde_json::to_string(&past.split_off(old)).unwrap_or_default();
    headers.retain(|name, _| !results::header::ALL.contains(&name.as_str()) && name != REQUEST_ID);
    headers.insert(PAST.into(), past.into());
    headers.insert(header::REPLAY.into(), (letter.replay.saturating_add(1)).to_string().into());
    // A deadline that has passed would end it at once, which is not what a reviewer means by sending it again.
    let deadline = before.header(header::DEADLINE).and_then(|text| text.parse::<Timestamp>().ok());
    if deadline.is_some_and(|deadline| deadline <= now) {
        headers.remove(header::DEADLINE);
    }
    Parcel { message_id: Some(letter.request_id.clone()), headers, body, ..before.clone() }
}
