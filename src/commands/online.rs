//! `sluice check --online`: what does the API know of each source server of a plan? From its lists, in pages, and within
//! what is left of the rate.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use super::permits::Permits;
use super::share::Share;
use super::times::local;
use super::{Failure, World, progress_bar};
use crate::api::Client;
use crate::api::explain::explain;
use crate::api::survey::{self, ServerRow, Standing, Stopped, Surveyed, Told};
use crate::core::retry::RetrySettings;
use crate::lane::Config;
use crate::message::words;

/// A list that fails is asked again after this at the latest: somebody waits for it.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What was found of one source server.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    row: u64,
    source_server_id: String,
    /// When the API said so; none where it did not.
    known_at: Option<Timestamp>,
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
    calls: u32,
    /// Why the API did not tell of all.
    pub(super) stopped: Option<String>,
}

impl Found {
    pub(super) fn all_ready(&self) -> bool {
        self.servers.iter().all(|server| server.problems.is_empty())
    }

    /// Why it is not known of all, and what to do.
    pub(super) fn missing(&self) -> Option<Failure> {
        let why = self.stopped.as_ref()?;
        let told = self.servers.iter().filter(|server| server.known_at.is_some()).count();
        let all = self.servers.len();
        Some(Failure::unreachable(format!("{why}; it has told of {told} of {all} source servers")))
    }

    pub(super) fn table(&self, now: Timestamp) -> String {
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
        table.push_str(&self.age(now));
        table
    }

    /// How old what is known is, in a line.
    fn age(&self, now: Timestamp) -> String {
        let times = self.servers.iter().filter_map(|server| server.known_at);
        let Some(oldest) = times.min() else { return String::new() };
        let seconds = now.duration_since(oldest).as_secs().unsigned_abs();
        let age =
            if seconds == 0 { "now".to_owned() } else { format!("{} ago", words::span(seconds)) };
        let calls = self.calls;
        format!("as the API said since {} ({age}), in {calls} calls\n", local(oldest))
    }
}

/// Asks about every server.
///
/// # Errors
/// The configuration cannot be used. What the API does not tell is in [`Found::stopped`].
pub(super) async fn ask(
    config: &Config,
    sources: &[(u64, String)],
    share: Option<Share>,
    world: &World,
) -> Result<Found, Failure> {
    let client = Client::new(&config.api).map_err(Failure::usage)?;
    let bar = progress_bar(world, 0, "asking");
    let mut permits = Permits::open(config, share, world, bar.clone()).await?;
    let retry = patience(config);
    let ids = sources.iter().map(|(_, id)| id.clone()).collect();
    let told = |told: Told<'_>| tell(&bar, &told);
    let surveyed = survey::survey(&client, ids, &mut permits, &retry, told).await;
    permits.close().await;
    bar.finish_and_clear();
    Ok(found(sources, surveyed))
}

/// Says how far a list is, and why it is waited for.
pub(super) fn tell(bar: &ProgressBar, told: &Told<'_>) {
    match told {
        Told::Read { what, rows, of } => {
            bar.set_length((*of).into());
            bar.set_position((*rows).into());
            bar.set_message(*what);
        }
        Told::Waits(wait, fault) => bar.suspend(|| {
            let wait = words::span((*wait + Duration::from_millis(999)).as_secs());
            eprintln!("the API does not tell just now ({fault}): asked again in {wait}");
        }),
    }
}

/// As the worker tries again, but no longer apart than somebody waits.
pub(super) fn patience(config: &Config) -> RetrySettings {
    let retry = config.core().gate.retry;
    RetrySettings { max: retry.max.min(LONGEST_WAIT), ..retry }
}

fn found(sources: &[(u64, String)], surveyed: Surveyed) -> Found {
    let rows = sources.iter().zip(surveyed.rows);
    let servers = rows.map(|((row, _), server)| described(*row, server)).collect();
    Found { servers, calls: surveyed.calls, stopped: surveyed.stopped.as_ref().map(why) }
}

fn described(row: u64, server: ServerRow) -> Server {
    let task = task_of(&server);
    let problems = problems(&server);
    Server {
        row,
        source_server_id: server.source_server_id,
        known_at: server.known_at,
        name: server.name,
        state: server.state,
        task,
        problems,
    }
}

/// Why no task can be created for it now; empty: nothing stands in the way.
pub(super) fn problems(server: &ServerRow) -> Vec<String> {
    let mut problems = Vec::new();
    match server.standing {
        Standing::Unknown => {
            problems.push("the API does not know it: is its agent registered?".to_owned());
        }
        Standing::NotTold => {
            let said = server.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
            problems.push(format!("not known: the API did not tell{said}"));
        }
        _ => {}
    }
    if server.connected == Some(false) {
        let since = server.last_seen.map(|at| format!(" (last seen {})", local(at)));
        problems.push(format!("its agent is not connected{}", since.unwrap_or_default()));
    }
    if !server.failed_checks.is_empty() {
        let checks: Vec<String> = server.failed_checks.iter().map(|code| meaning(code)).collect();
        problems.push(format!("failed checks: {}", checks.join(", ")));
    }
    match (task_of(server), server.standing) {
        (Some(task), Standing::HadTask) => problems.push(format!(
            "has a task: {task}; it has ended, and may have to be deleted before another can be created"
        )),
        (Some(task), _) => problems.push(format!("has a task: {task}")),
        // Otherwise its checks or its task say what it is not ready for.
        (None, Standing::NotReady) if server.failed_checks.is_empty() => {
            let state = server.state.as_deref().unwrap_or("-");
            problems.push(format!("its state is {state}, not waiting"));
        }
        (None, _) => {}
    }
    problems
}

/// Its task: name and state.
fn task_of(server: &ServerRow) -> Option<String> {
    let (name, state) = (server.task_name.as_deref(), server.task_state.as_deref());
    (name.is_some() || state.is_some())
        .then(|| format!("{} ({})", name.unwrap_or("-"), state.unwrap_or("-")))
}

/// A code with what it means, where the table knows it.
fn meaning(code: &str) -> String {
    match explain(code).first() {
        Some(row) => format!("{code} ({})", row.meaning),
        None => code.to_owned(),
    }
}

pub(super) fn why(stopped: &Stopped) -> String {
    match stopped {
        Stopped::Credential(said) => {
            format!("the API refuses the credential: {said}; see [api.auth]")
        }
        Stopped::Fault(said) if said.status.is_none() => {
            format!("the API is unreachable: {said}; see api.endpoint, or try again later")
        }
        Stopped::Fault(said) => format!("the API did not tell: {said}; try again later"),
        Stopped::Denied(why) => why.clone(),
    }
}
