//! What does the worker do when an operator orders something? It is done at once; whoever ordered it hears of it when it
//! is written down.

use futures_util::FutureExt as _;

use super::{Done, Submit, Watch, Worker};
use crate::core::{Hot, Input, Job, Now, Reply, Steer};
use crate::message::command::{self, Answer, Command, PendingCommand, Steering, SteeringChange};
use crate::worker::source::{Settled, Source};

const LOST: &str = "the session with the broker was lost: the request is still there, with its old priority or the new one; look again when the broker is back";

impl<S, A, W> Worker<S, A, W>
where
    S: Source,
    A: Submit,
    W: Watch<S::Delivery>,
{
    /// Has a request that waits published anew with another priority. Whoever ordered it hears of it when that is done.
    fn reprioritise(&mut self, pending: PendingCommand, now: Now, id: &str, priority: u16) {
        let wanted = id.to_owned();
        match self.core.take(now, Input::Ordered(Steer::Priority { wanted, priority })) {
            Reply::Moved(Ok(moved)) => {
                let act = command::reprioritised(&pending.issued, &moved, priority, now.wall);
                tracing::info!(by = %pending.issued.by, reason = pending.issued.reason, request.id = &*moved.id.get(), before = moved.before, after = priority, "a request is given another priority");
                if let Some((earlier, _)) = self.moves.insert(moved.run, (pending, act)) {
                    let why = "another command for the same request came at the same moment";
                    let _ = earlier.reply.send(Answer::refused(why));
                }
            }
            Reply::Moved(Err(kept)) => {
                let _ = pending.reply.send(Answer::refused(kept.to_string()));
            }
            Reply::Nothing | Reply::Found(_) => {}
        }
    }

    /// What was to be published anew is void with its session.
    pub(super) fn forget_moves(&mut self) {
        for (_, (pending, _)) in self.moves.drain() {
            let _ = pending.reply.send(Answer::refused(LOST));
        }
    }

    pub(super) fn republished(
        &mut self,
        now: Now,
        job: Job<S::Delivery>,
        how: &Settled,
        pending: PendingCommand,
    ) {
        if let Settled::Refused(why) = how {
            tracing::warn!(
                request.id = &*job.request.id.get(),
                why,
                "a command was not obeyed, for the queue takes no copy of the request"
            );
            let why =
                format!("nothing was changed, for the queue takes no copy of the request: {why}");
            let _ = pending.reply.send(Answer::refused(why));
            return self.requeue_unmoved(job);
        }
        if let Settled::Done = how {
            self.watch.left(&job);
        }
        self.core.take(now, Input::Republished(job));
        match how {
            Settled::Done => self.answer(pending, now, None),
            Settled::SessionLost | Settled::Refused(_) => {
                let _ = pending.reply.send(Answer::refused(LOST));
            }
        }
    }

    /// A request that was to be published anew, and was not: it comes again as it is.
    pub(super) fn requeue_unmoved(&mut self, job: Job<S::Delivery>) {
        self.core.take(self.clock.now(), Input::NotRepublished(job.arrival));
        self.watch.left(&job);
        self.begin(self.source.requeue(job).map(|()| Done::Released));
    }

    /// Does what an operator wants at once; that it is written down is waited for before the operator hears of it.
    pub(super) fn obey(&mut self, pending: PendingCommand) {
        let now = self.clock.now();
        let pending = match pending.issued.tidy() {
            Ok(issued) => PendingCommand { issued, reply: pending.reply },
            Err(why) => {
                let _ = pending.reply.send(Answer::refused(why));
                return;
            }
        };
        if let Command::Priority { id, priority } = &pending.issued.command {
            let (id, priority) = (id.clone(), *priority);
            return self.reprioritise(pending, now, &id, priority);
        }
        if let Command::Window { first, run } = pending.issued.command {
            let window = match run {
                Some(run) => self.core.waiting(now, run).into_iter().collect(),
                None => self.core.upcoming(now, Command::most(first)),
            };
            let answer = Answer { window: Some(window), ..Answer::done("") };
            // Whoever asked may have gone.
            let _ = pending.reply.send(answer);
            return;
        }
        let Some(change) = self.steering.changed(&pending.issued, now.wall) else {
            return self.answer(pending, now, None);
        };
        tracing::info!(by = %pending.issued.by, reason = pending.issued.reason, command = ?pending.issued.command, "an operator's command");
        self.steering = change.steering.clone();
        match &pending.issued.command {
            Command::Resume => {
                self.core.take(now, Input::Ordered(Steer::Resume));
            }
            // Whatever a 429 has taught is forgotten, even if the rates stay the same.
            Command::Rate { .. } => {
                self.core.take(now, Input::Ordered(Steer::ForgetLearned));
            }
            _ => {}
        }
        self.steer(now);
        self.keep_steering(Some(pending), change);
    }

    fn keep_steering(&self, pending: Option<PendingCommand>, change: SteeringChange) {
        let keeps = self.source.keep_steering(change.clone());
        self.begin(async move {
            let late = |_| Err(format!("the broker did not take it within {:?}", command::RECORD));
            let result = tokio::time::timeout(command::RECORD, keeps).await.unwrap_or_else(late);
            Done::SteeringKept { pending, change, result }
        });
    }

    pub(super) fn steering_kept(
        &mut self,
        now: Now,
        pending: Option<PendingCommand>,
        change: SteeringChange,
        result: Result<(), String>,
    ) {
        const LATEST: usize = 64;
        if let Err(why) = &result {
            tracing::warn!(%why, "an operator's command is obeyed, but could not be written down yet");
            self.unwritten.push(change);
            let older = self.unwritten.len().saturating_sub(LATEST);
            self.unwritten.drain(..older);
        }
        if let Some(pending) = pending {
            self.answer(pending, now, result.err());
        }
    }

    /// What could not be written down in an earlier session, unless somebody has changed it since.
    pub(super) fn write_down(&mut self) {
        let unwritten = std::mem::take(&mut self.unwritten);
        if unwritten.last().is_some_and(|change| change.steering.at == self.steering.at) {
            for change in unwritten {
                self.keep_steering(None, change);
            }
        }
    }

    /// The configuration has changed.
    pub(super) fn reconfigure(&mut self, hot: Hot) {
        let now = self.clock.now();
        self.configured.clone_from(&hot.rates);
        if self.steering.rates.is_some() && self.core.gate().limits().rates() != hot.rates {
            tracing::info!(
                "an operator has set other rates: they hold until `sluice gate rate configured`"
            );
        }
        self.core.take(now, Input::Reconfigured(hot));
        self.steer(now);
    }

    fn steer(&mut self, now: Now) {
        let rates = self.steering.rates.as_ref().unwrap_or(&self.configured).clone();
        let pause = self.steering.pause.clone();
        self.core.take(now, Input::Ordered(Steer::Set { pause, rates }));
    }

    /// Of what this worker was told and what the broker has kept, the later holds: a command that could not be written
    /// down, because the session was lost, is not forgotten.
    pub(super) fn take_over(&mut self, now: Now, kept: Steering) {
        if kept.at > self.steering.at {
            tracing::info!(pause = ?kept.pause, rates = ?kept.rates, "what operators have set before is taken over");
            self.steering = kept;
            self.steer(now);
        }
    }

    fn answer(&mut self, pending: PendingCommand, now: Now, unwritten: Option<String>) {
        let mut said = command::done(&pending.issued.command);
        if let Some(why) = unwritten {
            said = format!(
                "{said}; but it is not written down yet ({why}): another worker that takes over does not know of it"
            );
        }
        let status = self.watch.status(&self.core, now).map(Box::new);
        let _ = pending.reply.send(Answer { status, ..Answer::done(said) });
    }
}
