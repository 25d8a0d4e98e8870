//! Which tasks are there, and what is a source server's state? The answers of `GET /v3/tasks` and
//! `GET /v3/sources/{id}`, read for what we need of them.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::core::sweep::PAGE;
use crate::core::{Listing, Query, Task};

/// Reads a page of tasks. Strict where a mistake would let a request be sent twice: a row without an id, a source server,
/// a state or a date clears nobody whom it could be about, as "nothing found" would be a guess; and a full page that does
/// not say how many there are may not be all of them.
pub(super) fn tasks(body: &[u8], query: &Query) -> Result<Listing, String> {
    let page: Page =
        serde_json::from_slice(body).map_err(|error| format!("not a list of tasks: {error}"))?;
    let listed = page.tasks.unwrap_or_default();
    let rows = u32::try_from(listed.len()).unwrap_or(u32::MAX);
    let (mut tasks, mut unread) = (Vec::with_capacity(listed.len()), Vec::new());
    let mut begins_unread = false;
    for row in listed {
        if let Some(task) = ListedTask::deserialize(&row).ok().and_then(ListedTask::into_task) {
            tasks.push(task);
        } else {
            begins_unread |= tasks.is_empty();
            unread.push(source_of(&row));
        }
    }
    if page.count.is_none() && rows >= PAGE {
        return Err(format!("a full page of {rows} tasks that does not say how many there are"));
    }
    let count = page.count.unwrap_or(rows);
    let is_look = matches!(query, Query::Source(_));
    if let Query::Source(id) = query
        && unread.iter().any(|source| source.as_ref().is_none_or(|source| source == id))
    {
        return Err("a task without an id, a source server, a state or a date that can be read: it may be the one".to_owned());
    }
    if is_look && count > rows && (rows == 0 || rows >= PAGE) {
        return Err(format!(
            "{rows} of {count} tasks of one source server: what is missing may be the one"
        ));
    }
    Ok(Listing { tasks, count, unread, begins_unread, date: None })
}

/// Reads the answer for one task.
pub(super) fn task(body: &[u8]) -> Result<Listing, String> {
    let row: ListedTask =
        serde_json::from_slice(body).map_err(|error| format!("not a task: {error}"))?;
    let task = row.into_task().ok_or("a task without an id, a source server, a state or a date")?;
    Ok(Listing { tasks: vec![task], count: 1, ..Listing::default() })
}

/// What the API knows of one source server: enough to say whether a task can be created for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceServer {
    pub id: String,
    pub name: String,
    /// Whether its agent is connected; `None` where the API does not say.
    pub connected: Option<bool>,
    /// `waiting` is ready for a task.
    pub state: String,
    pub current_task: Option<CurrentTask>,
    /// What the check of the source server found, where it found a fault: error codes.
    pub failed_checks: Vec<String>,
    pub ip: String,
    /// `LINUX` or `WINDOWS`, in whatever case the API writes it.
    pub os_type: String,
    pub os_version: String,
    /// Bytes to copy.
    pub total_size: Option<u64>,
    /// When its agent was seen last.
    pub last_seen: Option<Timestamp>,
    /// The target that the API recommends, in the shapes that `target_server` takes.
    pub disks: Vec<Value>,
    pub volume_groups: Vec<Value>,
    /// Only the single view has them.
    pub btrfs_list: Vec<Value>,
}

/// The task that a source server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentTask {
    pub id: String,
    pub name: String,
    pub state: String,
}

pub(super) fn source(body: &[u8]) -> Result<SourceServer, String> {
    let row: SourceRow =
        serde_json::from_slice(body).map_err(|error| format!("not a source server: {error}"))?;
    Ok(server(row))
}

/// A page of source servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcePage {
    pub servers: Vec<SourceServer>,
    /// Rows that cannot be read, or have no id.
    pub unread: u32,
    /// How many the account has, whatever the page.
    pub count: u32,
}

/// Reads a page of source servers; a full one that does not say how many there are may not be all of them.
pub(super) fn sources(body: &[u8]) -> Result<SourcePage, String> {
    let page: Sources = serde_json::from_slice(body)
        .map_err(|error| format!("not a list of source servers: {error}"))?;
    let listed = page.source_servers.unwrap_or_default();
    let rows = u32::try_from(listed.len()).unwrap_or(u32::MAX);
    if page.count.is_none() && rows >= PAGE {
        return Err(format!(
            "a full page of {rows} source servers that does not say how many there are"
        ));
    }
    let read = listed.into_iter().filter_map(|row| SourceRow::deserialize(row).ok());
    let servers: Vec<_> = read.map(server).filter(|server| !server.id.is_empty()).collect();
    let unread = rows - u32::try_from(servers.len()).unwrap_or(rows);
    Ok(SourcePage { servers, unread, count: page.count.unwrap_or(rows) })
}

