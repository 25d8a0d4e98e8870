//! Can a task be created for each of these source servers? `sluice check --online` asks the API, within the rate.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;

use super::{Client, Got, SourceServer};
use crate::core::limits::Limits;
use crate::core::rate::Rate;
use crate::core::{Fault, Moment, Verdict, judge, retry};
use crate::worker::clock::Clock;

/// How fast, and how often again.
#[derive(Debug)]
pub struct Pace {
    pub limits: Limits,
    /// At most so many questions at a time; at least one.
    pub in_flight: usize,
    /// What failed is asked again so, `attempts` times in all.
    pub retry: retry::RetrySettings,
}

/// What the API said of one source server.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ServerRow {
    pub source_server_id: String,
    pub standing: Standing,
    /// The server's name, as registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// The source server's state as SMS names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The task that it has, or had last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_state: Option<String>,
    /// Codes of the source server's own checks that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_checks: Vec<String>,
    /// Why the API did not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Whether a task can be created.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Registered, connected, ready, and without a task.
    Free,
    /// It has a task that has not ended.
    HasTask,
    /// Its agent is not connected.
    NotConnected,
    /// Its last task has ended. Another one may be created, perhaps only after that one has been deleted (SMS.7605).
    HadTask,
    /// Its state, or a check of it that failed, stands in the way.
    NotReady,
    /// No source server of this account has this id.
    Unknown,
    /// The API did not say; see the fault.
    NotTold,
}

/// Why a survey ended before its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped {
    /// What the account, or the way to it, suffers from: it would be the same for every other source server.
    pub fault: Fault,
}

/// A question, and how often it has failed.
struct Question {
    id: String,
    failures: u32,
    /// Not before.
    at: Moment,
}

type Answered = (Question, Moment, Got<Option<SourceServer>>);

/// Asks about each of these source servers once, as fast as the pace allows; `told` gets the rows as they come.
///
/// # Errors
/// The account's fault, or the network's: what cannot be told of one server is a row, what would be the same for all
/// of them ends the survey.
pub async fn survey(
    client: &Client,
    ids: impl IntoIterator<Item = String>,
    pace: Pace,
    told: impl FnMut(ServerRow),
) -> Result<(), Stopped> {
    let ids = ids.into_iter().map(|id| Question { id, failures: 0, at: Moment::START });
    let clock = Clock::start();
    let survey =
        Survey { client, clock, pace, questions: ids.collect(), hold_until: Moment::START, told };
    survey.run().await
}

struct Survey<'a, F> {
    client: &'a Client,
    clock: Clock,
    pace: Pace,
    questions: VecDeque<Question>,
    /// A 429 holds all of them.
    hold_until: Moment,
    told: F,
}

impl<F: FnMut(ServerRow)> Survey<'_, F> {
    async fn run(mut self) -> Result<(), Stopped> {
        let mut asked = FuturesUnordered::new();
        loop {
            let wake = if asked.len() < self.pace.in_flight.max(1) { self.wake() } else { None };
            match wake {
                None if asked.is_empty() => return Ok(()),
                Some(at) if at <= self.clock.now().at => {
                    if let Some(question) = self.take() {
                        asked.push(ask(self.client, self.clock, question));
                    }
                }
                Some(at) => tokio::select! {
                    Some(answered) = asked.next() => self.answered(answered).await?,
                    () = tokio::time::sleep_until(self.clock.instant(at)) => {}
                },
                None => {
                    if let Some(answered) = asked.next().await {
                        self.answered(answered).await?;
                    }
                }
            }
        }
    }

    /// When the next question may go; `None` if none is left.
    fn wake(&mut self) -> Option<Moment> {
        let now = self.clock.now().at;
        self.pace.limits.tick(now);
        let due = self.questions.iter().map(|question| question.at).min()?;
        Some(self.pace.limits.ready_at(now).max(self.hold_until).max(due))
    }

    fn take(&mut self) -> Option<Question> {
        let now = self.clock.now().at;
        let index = self.questions.iter().position(|question| question.at <= now)?;
        if self.pace.limits.ready_at(now) > now {
            return None;
        }
        self.pace.limits.take(now);
        self.questions.remove(index)
    }

    async fn answered(&mut self, (question, started, got): Answered) -> Result<(), Stopped> {
        let now = self.clock.now().at;
        match got.result {
            Ok(server) => (self.told)(row(question.id, server)),
            Err(Verdict::Throttled { wait, limit, .. }) => {
                let failures = question.failures + 1;
                let wait = wait.unwrap_or_else(|| {
                    retry::delay(&self.pace.retry, failures, &mut retry::Jitter::new())
                });
                self.hold_until = self.hold_until.max(now + wait);
                let named = limit.and_then(|(count, window)| Rate::new(count, window));
                self.pace.limits.lower(started, named, now, self.hold_until);
                // The quota is not the question's fault, but it lengthens the next wait.
                self.questions.push_back(Question { failures, ..question });
            }
            Err(Verdict::Unauthorized(fault)) => {
                let refreshed = self.client.refresh(Some(got.generation)).await;
                // What the API said of the credential tells more than that there is no other one; of an unsent call
                // it is the other way round.
                refreshed.map_err(|why| Stopped {
                    fault: if fault.status.is_some() { fault } else { why },
                })?;
                self.questions.push_back(question);
            }
            Err(Verdict::Account { fault, one_resource: false }) => return Err(Stopped { fault }),
            Err(Verdict::Transient { fault, .. } | Verdict::Ambiguous { fault, .. }) => {
                self.failed(question, fault, now)?;
            }
            Err(verdict) => {
                let fault = verdict.fault().cloned().unwrap_or_default();
                (self.told)(not_told(question.id, fault));
            }
        }
        Ok(())
    }

    /// A question may be asked again without harm.
    fn failed(&mut self, question: Question, fault: Fault, now: Moment) -> Result<(), Stopped> {
        let failures = question.failures + 1;
        if failures < self.pace.retry.attempts {
            let at = now + retry::delay(&self.pace.retry, failures, &mut retry::Jitter::new());
            self.questions.push_back(Question { failures, at, ..question });
        } else if fault.status.is_some() {
            (self.told)(not_told(question.id, fault));
        } else {
            // No answer at all, again and again: the API is unreachable, for every other server too.
            return Err(Stopped { fault });
        }
        Ok(())
    }
}

