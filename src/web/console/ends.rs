//! When will a batch be through, and what does it wait for? The forecast that `sluice watch` tells, asked of this worker's
//! loop and kept for a moment, however many look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use maud::{Markup, html};
use uuid::Uuid;

use super::LaneView;
use super::follow::Seen;
use super::page::clock;
use crate::message::command::{Command, IssuedCommand};
use crate::message::status::SessionStatus;
use crate::message::words::roughly;
use crate::report::outlook::{Left, Outlook};
use crate::report::progress::BatchProgress;
use crate::report::text::grouped;
use crate::web::http::control::give;

/// As old as `sluice watch` lets its own become.
const FRESH: Duration = Duration::from_secs(5);
/// A page waits so long for what is not known at all; its next turn has it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of more batches on one page nobody works out an end: the latest have one.
const MOST: usize = 10;
/// What nobody has looked at for so long is forgotten.
const KEPT: Duration = Duration::from_secs(60);

type Key = (String, Option<Uuid>);
/// `Err`: why nobody can tell.
type Told = Result<Outlook, String>;

/// What was heard last of each batch.
#[derive(Debug, Default)]
pub(super) struct Latest {
    heard: Mutex<BTreeMap<Key, (Instant, Told)>>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
}

/// What a page tells of the ends of its batches.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<Key, Told>);

fn key(one: &BatchProgress) -> Key {
    (one.batch.clone(), one.run)
}

/// The requests of a batch that have no result yet, if it is open and was announced.
fn left(one: &BatchProgress) -> Option<u64> {
    one.total()?.checked_sub(one.settled()).filter(|left| *left > 0)
}

/// The latest open batches of these.
pub(super) fn open<'a>(batches: impl Iterator<Item = &'a BatchProgress>) -> Vec<(Key, u64)> {
    let mut open: Vec<_> = batches.filter_map(|one| Some((one, left(one)?))).collect();
    open.sort_by_key(|(one, _)| std::cmp::Reverse(one.begun_at()));
    open.truncate(MOST);
    open.into_iter().map(|(one, left)| (key(one), left)).collect()
}

impl LaneView {
    /// The ends of those that `which` picks; what is not known yet comes with the page's next turn.
    pub(super) async fn ends(
        self: &Arc<Self>,
        which: impl FnOnce(&Seen) -> Vec<(Key, u64)>,
    ) -> Ends {
        let open = self.results(which);
        let lane = Arc::clone(self);
        let wanted = open.clone();
        // It goes on beside the page, which does not wait for all of it.
        let asked = tokio::spawn(async move { lane.ask_ends(wanted).await });
        let _ = tokio::time::timeout(PATIENCE, asked).await;
        let heard = self.ends.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(key, _)| Some((Key::clone(&key), heard.get(&key)?.1.clone()));
        Ends(open.into_iter().filter_map(known).collect())
    }

    async fn ask_ends(&self, open: Vec<(Key, u64)>) {
        let _one = self.ends.asking.lock().await;
        for (key, left) in open {
            let is_fresh = {
                let heard = self.ends.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.get(&key).is_some_and(|(at, _)| at.elapsed() < FRESH)
            };
            if !is_fresh {
                let told = self.ask_end(&key, left).await;
                let mut heard = self.ends.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.retain(|_, (at, _)| at.elapsed() < KEPT);
                heard.insert(key, (Instant::now(), told));
            }
        }
    }

    async fn ask_end(&self, (batch, run): &Key, requests: u64) -> Told {
        if let SessionStatus::Standby { .. } = self.lane.status.borrow().session {
            return Err("this worker is a standby: the active one's console tells it".to_owned());
        }
        let command = Command::Load { batch: Some(batch.clone()), run: *run };
        let issued = IssuedCommand { command, by: "console".to_owned(), reason: None };
        let (_, answer) = give(&self.lane.status, &self.lane.orders, issued).await;
        let (status, held) = answer.status.zip(answer.load).ok_or(answer.said)?;
        let work = move || Outlook::of(Left { requests, held: &held }, &status, Timestamp::now());
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
    }
}

impl Ends {
    /// In a few words, for a table; with `whole`, what it waits for in a sentence.
    pub(super) fn of(&self, one: &BatchProgress, now: Timestamp, whole: bool) -> Markup {
        let told = match self.0.get(&key(one)) {
            None => return html! { span.soft { "being worked out" } },
            Some(Err(why)) if whole => return html! { span.soft { "not known (" (why) ")" } },
            Some(Err(_)) => return html! { span.soft { "not known here" } },
            Some(Ok(told)) => told,
        };
        html! {
            @if let Some(end) = told.end {
                @let left = end.duration_since(now).as_secs().max(1).unsigned_abs();
                "about " (clock(end)) ", in " (roughly(left))
            } @else if told.waits.is_none() { span.soft { "cannot be foreseen" } }
            @if let Some((reason, why)) = &told.waits {
                @if told.end.is_some() { "; " }
                span.soft { @if whole { "waiting: " (why) } @else { "waiting (" (reason) ")" } }
                @if let Some(first) = told.first { span.soft { ", the first goes at " (clock(first)) } }
            }
            @if told.on_hold > 0 { span.soft { ", without " (grouped(told.on_hold)) " on hold" } }
        }
    }
}
