//! How do dead letters leave the queue? Replayed, fixed or discarded, each by itself: what becomes of it is published and
//! confirmed, the audit's act included, and only then it is acknowledged.

use std::io;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use uuid::Uuid;

use super::snapshot::{preview, whole};
use super::{Attend, IN_FLIGHT, MoveProgress, Review, ReviewError, to_the_end};
use crate::broker::connection::link::SessionLost;
use crate::broker::control::short_connection::ShortConnection;
use crate::broker::convert::Outgoing;
use crate::broker::convert::coarse;
use crate::broker::convert::short;
use crate::broker::dead_letters::parcels;
use crate::broker::dead_letters::pass::{Copy, HeldDeadLetter, ReviewPass};
use crate::broker::sizes::header_bytes;
use crate::broker::streams::audit;
use crate::broker::transport::HARD;
use crate::message::audit::{Act, Action, By};
use crate::message::headers;
use crate::message::parcel::Parcel;
use crate::review::edit::Edit;
use crate::review::{DeadLetter, Filter, Past};

/// How often a dead letter's past is remembered in its header, so that headers stay small.
const MOST_PAST: usize = 20;

/// How long after a failure to wait for its cause.
const CAUSE: Duration = Duration::from_secs(1);

/// What is to be done with the dead letters that are selected.
#[derive(Clone, Debug, PartialEq)]
pub enum ReviewAction {
    Replay,
    Edit(Edit),
    Discard,
}

/// What all that one order does has in common.
struct Frame<'a> {
    by: &'a By,
    now: Timestamp,
    deed: Uuid,
    /// How many dead letters are meant.
    of: u64,
}

impl Frame<'_> {
    fn act(&self, action: Action) -> Act {
        Act { deed: Some(self.deed), of: Some(self.of), ..Act::new(action, self.by, self.now) }
    }
}

impl Review {
    /// Does `order` to every dead letter that is meant. An edit that would leave any of them invalid moves none. It goes on
    /// when nobody waits for it any more; only `attend` stops it.
    ///
    /// # Errors
    /// See [`ReviewError`]; what has moved until then has moved for good, and is in the audit.
    pub async fn act(
        &self,
        filter: &Filter,
        order: &ReviewAction,
        by: &By,
        attend: impl Attend + 'static,
    ) -> Result<MoveProgress, ReviewError> {
        let (review, filter, order, by) = (self.clone(), filter.clone(), order.clone(), by.clone());
        to_the_end(async move { review.act_now(&filter, &order, &by, attend).await }).await
    }

    async fn act_now(
        &self,
        filter: &Filter,
        order: &ReviewAction,
        by: &By,
        mut attend: impl Attend,
    ) -> Result<MoveProgress, ReviewError> {
        let tool = self.tool().await?;
        let mut pass = self.pass(&tool).await?;
        let room = tool.publisher.room;
        let result = match self.select(&mut pass.entries, filter, order, room) {
            Ok(selected) => {
                let of = u64::try_from(selected.len()).unwrap_or(u64::MAX);
                let frame = Frame { by, now: Timestamp::now(), deed: Uuid::now_v7(), of };
                let begin = |entry: HeldDeadLetter| self.begin(entry, order, &frame);
                carry_out(&tool, &mut pass, selected, begin, &mut attend).await
            }
            Err(error) => Err(error),
        };
        // After a lost connection the broker requeues by itself.
        let back = pass.requeue().await;
        tool.close().await;
        let progress = result?;
        back.map_err(|why| ReviewError::Lost { progress, why })?;
        Ok(progress)
    }

