//! What did the last pass over a lane's dead letters see? A pass goes on without whoever asked for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::LaneView;
use crate::broker::dead_letters::{ReviewError, Snapshot};

/// So long a page waits for a pass; then it says that one is under way, and asks again.
const SOON: Duration = Duration::from_millis(600);

/// What is known of a lane's dead letters.
#[derive(Debug, Default)]
pub(super) struct Looks {
    seen: Mutex<Option<Arc<Snapshot>>>,
    /// Why the last pass did not succeed.
    trouble: Mutex<Option<String>>,
    /// One pass at a time.
    looking: tokio::sync::Mutex<()>,
}

/// What a page has to show.
pub(super) enum Look {
    Seen(Arc<Snapshot>),
    UnderWay,
    Failed(String),
}

impl Looks {
    fn seen(&self) -> Option<Arc<Snapshot>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, trouble: Option<String>) -> Option<String> {
        std::mem::replace(
            &mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner),
            trouble,
        )
    }
}

impl LaneView {
    /// What was seen is out of date: something has moved.
    pub(super) fn forget(&self) {
        *self.looks.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the last pass saw; `again`: of a pass that is made now.
    pub(super) async fn look(&self, again: bool) -> Result<Arc<Snapshot>, ReviewError> {
        let before = self.looks.seen();
        let looking = self.looks.looking.lock().await;
        // Somebody else may have looked while this one waited.
        let now = self.looks.seen();
        let is_news = match (&before, &now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            _ => true,
        };
        if let Some(seen) = now
            && (!again || is_news)
        {
            return Ok(seen);
        }
        let snapshot = match self.lane.review.list().await {
            Ok(snapshot) => Arc::new(snapshot),
            Err(error) => {
                self.looks.tell(Some(error.to_string()));
                return Err(error);
            }
        };
        self.looks.tell(None);
        *self.looks.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&snapshot));
        drop(looking);
        Ok(snapshot)
    }

    /// Like [`LaneView::look`], but soon.
    pub(super) async fn glance(self: &Arc<Self>, again: bool) -> Look {
        if !again && let Some(seen) = self.looks.seen() {
            return Look::Seen(seen);
        }
        let place = Arc::clone(self);
        let looking = tokio::spawn(async move { place.look(again).await });
        match tokio::time::timeout(SOON, looking).await {
            Err(_) => Look::UnderWay,
            Ok(Ok(Ok(seen))) => Look::Seen(seen),
            Ok(Ok(Err(error))) => {
                self.looks.tell(None);
                Look::Failed(error.to_string())
            }
            Ok(Err(error)) => Look::Failed(format!("the pass has ended with a bug: {error}")),
        }
    }

    /// What has become of the pass that was under way.
    pub(super) async fn glance_again(self: &Arc<Self>) -> Look {
        let Ok(ended) = tokio::time::timeout(SOON, self.looks.looking.lock()).await else {
            return Look::UnderWay;
        };
        drop(ended);
        match self.looks.tell(None) {
            Some(why) => Look::Failed(why),
            None => self.glance(false).await,
        }
    }
}