fn server(row: SourceRow) -> SourceServer {
    let failed = row.checks.into_iter().filter(|check| check.result.eq_ignore_ascii_case("ERROR"));
    SourceServer {
        id: row.id,
        name: row.name,
        connected: row.connected,
        state: row.state,
        current_task: row.current_task.filter(|task| !task.id.is_empty()).map(|task| CurrentTask {
            id: task.id,
            name: task.name,
            state: task.state,
        }),
        failed_checks: failed
            .map(|check| if check.error_code.is_empty() { check.name } else { check.error_code })
            .collect(),
        ip: row.ip,
        os_type: row.os_type,
        os_version: row.os_version,
        total_size: row.totalsize.as_u64(),
        last_seen: instant(&row.last_visit_time),
        disks: row.init_target_server.disks,
        volume_groups: row.init_target_server.volume_groups,
        btrfs_list: row.btrfs_list,
    }
}

#[derive(Deserialize)]
struct Page {
    count: Option<u32>,
    /// `null` is an empty page, absence is no page at all.
    #[serde(deserialize_with = "Option::deserialize")]
    tasks: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Sources {
    count: Option<u32>,
    /// `null` is an empty page, absence is no page at all.
    #[serde(deserialize_with = "Option::deserialize")]
    source_servers: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct ListedTask {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    state: String,
    #[serde(default, deserialize_with = "or_default")]
    source_server: Part,
    #[serde(default, deserialize_with = "or_default")]
    target_server: Part,
    #[serde(default)]
    create_date: Value,
}

#[derive(Default, Deserialize)]
struct Part {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    vm_id: String,
}

#[derive(Deserialize)]
struct SourceRow {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default)]
    connected: Option<bool>,
    #[serde(default, deserialize_with = "or_default")]
    state: String,
    #[serde(default)]
    current_task: Option<TaskRow>,
    #[serde(default, deserialize_with = "or_default")]
    checks: Vec<Check>,
    #[serde(default, deserialize_with = "or_default")]
    ip: String,
    #[serde(default, deserialize_with = "or_default")]
    os_type: String,
    #[serde(default, deserialize_with = "or_default")]
    os_version: String,
    #[serde(default)]
    totalsize: Value,
    #[serde(default)]
    last_visit_time: Value,
    #[serde(default, deserialize_with = "or_default")]
    init_target_server: Recommended,
    #[serde(default, deserialize_with = "or_default")]
    btrfs_list: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct Recommended {
    #[serde(default, deserialize_with = "or_default")]
    disks: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    volume_groups: Vec<Value>,
}

#[derive(Deserialize)]
struct TaskRow {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    state: String,
}

#[derive(Default, Deserialize)]
struct Check {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    result: String,
    #[serde(default, deserialize_with = "or_default")]
    error_code: String,
}

impl ListedTask {
    /// `None`: it does not say which task of which source server it is, or how that stands.
    fn into_task(self) -> Option<Task> {
        let source = self.source_server.id;
        let create_date = instant(&self.create_date)?;
        let said = [&self.id, &self.state, &source].into_iter().all(|text| !text.is_empty());
        said.then(|| Task {
            id: self.id,
            name: self.name,
            state: self.state,
            source_server_id: source,
            target_vm_id: Some(self.target_server.vm_id).filter(|id| !id.is_empty()),
            create_date: Some(create_date),
        })
    }
}

/// The source server of a row that cannot be read, if that can.
fn source_of(row: &Value) -> Option<String> {
    let id = row.pointer("/source_server/id")?.as_str()?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// `create_date` is in milliseconds since 1970, as a number or, as the API writes many numbers, as a string.
fn instant(value: &Value) -> Option<Timestamp> {
    let millis = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Timestamp::from_millisecond(millis).ok()
}

/// The API sends `null` for what it does not have.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        Query::Source("s1".to_owned())
    }