    /// Takes the dead letters that are meant out of `entries`. Of an edit all bodies are tried first, one at a time: what is
    /// held in memory does not grow with the selection.
    fn select(
        &self,
        entries: &mut Vec<HeldDeadLetter>,
        filter: &Filter,
        order: &ReviewAction,
        room: usize,
    ) -> Result<Vec<HeldDeadLetter>, ReviewError> {
        let filter = filter.ready();
        let (selected, others): (Vec<HeldDeadLetter>, Vec<HeldDeadLetter>) =
            std::mem::take(entries)
                .into_iter()
                .partition(|entry| filter.matches(&entry.letter, || entry.body.bytes().ok()));
        *entries = others;
        if *order != ReviewAction::Discard
            && let Some(why) = first_too_long(&selected, room)?
        {
            entries.extend(selected);
            return Err(ReviewError::Nothing(why));
        }
        let mut invalid = Vec::new();
        if let ReviewAction::Edit(edit) = order {
            for entry in &selected {
                let before = whole(&entry.letter, entry.parcel.clone(), entry.body.bytes()?);
                if let (false, told) = preview(&entry.letter, &before, edit, &self.rules) {
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

    /// The messages that move one dead letter.
    fn begin(
        &self,
        entry: HeldDeadLetter,
        order: &ReviewAction,
        frame: &Frame<'_>,
    ) -> Result<Move, ReviewError> {
        let now = frame.now;
        if *order == ReviewAction::Discard && entry.body.too_long().is_some() {
            // Nothing can bring it back, so nothing is kept of it but what it was.
            let act = Act {
                letter: Some(entry.letter.id),
                cause: Some(entry.letter.cause.in_a_line()),
                ..frame.act(Action::Discard)
            };
            let messages = vec![audit::message(&act, &self.queues.review(), &self.queues)];
            return Ok(Move { messages, copies: entry.copies });
        }
        let body = entry.body.bytes()?;
        let before = whole(&entry.letter, entry.parcel()?, body.clone());
        let HeldDeadLetter { letter, copies, .. } = entry;
        let (action, after) = match order {
            ReviewAction::Discard => (Action::Discard, None),
            ReviewAction::Replay => (Action::Replay, Some(again(&letter, &before, body, now))),
            ReviewAction::Edit(edit) => {
                let new =
                    edit.apply(&body).map_err(|error| ReviewError::Nothing(error.to_string()))?;
                let mut after = again(&letter, &before, new, now);
                edit.apply_to_headers(&mut after.headers);
                (Action::Edit, Some(after))
            }
        };
        let act = Act {
            letter: Some(letter.id),
            cause: Some(letter.cause.in_a_line()),
            before: Some(before),
            after: after.clone().filter(|_| action == Action::Edit),
            ..frame.act(action)
        };
        // The audit first: nothing moves that is not in it, and nothing that could not be read there.
        let kept = audit::message_that_reads_back(&act, &self.queues.review(), &self.queues);
        let mut messages = vec![kept.map_err(ReviewError::Nothing)?];
        if let Some(after) = after {
            // Its priority may be what was fixed.
            let priority = DeadLetter::read(&after, None, &self.rules).priority;
            let level = coarse(priority, self.queues.max_priority);
            messages.push(Outgoing {
                exchange: short(&self.queues.review()),
                key: short(&self.queues.requests()),
                body: after.body.clone(),
                properties: parcels::properties(&after).with_priority(level),
            });
        }
        Ok(Move { messages, copies })
    }
}

/// Why this dead letter cannot be sent again: with its past its headers would not fit a frame of the broker.
fn too_long(entry: &HeldDeadLetter, room: usize) -> io::Result<Option<String>> {
    let letter = &entry.letter;
    if let Some(bytes) = entry.body.too_long() {
        return Ok(Some(format!(
            "dead letter {} cannot be sent again: its body has {bytes} bytes, and none of more than {HARD} is held; discard it, and enqueue what it was to be. Nothing was moved",
            letter.id
        )));
    }
    let again = again(letter, &entry.parcel()?, bytes::Bytes::new(), Timestamp::now());
    let bytes = header_bytes(&parcels::properties(&again).with_priority(0));
    Ok((bytes > room).then(|| {
        format!(
            "dead letter {} cannot be sent again: its headers take {bytes} bytes, and the broker's frames hold {room}; export it, shorten its headers in the file, discard it and import the file. Nothing was moved",
            letter.id
        )
    }))
}

fn first_too_long(entries: &[HeldDeadLetter], room: usize) -> io::Result<Option<String>> {
    for entry in entries {
        if let Some(why) = too_long(entry, room)? {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// One dead letter on its way.
struct Move {
    messages: Vec<Outgoing>,
    copies: Vec<Copy>,
}

/// Publishes and acknowledges, [`IN_FLIGHT`] at once.
async fn carry_out(
    tool: &ShortConnection,
    pass: &mut ReviewPass<'_>,
    selected: Vec<HeldDeadLetter>,
    begin: impl Fn(HeldDeadLetter) -> Result<Move, ReviewError>,
    attend: &mut dyn Attend,
) -> Result<MoveProgress, ReviewError> {
    let mut progress = MoveProgress { moved: 0, of: selected.len(), left: pass.left };
    let mut copies = 0;
    let mut waiting = selected.into_iter();
    let mut going = attend.progress(progress);
    let mut failed = None;
    let mut taken_back = false;
    {
        let held: &ReviewPass<'_> = pass;
        let taken = held.ended();
        tokio::pin!(taken);
        let mut under_way = FuturesUnordered::new();
        loop {
            while going
                && under_way.len() < IN_FLIGHT
                && let Some(entry) = waiting.next()
            {
                match begin(entry) {
                    Ok(one) => under_way.push(move_one(tool, held, one)),
                    Err(error) => {
                        failed = Some(error);
                        going = false;
                    }
                }
            }
            let done = tokio::select! {
                done = under_way.next() => done,
                why = &mut taken => {
                    taken_back = true;
                    Some(Err(why))
                }
            };
            match done {
                Some(Ok(acknowledged)) => {
                    copies += acknowledged;
                    progress.moved += 1;
                    going = attend.progress(progress) && going;
                }
                Some(Err(mut why)) => {
                    // A channel that the broker closes fails what is under way on it, and only its consumer hears why.
                    if !taken_back && let Ok(cause) = tokio::time::timeout(CAUSE, &mut taken).await
                    {
                        (taken_back, why) = (true, cause);
                    }
                    failed = Some(ReviewError::Lost { progress, why });
                    break;
                }
                None => break,
            }
        }
    }
    if taken_back {
        pass.taken_back();
    }
    pass.count_acknowledged(copies);
    pass.entries.extend(waiting);
    match failed {
        Some(error) => Err(error),
        None => Ok(progress),
    }
}

/// How many copies are gone then.
async fn move_one(
    tool: &ShortConnection,
    pass: &ReviewPass<'_>,
    one: Move,
) -> Result<usize, SessionLost> {
    tool.publisher.publish(one.messages).await?;
    pass.acknowledge(&one.copies).await?;
    Ok(one.copies.len())
}

/// The request as it is sent again: the reason it died left behind in its past, one replay more, retries afresh.
pub(super) fn again(
    letter: &DeadLetter,
    before: &Parcel,
    body: bytes::Bytes,
    now: Timestamp,
) -> Parcel {
    let mut headers = before.headers.clone();
    let mut past = letter.past.clone();
    past.push(Past::of(letter));
    let old = past.len().saturating_sub(MOST_PAST);
    // Texts, numbers and times: nothing of it can fail to be written.
    let past = serde_json::to_string(&past.split_off(old)).unwrap_or_default();
    headers.retain(|name, _| {
        let name = name.as_str();
        !headers::OF_A_DEAD_LETTER.contains(&name)
            && name != headers::REQUEST_ID
            && name != headers::MOVED
    });
    headers.insert(headers::PAST.into(), past.into());
    headers.insert(headers::REPLAY.into(), (letter.replay.saturating_add(1)).to_string().into());
    // A deadline that has passed would end it at once, which is not what a reviewer means by sending it again.
    let deadline = before.header(headers::DEADLINE).and_then(|text| text.parse::<Timestamp>().ok());
    if deadline.is_some_and(|deadline| deadline <= now) {
        headers.remove(headers::DEADLINE);
    }
    Parcel { message_id: Some(letter.request_id.clone()), headers, body, ..before.clone() }
}
