//! Is this session still alive? What everybody who holds something of a session shares: its channel, its publisher,
//! and the one place where it is declared lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::sync::watch;

/// The session is gone, with everything that was received on it; why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SessionLost(pub String);

/// Whether a session lives, and whether the broker takes what is published.
#[derive(Debug)]
pub(crate) struct Link {
    lost: watch::Sender<Option<Arc<str>>>,
    blocked: watch::Sender<Blocked>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Blocked {
    now: bool,
    until: Option<Instant>,
}

impl Link {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            lost: watch::Sender::new(None),
            blocked: watch::Sender::new(Blocked::default()),
        })
    }

    /// Declares the session lost; the first reason stands.
    pub(crate) fn lose(&self, why: &str) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(why.into());
            }
            first
        });
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Resolves with the reason when the session is lost.
    pub(crate) async fn lost(&self) -> Arc<str> {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_else(|| "".into()),
            Err(_) => "".into(),
        }
    }

    pub(crate) fn set_blocked(&self, now: bool) {
        self.blocked.send_replace(Blocked { now, until: Some(Instant::now()) });
    }

    /// Resolves when publishing is held up by the broker; never where it is not.
    pub(crate) async fn blocked(&self) {
        let mut blocked = self.blocked.subscribe();
        if blocked.wait_for(|blocked| blocked.now).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether publishing was held up by the broker at any time in the last `span`: waits that long say nothing then.
    pub(crate) fn blocked_within(&self, span: Duration) -> bool {
        let blocked = *self.blocked.borrow();
        blocked.now || blocked.until.is_some_and(|at| at.elapsed() < span)
    }
}

/// Notes when the broker goes into a resource alarm and out of it, until the link is lost.
pub(crate) async fn listen(mut events: BoxStream<'static, lapin::Event>, link: Arc<Link>) {
    let lost = link.lost();
    tokio::pin!(lost);
    loop {
        tokio::select! {
            _ = &mut lost => return,
            event = events.next() => match event {
                Some(lapin::Event::ConnectionBlocked(_)) => link.set_blocked(true),
                Some(lapin::Event::ConnectionUnblocked) => link.set_blocked(false),
                // Errors of single channels come here too; whoever uses the channel is told of them.
                Some(_) => {}
                None => return,
            }
        }
    }
}
