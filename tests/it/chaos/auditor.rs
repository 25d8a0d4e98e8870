//! Were the promises kept? Looks from outside only: at the queues, the stream of results and the sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use sluicegate::core::Outcome;
use sluicegate::sandbox::Sandbox;

use super::poison::{is_answered, is_poison};
use crate::support::rabbit::{Lane, Plain, SOON, results_in};
use crate::support::wait;

/// How long the last requests may take once all is calm.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was found in one lane after one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) requests: usize,
    /// Messages that must end as `invalid`, each by itself.
    pub(crate) poison: usize,
    /// Requests that were answered the same, every time.
    pub(crate) answered: usize,
    /// From the end of all other troubles until the last healthy one was settled beside those.
    pub(crate) calm: Duration,
    pub(crate) kills: usize,
    pub(crate) broker: u32,
    /// What else was broken, by name.
    pub(crate) broke: BTreeMap<&'static str, u32>,
    pub(crate) created: usize,
    pub(crate) twice: usize,
    /// Requests without a result.
    pub(crate) lost: usize,
    /// Results beyond the first of their runs.
    pub(crate) repeats: usize,
    pub(crate) looks: u64,
    pub(crate) broken: Vec<String>,
}

impl Found {
    pub(crate) const HEAD: &str = "lane | requests | worker kills | broker kills | created | twice | lost | repeats | looks | healthy after (s) | also broken\n--- | --- | --- | --- | --- | --- | --- | --- | --- | --- | ---\n";

    pub(crate) fn row(&self) -> String {
        let mut broke = String::new();
        for (name, count) in &self.broke {
            let _ = write!(broke, "{}{name} {count}", if broke.is_empty() { "" } else { ", " });
        }
        format!(
            "{} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {broke}{}",
            self.name,
            self.requests,
            self.kills,
            self.broker,
            self.created,
            self.twice,
            self.lost,
            self.repeats,
            self.looks,
            self.calm.as_secs_f64(),
            if self.broken.is_empty() { "" } else { " | BROKEN" },
        )
    }
}

/// Waits until a broker that was started again has all of the lane: it answers before its streams are there, and has them
/// before they can be read.
pub(super) async fn reachable(lane: &Lane) {
    let look = async || -> lapin::Result<()> {
        let connection = Connection::connect(&lane.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        for queue in [lane.queues.results_log(), lane.queues.requests(), lane.queues.dead_letters()]
        {
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await?;
        }
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let (log, options) = (lane.queues.results_log(), BasicConsumeOptions::default());
        channel
            .basic_consume(log.as_str().into(), "".into(), options, FieldTable::default())
            .await?;
        channel.close(200, "looked".into()).await
    };
    wait::until(PATIENCE, async || {
        look().await.map_err(|error| format!("the broker does not come back: {error}"))
    })
    .await;
}

/// Waits until so many of these requests have their result, by message id; how many results there are by then.
pub(super) async fn settled(lane: &Lane, requests: usize, these: impl Fn(&str) -> bool) -> usize {
    reachable(lane).await;
    let (mut looked, mut runs) = (0, BTreeSet::new());
    let enough = |read: &[Plain]| {
        let new = results_in(&read[looked..]).into_iter();
        runs.extend(new.map(|result| result.data.request_id).filter(|id| these(id)));
        looked = read.len();
        runs.len() >= requests
    };
    let read = lane.client().await.stream_until(&lane.queues.results_log(), PATIENCE, enough).await;
    assert!(runs.len() >= requests, "{} of {requests} are settled in {PATIENCE:?}", runs.len());
    results_in(&read).len()
}

/// `found` with what the outside shows; no worker runs any more, and at least `seen` results are there.
pub(super) async fn audit(lane: &Lane, sandbox: &Sandbox, seen: usize, mut found: Found) -> Found {
    let stats = sandbox.stats(&[]);
    let results = lane.results(seen).await;
    let runs: BTreeSet<_> = results.iter().map(|result| &result.id).collect();
    let with_task: BTreeSet<_> =
        results.iter().map(|r| (&r.data.request_id, &r.data.task_id)).collect();
    found.created = usize::try_from(stats.tasks.created).unwrap();
    found.twice = stats.created_twice.sources;
    let answered = results.iter().filter(|result| is_answered(&result.data.request_id));
    let answered: BTreeMap<_, _> =
        answered.map(|result| (&result.data.request_id, result.data.outcome)).collect();
    let ended_well = answered.values().filter(|outcome| !outcome.is_dead_letter()).count();
    let all = found.requests + found.poison + found.answered;
    found.lost = all.saturating_sub(runs.len());
    found.repeats = results.len() - runs.len();
    found.looks = stats.calls(sluicegate::sandbox::Kind::List);
    let mut broken = Vec::new();
    let mut must = |kept: bool, what: String| {
        if !kept {
            broken.push(what);
        }
    };
    must(found.twice == 0, format!("created twice: {:?}", stats.created_twice));
    must(found.created == found.requests + ended_well, format!("{} tasks created", found.created));
    must(runs.len() == all, format!("{} runs have results", runs.len()));
    must(with_task.len() == all, "results of one run name several tasks".into());
    let others: Vec<_> = results
        .iter()
        .filter(|result| !is_answered(&result.data.request_id))
        .filter(|result| {
            let as_it_should = if is_poison(&result.data.request_id) {
                Outcome::Invalid
            } else {
                Outcome::Created
            };
            result.data.outcome != as_it_should
        })
        .map(|result| format!("{} is {:?}", result.data.request_id, result.data.outcome))
        .collect();
    must(others.is_empty(), others.join(", "));
    let client = lane.client().await;
    // A dead letter whose settlement was cut off lies there once more.
    let mut letters = BTreeSet::new();
    while let Some(letter) = client.take(&lane.queues.dead_letters()).await {
        letters.insert(letter.id().to_owned());
    }
    let ended_badly = found.poison + found.answered - ended_well;
    must(letters.len() == ended_badly, format!("{} dead letters", letters.len()));
    for (what, queue) in [("requests", lane.queues.requests())] {
        // What the last worker settled is settled when it is gone.
        wait::until(SOON, async || match client.consumers(&queue).await {
            0 => Ok(()),
            consumers => Err(format!("{consumers} consumers of {queue}")),
        })
        .await;
        let depth = client.depth(&queue).await;
        must(depth == 0, format!("{depth} {what} are left over"));
    }
    found.broken.extend(broken);
    found
}
