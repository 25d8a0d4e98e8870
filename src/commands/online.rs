//! `sluice check --online`: what does the API know of each source server of a plan? Two calls each, within the rate.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::{Failure, World, progress_bar};
use crate::api::Client;
use crate::core::{Limits, Query, Verdict};
use crate::lane::Config;
use crate::worker::clock::Clock;

/// What was found of one source server.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    row: u64,
    source_server_id: String,
    name: Option<String>,
    state: Option<String>,
    /// The task that it has: name and state.
    task: Option<String>,
    /// Why no task can be created for it now; empty: nothing stands in the way.
    problems: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) servers: Vec<Server>,
}

impl Found {
    pub(super) fn all_ready(&self) -> bool {
        self.servers.iter().all(|server| server.problems.is_empty())
    }

    pub(super) fn table(&self) -> String {
        let mut table = format!(
            "{:>6}  {:<38} {:<24} {:<12} {}\n",
            "row", "source server", "name", "state", "ready?"
        );
        for server in &self.servers {
            let ready = if server.problems.is_empty() {
                "yes".to_owned()
            } else {
                server.problems.join("; ")
            };
            let (name, state) =
                (server.name.as_deref().unwrap_or("-"), server.state.as_deref().unwrap_or("-"));
            let (row, id) = (server.row, &server.source_server_id);
            let _ = writeln!(table, "{row:>6}  {id:<38} {name:<24} {state:<12} {ready}");
        }
        table
    }
}

/// Asks about every server, one after the other, never faster than `limits.rates` allow.
///
/// # Errors
/// The API is unreachable, or refuses the credential: the first such answer ends it.
pub(super) async fn ask(
    config: &Config,
    sources: &[(u64, String)],
    world: &World,
) -> Result<Found, Failure> {
    let client = Client::new(&config.api).map_err(Failure::usage)?;
    let clock = Clock::start();
    let mut pace = Limits::new(&config.limits.rates, config.limits.margin, clock.now().at);
    let bar = progress_bar(world, sources.len() as u64, "asking");
    let mut servers = Vec::new();
    for (row, id) in sources {
        wait(&mut pace, clock).await;
        let known = client.source(id).await.result.map_err(|verdict| refused(&verdict))?;
        wait(&mut pace, clock).await;
        let query = Query::Source(id.clone());
        let tasks =
            client.list(&query, None).await.result.map_err(|verdict| refused(&verdict))?.tasks;
        let task = tasks.iter().find(|task| &*task.source_server_id == id.as_str());
        let mut server = Server {
            row: *row,
            source_server_id: id.clone(),
            name: None,
            state: None,
            task: task.map(|task| format!("{} ({})", task.name, task.state)),
            problems: Vec::new(),
        };
        match known {
            None => server
                .problems
                .push("the API does not know it: is its agent registered?".to_owned()),
            Some(known) => {
                if known.connected == Some(false) {
                    server.problems.push("its agent is not connected".to_owned());
                }
                if !known.failed_checks.is_empty() {
                    server
                        .problems
                        .push(format!("failed checks: {}", known.failed_checks.join(", ")));
                }
                server.name = Some(known.name);
                server.state = Some(known.state);
            }
        }
        if let Some(task) = &server.task {
            server.problems.push(format!("has a task: {task}"));
        }
        servers.push(server);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Found { servers })
}

async fn wait(pace: &mut Limits, clock: Clock) {
    let ready = pace.ready_at(clock.now().at);
    let late = ready - clock.now().at;
    if late > Duration::ZERO {
        tokio::time::sleep_until(clock.instant(ready)).await;
    }
    pace.take(clock.now().at);
}

fn refused(verdict: &Verdict) -> Failure {
    let said = verdict.fault().map(ToString::to_string).unwrap_or_default();
    Failure::unreachable(match verdict {
        Verdict::Unauthorized(_) => {
            format!("the API refuses the credential: {said}; see [api.auth]")
        }
        Verdict::Transient { answered: false, .. } => {
            format!("the API is unreachable: {said}; see api.endpoint, or try again later")
        }
        _ => format!("the API did not tell ({}): {said}; try again later", verdict.as_str()),
    })
}
