//! When will a batch be through, and why does nothing of it move? What the active worker says, asked beside the watching.
//!
//! Whoever may watch may not have the right to ask: that is said once, and the watching goes on without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{World, gate};
use crate::broker::{Desk, NotAsked};
use crate::core::Settings;
use crate::core::engine::Load;
use crate::core::gate::Reason;
use crate::lane::Config;
use crate::message::command::{Answer, Command, IssuedCommand};
use crate::message::status::{SessionStatus, Status};
use crate::report::outlook::Left;

/// How often the worker is asked.
const EVERY: Duration = Duration::from_secs(5);

/// How long an answer is waited for where nobody goes on watching.
const ONCE: Duration = Duration::from_secs(4);

/// What is known just now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// Why nothing moves, in the gate's words; none while something does, or where nobody knows.
    pub(super) why: Option<String>,
    /// One word for that, for programs: the gate's reason, or `no_worker`, `unreachable`, `not_before`.
    pub(super) reason: Option<&'static str>,
    /// When the last request will have been submitted, if it goes on like this.
    pub(super) end: Option<Timestamp>,
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
    pub(super) fn start(config: &Config, batch: Option<&str>, world: &World) -> Self {
        let left = Arc::new(AtomicU64::new(0));
        let (tell, known) = watch::channel(Known::default());
        let command = Command::Load { batch: batch.map(str::to_owned) };
        let asker = Asker {
            config: config.clone(),
            issued: IssuedCommand { command, by: gate::who(world), reason: None },
            settings: config.core(),
            is_one: batch.is_some(),
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
    settings: Settings,
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
        if let Some((reason, why)) = why(&status, &load, left) {
            // What is shut for an unknown time has no end, but a schedule or a time that was set has.
            let end = match reason {
                "schedule" | "not_before" => self.end(load, left).await,
                _ => None,
            };
            return Known { why: Some(why), reason: Some(reason), end, blind: None };
        }
        Known { end: self.end(load, left).await, ..Known::default() }
    }

    async fn end(&self, load: Load, left: u64) -> Option<Timestamp> {
        if !self.is_one {
            return None;
        }
        let settings = self.settings.clone();
        let work = move || Left { requests: left, held: &load }.end(&settings, Timestamp::now());
        tokio::task::spawn_blocking(work).await.ok().flatten()
    }
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
        NotAsked::Broker(why) if why.is_no_right() => Known {
            blind: Some(format!(
                "the worker cannot be asked why nothing moves and when the batch ends ({why}): this user has no right to"
            )),
            ..Known::default()
        },
        NotAsked::Broker(why) => known("unreachable", why.to_string()),
    }
}

/// Why nothing moves, where something that lasts is in the way: a word and a sentence.
fn why(status: &Status, load: &Load, left: u64) -> Option<(&'static str, String)> {
    if !matches!(status.session, SessionStatus::Active { .. }) || status.stopping {
        return Some(("no_session", status.why()));
    }
    if status.is_robbed() {
        return Some(("robbed", status.why()));
    }
    match status.gate.reason {
        Some(Reason::Rate | Reason::InFlight | Reason::Linger | Reason::Token) => None,
        Some(reason) => Some((reason.as_str(), status.why())),
        None => not_before(status, load, left),
    }
}

/// All that is left of the batch waits for a time.
fn not_before(status: &Status, load: &Load, left: u64) -> Option<(&'static str, String)> {
    let held: u64 = load.held.iter().map(|due| due.requests).sum();
    let first = load.held.iter().map(|due| due.at).min().flatten()?;
    let all = held >= left && status.window.in_flight + status.window.settling == 0;
    let when = super::times::local(first);
    all.then(|| {
        ("not_before", format!("all that is left waits for its time: the first goes at {when}"))
    })
}