    #[test]
    fn a_page_is_read_with_the_fields_that_decide() {
        let body = br#"{"count": 7, "tasks": [{"id": "t1", "name": "n", "state": "RUNNING", "type": "MIGRATE_FILE",
            "priority": 1, "create_date": 1764000000123, "source_server": {"id": "s1", "ip": "192.0.2.1"},
            "target_server": {"vm_id": "v1", "name": "x"}, "error_json": ""}]}"#;
        let page = tasks(body, &query()).unwrap();
        assert_eq!(page.count, 7);
        assert_eq!(
            page.tasks,
            [Task {
                id: "t1".to_owned(),
                name: "n".to_owned(),
                state: "RUNNING".to_owned(),
                source_server_id: "s1".to_owned(),
                target_vm_id: Some("v1".to_owned()),
                create_date: Some(Timestamp::from_millisecond(1_764_000_000_123).unwrap()),
            }]
        );
    }

    #[test]
    fn nulls_and_numbers_as_strings_are_read() {
        let body = br#"{"count": 1, "tasks": [{"id": "t1", "name": null, "state": "SKIPPING",
            "create_date": "1764000000123", "source_server": {"id": "s1"}, "target_server": {"vm_id": null}}]}"#;
        let page = tasks(body, &query()).unwrap();
        assert_eq!(page.tasks[0].target_vm_id, None);
        assert_eq!(page.tasks[0].create_date.unwrap().as_millisecond(), 1_764_000_000_123);
        assert_eq!(tasks(br#"{"count": 0, "tasks": null}"#, &query()).unwrap(), Listing::default());
    }

    #[test]
    fn a_row_that_cannot_be_read_is_told_apart_and_fails_the_look_up_that_it_may_be_about() {
        let row =
            r#"{"id": "t1", "state": "READY", "create_date": 1, "source_server": {"id": "s2"}}"#;
        let page = |bad: &str| format!(r#"{{"count": 2, "tasks": [{row}, {bad}]}}"#);
        let all = |bad: &str| tasks(page(bad).as_bytes(), &Query::All { offset: 0 }).unwrap();
        for (bad, source) in [
            (r#"{"id": "t2", "state": "READY", "create_date": 1, "source_server": null}"#, None),
            (
                r#"{"id": null, "state": "READY", "create_date": 1, "source_server": {"id": "s1"}}"#,
                Some("s1"),
            ),
            (
                r#"{"id": "t2", "state": 7, "create_date": 1, "source_server": {"id": "s1"}}"#,
                Some("s1"),
            ),
            (r#"{"id": "t2", "state": "READY", "source_server": {"id": "s1"}}"#, Some("s1")),
            (
                r#"{"id": "t2", "state": "READY", "create_date": 1, "source_server": {"id": "s3"}, "name": 4}"#,
                Some("s3"),
            ),
            ("[]", None),
        ] {
            let read = all(bad);
            assert_eq!(
                (read.tasks.len(), read.unread),
                (1, vec![source.map(str::to_owned)]),
                "{bad}"
            );
            let look = tasks(page(bad).as_bytes(), &query());
            assert_eq!(look.is_err(), source != Some("s3"), "{bad}");
        }
    }

    #[test]
    fn a_full_page_that_does_not_say_how_many_there_are_is_not_taken_for_all() {
        let row =
            r#"{"id": "t", "state": "READY", "create_date": 1, "source_server": {"id": "s"}}"#;
        let page = |rows: usize| format!(r#"{{"tasks": [{}]}}"#, vec![row; rows].join(","));
        assert!(tasks(page(199).as_bytes(), &Query::All { offset: 0 }).is_ok());
        assert!(tasks(page(200).as_bytes(), &Query::All { offset: 0 }).is_err());
    }

    #[test]
    fn what_is_no_page_is_never_an_empty_one() {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"count": 0}"#,
            r#"{"count": 1, "tasks": []}"#,
            r#"{"count": 1, "tasks": null}"#,
            r#"{"tasks": [{"id": "#,
        ] {
            assert!(tasks(body.as_bytes(), &query()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_source_server_is_read_with_its_task_and_its_failed_checks() {
        let body = br#"{"id": "s1", "name": "web", "connected": true, "state": "waiting", "os_version": "x",
            "current_task": {"id": "t1", "name": "n", "state": "READY"},
            "checks": [{"name": "RAM", "result": "OK"}, {"name": "RSYNC", "result": "ERROR", "error_code": "SMS.6517"}]}"#;
        let found = source(body).unwrap();
        assert_eq!(found.connected, Some(true));
        assert_eq!(found.state, "waiting");
        assert_eq!(found.current_task.unwrap().id, "t1");
        assert_eq!(found.failed_checks, ["SMS.6517"]);
        let page = sources(
            br#"{"count": 7, "source_servers": [{"id": "s1", "state": "WAITING"}, {"id": 4}, {}]}"#,
        );
        let page = page.unwrap();
        assert_eq!((page.servers.len(), page.unread, page.count), (1, 2, 7));
        assert!(sources(b"{}").is_err() && sources(br#"{"source_servers": null}"#).is_ok());
        let bare = source(br#"{"id": "s1", "current_task": null, "checks": null}"#).unwrap();
        assert_eq!((bare.connected, bare.current_task), (None, None));
    }
}
