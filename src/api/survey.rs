//! Can a task be created for each of these source servers? `sluice check --online` reads the account's lists in pages,
//! as fast as it is permitted, and keeps what it has when the API stops answering.
//!
//! Each page begins with the last row of the one before; if that place holds another row, rows have moved while they were
//! read, and the list is begun again. What a list does not have is asked for singly, a few times: where the API knows one
//! of them all the same, its list is not to be trusted, and all that are missing are asked for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::asking::Asking;
pub use super::asking::{Permits, Stopped, Told};
use super::{Client, SourceFilter, SourceServer};
use crate::core::{Fault, Query, Task, judge, retry};

/// How often a list is begun again whose rows move.
const RESTARTS: u32 = 5;
/// So many that no list has are asked for singly before the rest is believed to be missing.
const SAMPLE: usize = 10;
/// The highest offset that the API takes.
const MAX_OFFSET: u32 = 65_535;

/// What the API said of one source server.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ServerRow {
    pub source_server_id: String,
    pub standing: Standing,
    /// When the API said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub known_at: Option<Timestamp>,
    /// The server's name, as registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// When its agent was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_seen: Option<Timestamp>,
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

/// What is known of all of them.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// One for each that was asked for, in that order.
    pub rows: Vec<ServerRow>,
    pub calls: u32,
    /// Why what is not told is not.
    pub stopped: Option<Stopped>,
}

/// Asks about these source servers.
pub async fn survey(
    client: &Client,
    ids: Vec<String>,
    permits: &mut impl Permits,
    retry: &retry::RetrySettings,
    told: impl FnMut(Told<'_>),
) -> Surveyed {
    let mut survey = Survey {
        asking: Asking::new(client, permits, retry, told),
        wanted: ids.iter().cloned().collect(),
        servers: BTreeMap::new(),
        absent: BTreeMap::new(),
        tasks: None,
    };
    let stopped = survey.run().await.err();
    let why = stopped.as_ref().map(|stopped| match stopped {
        Stopped::Fault(fault) | Stopped::Credential(fault) => fault.clone(),
        Stopped::Denied(why) => Fault { error_msg: why.clone(), ..Fault::default() },
    });
    let rows = ids.into_iter().map(|id| survey.row(id, why.clone())).collect();
    Surveyed { rows, calls: survey.asking.calls, stopped }
}

struct Survey<'a, P, F> {
    asking: Asking<'a, P, F>,
    wanted: BTreeSet<String>,
    /// What was said of each, and when.
    servers: BTreeMap<String, (SourceServer, Timestamp)>,
    /// Those that the API does not know.
    absent: BTreeMap<String, Timestamp>,
    /// The tasks of those that are wanted, by source server; none before the list was read whole.
    tasks: Option<BTreeMap<String, Vec<Task>>>,
}

/// A page as both lists have them.
struct Page {
    /// What tells the rows apart, in their order; none of one that cannot be read.
    ids: Vec<Option<String>>,
    count: u32,
}

/// How far a list has been read.
#[derive(Default)]
struct Paging {
    offset: u32,
    last: Option<String>,
    restarts: u32,
}

impl Paging {
    /// Takes a page; whether the list goes on, or is begun anew.
    fn goes_on(&mut self, page: &Page) -> Next {
        let rows = u32::try_from(page.ids.len()).unwrap_or(u32::MAX);
        let first = page.ids.first().and_then(Option::as_deref);
        let moved = self.offset > 0
            && self.last.is_some()
            && first.is_some()
            && self.last.as_deref() != first;
        if moved || (self.offset > 0 && rows == 0 && page.count > 0) {
            self.restarts += 1;
            self.offset = 0;
            self.last = None;
            return if self.restarts > RESTARTS { Next::End } else { Next::Page };
        }
        let end = self.offset.saturating_add(rows);
        if end >= page.count || rows < 2 || end > MAX_OFFSET {
            return Next::End;
        }
        self.last = page.ids.last().cloned().flatten();
        self.offset = end - 1;
        Next::Page
    }
}

#[derive(PartialEq)]
enum Next {
    Page,
    End,
}

