//! How do dead letters come (back) into the queue? Undone from what the audit kept, or imported from a file.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Attend, IN_FLIGHT, MoveProgress, Review, ReviewError, letter_message, to_the_end};
use crate::broker::control::short_connection::ShortConnection;
use crate::broker::convert::Outgoing;
use crate::broker::streams::audit::{self, Acts};
use crate::message::audit::{Act, Action, AuditEntry, By, Undoable};
use crate::message::parcel::Parcel;
use crate::review::DeadLetter;

/// Messages that belong together: the dead letter that is put into the queue, and the act that says so.
type Pair = (Outgoing, Outgoing);

impl Review {
    /// The acts that can be undone, were not yet, and are `wanted`: of each dead letter the newest, for an older one was
    /// followed by something else. Newest first, without the messages that they keep.
    ///
    /// # Errors
    /// The broker is unreachable.
    pub async fn undoable(
        &self,
        mut wanted: impl FnMut(&Act) -> bool,
    ) -> Result<Vec<Act>, ReviewError> {
        let mut undoable = Undoable::default();
        let take = |entry| match entry {
            AuditEntry::Act(act) => {
                let is_wanted = wanted(&act);
                undoable.take(*act, is_wanted);
            }
            AuditEntry::Unreadable(entry) => (self.on_unreadable)(&entry),
        };
        self.audit(take).await?;
        Ok(undoable.newest_of_each_letter())
    }

    /// Puts back what these acts took away, as it was before. It goes on when nobody waits for it any more; only
    /// `attend` stops it.
    ///
    /// # Errors
    /// The broker is unreachable, or was lost on the way: what is back is back.
    pub async fn undo(
        &self,
        acts: &HashSet<Uuid>,
        by: &By,
        attend: impl Attend + 'static,
    ) -> Result<MoveProgress, ReviewError> {
        let (review, acts, by) = (self.clone(), acts.clone(), by.clone());
        to_the_end(async move { review.undo_now(&acts, &by, attend).await }).await
    }

    async fn undo_now(
        &self,
        acts: &HashSet<Uuid>,
        by: &By,
        mut attend: impl Attend,
    ) -> Result<MoveProgress, ReviewError> {
        let attend: &mut dyn Attend = &mut attend;
        let mut progress = MoveProgress { of: acts.len(), ..MoveProgress::default() };
        let mut stream = Acts::open(&self.settings, &self.queues).await?;
        let tool = self.tool().await?;
        let mut pairs: Vec<Pair> = Vec::new();
        let deed = Some(Uuid::now_v7());
        let mut going = attend.progress(progress);
        while going && let Some(entry) = stream.next().await? {
            // What cannot be read was told of when it was found out what can be undone.
            let AuditEntry::Act(act) = entry else { continue };
            let Some(before) = act.before.as_ref().filter(|_| acts.contains(&act.id)) else {
                continue;
            };
            let undo = Act {
                letter: act.letter,
                cause: act.cause.clone(),
                undoes: Some(act.id),
                deed,
                of: u64::try_from(acts.len()).ok(),
                ..Act::new(Action::Restore, by, Timestamp::now())
            };
            pairs.push((
                letter_message(&self.queues, before),
                audit::message(&undo, &self.queues.review(), &self.queues),
            ));
            if pairs.len() == IN_FLIGHT {
                going = put(&tool, &mut pairs, &mut progress, attend).await?;
            }
        }
        put(&tool, &mut pairs, &mut progress, attend).await?;
        stream.close().await;
        tool.close().await;
        Ok(progress)
    }

    /// Undoes all that are named, by the act's id or the dead letter's (8 characters at least); which ones that were. It goes
    /// to its end when nobody waits for it any more.
    ///
    /// # Errors
    /// None of them can be undone, or the broker is unreachable.
    pub async fn restore(&self, named: &[String], by: &By) -> Result<Vec<Act>, ReviewError> {
        let (review, named, by) = (self.clone(), named.to_vec(), by.clone());
        to_the_end(async move { review.restore_now(&named, &by).await }).await
    }

    async fn restore_now(&self, named: &[String], by: &By) -> Result<Vec<Act>, ReviewError> {
        let acts = self.undoable(|act| act.is_named(named)).await?;
        if acts.is_empty() {
            return Err(ReviewError::Nothing(
                "nothing of that name can be undone: name an act or a dead letter that was discarded or edited, and not restored since".into(),
            ));
        }
        let ids = acts.iter().map(|act| act.id).collect();
        self.undo_now(&ids, by, |_| true).await?;
        Ok(acts)
    }

    /// Puts dead letters of an exported file into the queue; `of` is how many there are. It goes on when nobody waits for it
    /// any more; only `attend` stops it.
    ///
    /// # Errors
    /// The broker did not take all of them: how many it did.
    pub async fn import(
        &self,
        parcels: impl IntoIterator<Item = Parcel, IntoIter: Send> + Send + 'static,
        of: usize,
        by: &By,
        attend: impl Attend + 'static,
    ) -> Result<MoveProgress, ReviewError> {
        let (review, by) = (self.clone(), by.clone());
        to_the_end(async move { review.import_now(parcels, of, &by, attend).await }).await
    }

    async fn import_now(
        &self,
        parcels: impl IntoIterator<Item = Parcel, IntoIter: Send> + Send,
        of: usize,
        by: &By,
        mut attend: impl Attend,
    ) -> Result<MoveProgress, ReviewError> {
        let attend: &mut dyn Attend = &mut attend;
        let tool = self.tool().await?;
        let mut progress = MoveProgress { of, ..MoveProgress::default() };
        let mut going = attend.progress(progress);
        let mut parcels = parcels.into_iter();
        let deed = Some(Uuid::now_v7());
        let mut pairs: Vec<Pair> = Vec::new();
        while going && let Some(parcel) = parcels.next() {
            let letter = DeadLetter::read(&parcel, None, &self.rules);
            let act = Act {
                letter: Some(letter.id),
                cause: Some(letter.cause.in_a_line()),
                deed,
                of: u64::try_from(of).ok(),
                ..Act::new(Action::Import, by, Timestamp::now())
            };
            pairs.push((
                letter_message(&self.queues, &parcel),
                audit::message(&act, &self.queues.review(), &self.queues),
            ));
            if pairs.len() == IN_FLIGHT {
                going = put(&tool, &mut pairs, &mut progress, attend).await?;
            }
        }
        put(&tool, &mut pairs, &mut progress, attend).await?;
        tool.close().await;
        Ok(progress)
    }
}

/// Publishes all of `pairs` at once and waits for their confirms; whether to go on. Of each the dead letter first: an act
/// without its dead letter would say that nothing is left to be undone, a dead letter without its act is there once more.
async fn put(
    tool: &ShortConnection,
    pairs: &mut Vec<Pair>,
    progress: &mut MoveProgress,
    attend: &mut dyn Attend,
) -> Result<bool, ReviewError> {
    let count = pairs.len();
    let all = pairs.drain(..).map(async |(letter, act)| {
        tool.publisher.publish(vec![letter]).await?;
        tool.publisher.publish(vec![act]).await
    });
    let lost = |why| ReviewError::Lost { progress: *progress, why };
    try_join_all(all).await.map_err(lost)?;
    progress.moved += count;
    Ok(attend.progress(*progress))
}
