//! When will a batch be through, and why does nothing of it move? What the active worker says, asked beside the watching.
//!
//! Whoever may watch may not have the right to ask: that is said once, and the watching goes on without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{World, gate, times};
use crate::broker::{Desk, NotAsked, PlannerError};
use crate::core::engine::Load;
use crate::lane::Config;
use crate::message::command::{Answer, Command, IssuedCommand};
use crate::message::status::Status;
use crate::report::outlook::{self, Left};

/// How often the worker is asked.
const EVERY: Duration = Duration::from_secs(5);

/// How long an answer is waited for where nobody goes on watching.
const ONCE: Duration = Duration::from_secs(4);

/// What is known just now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// Why nothing moves, in the gate's words; none while something does, or where nobody knows.
    pub(super) why: Option<String>,
    /// One word for that, for programs: the gate's reason, or `no_worker`, `missing`, `unreachable`, `not_before`, `on_hold`.
    pub(super) reason: Option<&'static str>,
    /// When the last request will have been submitted that nobody holds, if it goes on like this.
    pub(super) end: Option<Timestamp>,
    /// So many go only when an order releases them.
    pub(super) on_hold: u64,
    /// The worker cannot be asked at all.
    pub(super) blind: Option<String>,
}

/// What is heard of one batch. Dropped, nobody asks any more.
pub(super) struct Outlook {
    left: Arc<AtomicU64>,
    known: watch::Receiver<Known>,
    asking: JoinHandle<()>,
}

impl Drop for Outlook {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

impl Outlook {
    /// Of nothing yet.
    pub(super) fn none() -> Self {
        let (_, known) = watch::channel(Known::default());
        Self { left: Arc::default(), known, asking: tokio::spawn(std::future::ready(())) }
    }

    /// Of this batch; without one there is no end to tell, and only why nothing moves.
    pub(super) fn start(
        config: &Config,
        batch: Option<(String, Option<Uuid>)>,
        world: &World,
    ) -> Self {
        let left = Arc::new(AtomicU64::new(0));
        let (tell, known) = watch::channel(Known::default());
        let is_one = batch.is_some();
        let (batch, run) = batch.unzip();
        let command = Command::Load { batch, run: run.flatten() };
        let asker = Asker {
            config: config.clone(),
            issued: IssuedCommand { command, by: gate::who(world), reason: None },
            is_one,
            left: Arc::clone(&left),
            desk: None,
        };
        Self { left, known, asking: tokio::spawn(asker.run(tell)) }
    }

    /// So many requests of the batch have no result yet.
    pub(super) fn note(&self, left: u64) {
        self.left.store(left, Ordering::Relaxed);
    }

    /// What is known now.
    pub(super) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// What is known of so many that are left, if it is known soon.
    pub(super) async fn once(&mut self, left: u64) -> Known {
        self.note(left);
        if left == 0 {
            return Known::default();
        }
        tokio::time::timeout(ONCE, self.changed()).await.unwrap_or_else(|_| self.known())
    }

    /// The next change of it. Cancel safe.
    pub(super) async fn changed(&mut self) -> Known {
        if self.known.changed().await.is_err() {
            // Nobody asks any more.
            std::future::pending::<()>().await;
        }
        self.known.borrow_and_update().clone()
    }
}

struct Asker {
    config: Config,
    issued: IssuedCommand,
    is_one: bool,
    left: Arc<AtomicU64>,
    desk: Option<Desk>,
}

impl Asker {
    async fn run(mut self, tell: watch::Sender<Known>) {
        loop {
            // Before the first reading nobody knows what is left.
            let left = self.left.load(Ordering::Relaxed);
            if left > 0 {
                let heard = self.ask().await;
                let known = self.understood(heard, left).await;
                let blind = known.blind.is_some();
                tell.send_if_modified(|now| {
                    let differs = *now != known;
                    *now = known;
                    differs
                });
                if blind {
                    return;
                }
                tokio::time::sleep(EVERY).await;
            } else {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn ask(&mut self) -> Result<Answer, NotAsked> {
        let desk = match self.desk.take() {
            Some(desk) => desk,
            None => Desk::open(&self.config.broker, &self.config.queues).await?,
        };
        let answer = desk.ask(&self.issued).await;
        // A connection that may be gone is not asked again.
        if let Ok(_) | Err(NotAsked::Nobody { .. }) = answer {
            self.desk = Some(desk);
        }
        answer
    }

    async fn understood(&self, heard: Result<Answer, NotAsked>, left: u64) -> Known {
        let answer = match heard {
            Ok(answer) => answer,
            Err(why) => return unheard(&why),
        };
        let Some((status, load)) = answer.status.zip(answer.load) else {
            return Known::default();
        };
        let told = of(left, load, *status).await;
        // Of several batches together nobody knows what goes before their end.
        let (end, on_hold) = if self.is_one { (told.end, told.on_hold) } else { (None, 0) };
        let (reason, why) = told.waits.unzip();
        let first = told.first.map(|first| format!(": the first goes at {}", times::local(first)));
        let why = why.map(|why| why + &first.unwrap_or_default());
        Known { why, reason, end, on_hold, blind: None }
    }
}

/// What the worker's answer means for so many that are left; beside the runtime, for it may be seconds of work.
pub(super) async fn of(left: u64, load: Load, status: Status) -> outlook::Outlook {
    let work = move || {
        outlook::Outlook::of(Left { requests: left, held: &load }, &status, Timestamp::now())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

fn unheard(why: &NotAsked) -> Known {
    let known =
        |reason, why: String| Known { why: Some(why), reason: Some(reason), ..Known::default() };
    match why {
        NotAsked::Nobody { .. } => known(
            "no_worker",
            "no worker is active: nothing is submitted until one is (`sluice run`)".to_owned(),
        ),
        NotAsked::Deaf { .. } | NotAsked::NoAnswer => {
            known("no_answer", "a worker is there, and does not answer".to_owned())
        }
        NotAsked::Alarm => known(
            "blocked",
            "the broker has raised a resource alarm (memory or disk): nothing is submitted until it ends".to_owned(),
        ),
        NotAsked::Broker(why) if why.is_no_right() => Known {
            blind: Some(format!(
                "the worker cannot be asked why nothing moves and when the batch ends ({why}): this user has no right to"
            )),
            ..Known::default()
        },
        NotAsked::Broker(why @ PlannerError::Missing { .. }) => known("missing", why.to_string()),
        NotAsked::Broker(why) => known("unreachable", why.to_string()),
    }
}