impl<P: Permits, F: FnMut(Told<'_>)> Survey<'_, P, F> {
    async fn run(&mut self) -> Result<(), Stopped> {
        self.read_sources().await?;
        self.read_tasks().await?;
        self.ask_for_the_missing().await
    }

    /// Until all that are wanted have been seen, or to the end.
    async fn read_sources(&mut self) -> Result<(), Stopped> {
        let mut paging = Paging::default();
        loop {
            let client = self.asking.client;
            let offset = paging.offset;
            let all = SourceFilter::default();
            let page = self.asking.ask(|| client.sources(offset, &all)).await?;
            let now = Timestamp::now();
            let unread = usize::try_from(page.unread).unwrap_or_default();
            let mut ids: Vec<_> =
                page.servers.iter().map(|server| Some(server.id.clone())).collect();
            ids.extend(std::iter::repeat_n(None, unread));
            for server in page.servers {
                if self.wanted.contains(&server.id) {
                    self.servers.insert(server.id.clone(), (server, now));
                }
            }
            self.asking.say("source servers", offset, ids.len(), page.count);
            let next = paging.goes_on(&Page { ids, count: page.count });
            if next == Next::End || self.servers.len() == self.wanted.len() {
                return Ok(());
            }
        }
    }

    /// To the end: that a server has no task is known only there.
    async fn read_tasks(&mut self) -> Result<(), Stopped> {
        let mut paging = Paging::default();
        let mut found: BTreeMap<String, Vec<Task>> = BTreeMap::new();
        loop {
            let client = self.asking.client;
            let query = Query::All { offset: paging.offset };
            let page = self.asking.ask(|| client.list(&query, None)).await?;
            let mut ids: Vec<_> = page.tasks.iter().map(|task| Some(task.id.clone())).collect();
            ids.extend(page.unread.iter().map(|_| None));
            for task in page.tasks {
                if self.wanted.contains(&task.source_server_id) {
                    let tasks = found.entry(task.source_server_id.clone()).or_default();
                    if tasks.iter().all(|known| known.id != task.id) {
                        tasks.push(task);
                    }
                }
            }
            self.asking.say("tasks", paging.offset, ids.len(), page.count);
            if paging.goes_on(&Page { ids, count: page.count }) == Next::End {
                self.tasks = Some(found);
                return Ok(());
            }
        }
    }

    async fn ask_for_the_missing(&mut self) -> Result<(), Stopped> {
        let missing: Vec<String> =
            self.wanted.iter().filter(|id| !self.servers.contains_key(*id)).cloned().collect();
        let mut contradicted = false;
        for (asked, id) in missing.into_iter().enumerate() {
            if asked >= SAMPLE && !contradicted {
                self.absent.insert(id, Timestamp::now());
                continue;
            }
            let client = self.asking.client;
            match self.asking.ask(|| client.source(&id)).await {
                Ok(Some(server)) => {
                    contradicted = true;
                    self.servers.insert(id, (server, Timestamp::now()));
                }
                Ok(None) => {
                    self.absent.insert(id, Timestamp::now());
                }
                // What is answered about this one alone is told of it alone.
                Err(Stopped::Fault(fault))
                    if fault.status.is_some_and(|status| status < 500 && status != 429) => {}
                Err(stopped) => return Err(stopped),
            }
        }
        Ok(())
    }

    fn row(&self, id: String, why: Option<Fault>) -> ServerRow {
        if let Some((server, at)) = self.servers.get(&id) {
            let tasks = self.tasks.as_ref();
            let tasks = tasks.map(|tasks| tasks.get(&id).map_or(&[][..], Vec::as_slice));
            return ServerRow { known_at: Some(*at), ..row(id, server.clone(), tasks) };
        }
        match self.absent.get(&id) {
            Some(at) => ServerRow { known_at: Some(*at), ..blank(id, Standing::Unknown) },
            None => ServerRow { fault: why, ..blank(id, Standing::NotTold) },
        }
    }
}

/// What a list says of a source server, with the task that stands there.
pub fn standing(server: SourceServer) -> ServerRow {
    row(server.id.clone(), server, None)
}

/// `tasks`: those of this server, where the list was read whole.
fn row(source_server_id: String, server: SourceServer, tasks: Option<&[Task]>) -> ServerRow {
    let listed = tasks.unwrap_or_default();
    let lives = listed.iter().find(|task| !judge::is_ended(&task.state));
    let listed = lives.or(listed.iter().max_by_key(|task| task.create_date));
    let listed = listed.map(|task| (task.id.clone(), task.name.clone(), task.state.clone()));
    let own = server.current_task.map(|task| (task.id, task.name, task.state));
    let task = lives.and(listed.clone()).or(own).or(listed);
    let ended = task.as_ref().map(|(_, _, state)| judge::is_ended(state));
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
    let (task_id, task_name, task_state) = task.unwrap_or_default();
    ServerRow {
        name: text(server.name),
        connected: server.connected,
        last_seen: server.last_seen,
        state: text(server.state),
        task_id: text(task_id),
        task_name: text(task_name),
        task_state: text(task_state),
        failed_checks: server.failed_checks,
        ..blank(source_server_id, standing)
    }
}

/// `waiting` for its target to be configured; what the API leaves out stands in nobody's way.
fn is_ready(state: &str) -> bool {
    state.is_empty() || state.eq_ignore_ascii_case("waiting")
}

fn blank(source_server_id: String, standing: Standing) -> ServerRow {
    ServerRow {
        source_server_id,
        standing,
        known_at: None,
        name: None,
        connected: None,
        last_seen: None,
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
            (server(), Standing::Free),
            (SourceServer { connected: Some(false), ..server() }, Standing::NotConnected),
            (SourceServer { connected: Some(false), ..with_task("RUNNING") }, Standing::HasTask),
            (with_task("READY"), Standing::HasTask),
            (with_task("UNHEARD_OF"), Standing::HasTask),
            (with_task("MIGRATE_FAIL"), Standing::HadTask),
            (SourceServer { state: "initialize".to_owned(), ..server() }, Standing::NotReady),
            (
                SourceServer { failed_checks: vec!["SMS.6517".to_owned()], ..server() },
                Standing::NotReady,
            ),
            (SourceServer { connected: None, state: String::new(), ..server() }, Standing::Free),
        ];
        for (server, standing) in cases {
            assert_eq!(row("s".to_owned(), server.clone(), None).standing, standing, "{server:?}");
        }
    }
}
