//! What does the worker do when an operator orders something? It is done at once; whoever ordered it hears of it when it
//! is written down.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::{Done, Submit, Watch, Worker};
use crate::core::engine::{Load, Sought, Upcoming};
use crate::core::{Change, Hot, Input, Job, Now, Obeyed, Reply, Steer, Target};
use crate::message::audit::{Act, By};
use crate::message::command::{
    self, Answer, Command, PendingCommand, Steering, SteeringChange, one_line,
};
use crate::worker::source::{Settled, Source};

/// What the latest orders have done, for those who ask.
const LATEST: usize = 256;

/// The orders that this worker has been given, and has obeyed.
#[derive(Debug, Default)]
pub(super) struct LatestOrders {
    /// Who waits to hear that it was obeyed.
    expected: HashMap<Uuid, PendingCommand>,
    latest: VecDeque<(Uuid, Obeyed)>,
}

impl LatestOrders {
    fn note(&mut self, id: Uuid, obeyed: Obeyed) {
        self.latest.truncate(LATEST - 1);
        self.latest.push_front((id, obeyed));
    }

    fn obeyed(&self, id: Uuid) -> Option<Obeyed> {
        self.latest.iter().find(|(known, _)| *known == id).map(|(_, obeyed)| *obeyed)
    }

    /// The session was lost: whether an order was kept shows in the next one.
    pub(super) fn forget(&mut self) {
        for (_, pending) in self.expected.drain() {
            let why = "the session with the broker was lost: the order may have been kept or not; look again when the broker is back";
            let _ = pending.reply.send(Answer::refused(why));
        }
    }
}

impl<S, A, W> Worker<S, A, W>
where
    S: Source,
    A: Submit,
    W: Watch<S::Delivery>,
{
    /// Has an order kept by the broker. It is obeyed when it comes back, as those of others are: in the order in which
    /// they were kept.
    fn keep_order(&mut self, pending: PendingCommand, now: Now, of: Target, change: Change) {
        let by = By { who: pending.issued.by.clone(), why: pending.issued.reason.clone() };
        let act = Act::ordered(of, change, &by, now.wall);
        let id = act.id;
        let keeps = self.source.keep_order(act);
        self.orders.expected.insert(id, pending);
        self.begin(async move {
            let late = |_| Err(format!("the broker did not take it within {:?}", command::RECORD));
            let result = tokio::time::timeout(command::RECORD, keeps).await.unwrap_or_else(late);
            Done::OrderKept { id, result }
        });
    }

    pub(super) fn order_kept(&mut self, id: Uuid, result: Result<(), String>) {
        if let Err(why) = result
            && let Some(pending) = self.orders.expected.remove(&id)
        {
            let why = format!("the order was not kept, and changes nothing: {why}");
            let _ = pending.reply.send(Answer::refused(why));
        }
    }

    /// Orders that were kept before this session began.
    pub(super) fn take_over_orders(&mut self, now: Now, acts: Vec<Act>) {
        let orders: Vec<_> = acts.into_iter().filter_map(|act| act.order).collect();
        if !orders.is_empty() {
            self.core.take(now, Input::Orders(orders));
        }
    }

    /// An order has been kept, whoever gave it.
    pub(super) fn obey_order(&mut self, now: Now, act: Act) {
        let Act { id, action, who, why, order: Some(order), .. } = act else { return };
        let of = one_line(&format!("{}: {}", order.of, order.change));
        let Reply::Obeyed(obeyed) = self.core.take(now, Input::Orders(vec![order])) else { return };
        tracing::info!(
            by = who,
            reason = why,
            order = action.as_str(),
            of,
            changed = obeyed.here,
            in_doubt = obeyed.in_doubt,
            "an order about requests that wait"
        );
        self.orders.note(id, obeyed);
        if let Some(pending) = self.orders.expected.remove(&id) {
            let _ = pending.reply.send(Answer::obeyed(obeyed));
        }
    }

    /// A request was parked, or was not.
    pub(super) fn parked(&mut self, now: Now, job: Job<S::Delivery>, how: Settled) {
        match how {
            Settled::Done => {
                self.watch.left(&job);
                self.core.take(now, Input::Parked(job));
            }
            Settled::SessionLost => {
                self.core.take(now, Input::Parked(job));
            }
            Settled::Refused(why) => {
                tracing::warn!(
                    request.id = &*job.request.id.get(),
                    why,
                    "a request that waits cannot be parked, and takes a place in the window"
                );
                self.core.take(now, Input::NotParked(job));
            }
        }
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
        if let Command::Order { of, change } = &pending.issued.command {
            let (of, change) = (of.clone(), change.clone());
            if change == Change::default() {
                let _ = pending.reply.send(Answer::refused("the order changes nothing"));
                return;
            }
            return self.keep_order(pending, now, of, change);
        }
        if let Command::Obeyed { order } = pending.issued.command {
            let known = self.orders.obeyed(order).map(Answer::obeyed);
            let answer = known.unwrap_or_else(|| Answer::refused("this order has not come yet"));
            let _ = pending.reply.send(answer);
            return;
        }
        if let Command::Window { first, run, from, find, batch } = &pending.issued.command {
            let (from, most) = (from.unwrap_or(0), Command::most(*first));
            let sought =
                Sought { text: find.as_deref().unwrap_or_default(), batch: batch.as_deref() };
            let window = match run {
                Some(run) => self.core.waiting(now, *run).into_iter().collect(),
                None if find.is_some() || batch.is_some() => self.found(now, sought, from, most),
                None => self.core.upcoming_from(now, from, most),
            };
            let answer = Answer { window: Some(window), ..Answer::done("") };
            // Whoever asked may have gone.
            let _ = pending.reply.send(answer);
            return;
        }
        if let Command::Load { batch, run } = &pending.issued.command {
            let load = self.core.load(now, batch.as_deref(), *run);
            let status = self.watch.status(&self.core, now).map(Box::new);
            let told = status.as_deref();
            let load = Load {
                queued: told.and_then(|status| status.queues).map(|queues| queues.requests),
                running: told.and_then(|status| status.running?.migrations),
                ..load
            };
            let answer = Answer { load: Some(load), status, ..Answer::done("") };
            let _ = pending.reply.send(answer);
            return;
        }
        if let Command::Lease { calls } = pending.issued.command {
            return self.lend(pending, now, calls);
        }
        let Some(change) = self.steering.changed(&pending.issued, now.wall) else {
            return self.answer(pending, None);
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

    /// What is in flight first, then what waits.
    fn found(&self, now: Now, sought: Sought<'_>, from: usize, most: usize) -> Vec<Upcoming> {
        let mut out: Vec<_> = self.out.values().filter(|one| sought.is(one)).collect();
        out.sort_by_key(|one| one.run);
        let before = out.len();
        let mut found: Vec<_> = out.into_iter().skip(from).take(most).cloned().collect();
        let rest = most - found.len();
        found.extend(self.core.find_waiting(now, sought, from.saturating_sub(before), rest));
        found
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
            self.answer(pending, result.err());
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

    /// Answers when the core has chosen anew, or the status would be that of before the command.
    fn answer(&mut self, pending: PendingCommand, unwritten: Option<String>) {
        self.answers.push((pending, unwritten));
    }

    /// The core has chosen: the status is what it is with all that was ordered.
    pub(super) fn tell_answers(&mut self, now: Now) {
        for (pending, unwritten) in std::mem::take(&mut self.answers) {
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
}