async fn ask(client: &Client, clock: Clock, question: Question) -> Answered {
    let started = clock.now().at;
    let got = client.source(&question.id).await;
    (question, started, got)
}

fn row(source_server_id: String, server: Option<SourceServer>) -> ServerRow {
    let Some(server) = server else { return blank(source_server_id, Standing::Unknown) };
    let ended = server.current_task.as_ref().map(|task| judge::is_ended(&task.state));
    let standing = if ended == Some(false) {
        Standing::HasTask
    } else if server.connected == Some(false) {
        Standing::NotConnected
    } else if ended == Some(true) {
        Standing::HadTask
    } else if !server.failed_checks.is_empty() || !is_ready(&server.state) {
        Standing::NotReady
    } else {
        Standing::Free
    };
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let task = server.current_task.unwrap_or_default();
    ServerRow {
        name: text(server.name),
        connected: server.connected,
        state: text(server.state),
        task_id: text(task.id),
        task_name: text(task.name),
        task_state: text(task.state),
        failed_checks: server.failed_checks,
        ..blank(source_server_id, standing)
    }
}

/// `waiting` for its target to be configured; what the API leaves out stands in nobody's way.
fn is_ready(state: &str) -> bool {
    state.is_empty() || state.eq_ignore_ascii_case("waiting")
}

fn not_told(source_server_id: String, fault: Fault) -> ServerRow {
    ServerRow { fault: Some(fault), ..blank(source_server_id, Standing::NotTold) }
}

fn blank(source_server_id: String, standing: Standing) -> ServerRow {
    ServerRow {
        source_server_id,
        standing,
        name: None,
        connected: None,
        state: None,
        task_id: None,
        task_name: None,
        task_state: None,
        failed_checks: Vec::new(),
        fault: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CurrentTask;

    fn server() -> SourceServer {
        SourceServer {
            connected: Some(true),
            state: "waiting".to_owned(),
            ..SourceServer::default()
        }
    }

    fn with_task(state: &str) -> SourceServer {
        let task =
            CurrentTask { id: "t".to_owned(), name: "n".to_owned(), state: state.to_owned() };
        SourceServer { current_task: Some(task), ..server() }
    }

    #[test]
    fn the_standing_is_the_first_thing_that_is_in_the_way() {
        let cases = [
            (Some(server()), Standing::Free),
            (None, Standing::Unknown),
            (Some(SourceServer { connected: Some(false), ..server() }), Standing::NotConnected),
            (
                Some(SourceServer { connected: Some(false), ..with_task("RUNNING") }),
                Standing::HasTask,
            ),
            (Some(with_task("READY")), Standing::HasTask),
            (Some(with_task("UNHEARD_OF")), Standing::HasTask),
            (Some(with_task("MIGRATE_FAIL")), Standing::HadTask),
            (Some(SourceServer { state: "initialize".to_owned(), ..server() }), Standing::NotReady),
            (
                Some(SourceServer { failed_checks: vec!["SMS.6517".to_owned()], ..server() }),
                Standing::NotReady,
            ),
            (
                Some(SourceServer { connected: None, state: String::new(), ..server() }),
                Standing::Free,
            ),
        ];
        for (server, standing) in cases {
            assert_eq!(row("s".to_owned(), server.clone()).standing, standing, "{server:?}");
        }
    }
}
