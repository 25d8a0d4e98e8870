//! What does the API tell of source servers? `GET /v3/sources`, `GET /v3/sources/{id}` and `GET /v3/sources/overview`.

use serde_json::{Map, Value, json};

use super::api::{MAX_LIMIT, Page};
use super::call::{Answer, Call};
use super::errors;
use super::options::SourceServer;
use super::task::{self, Task};
use super::world::World;
use crate::core::Now;

/// The states that an overview counts.
const OVERVIEW: [&str; 14] = [
    "waiting",
    "replicate",
    "syncing",
    "stopped",
    "deleting",
    "cutovering",
    "unavailable",
    "stopping",
    "skipping",
    "finished",
    "initialize",
    "error",
    "cloning",
    "unconfigured",
];

pub(super) fn list(world: &World, call: &Call, now: Now) -> Answer {
    let page = match Page::of(call, MAX_LIMIT, MAX_LIMIT) {
        Ok(page) => page,
        Err(refused) => return refused,
    };
    let known = all(world);
    let rows = known.iter().map(|source| (source, row(world, source, now)));
    let (count, rows) = page.cut(rows.filter(|(source, row)| wanted(call, source, row)));
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| Value::Object(row)).collect();
    Answer::ok(&json!({"count": count, "source_servers": rows}))
}

fn wanted(call: &Call, source: &SourceServer, row: &Map<String, Value>) -> bool {
    let is = |parameter: &str, value: Option<&Value>| {
        call.parameter(parameter).is_none_or(|wanted| match value {
            Some(Value::String(text)) => text.eq_ignore_ascii_case(wanted),
            Some(Value::Bool(flag)) => wanted.eq_ignore_ascii_case(&flag.to_string()),
            _ => false,
        })
    };
    let networks = source.details.get("networks").and_then(Value::as_array);
    let has_ipv6 = |ipv6: &str| {
        networks.is_some_and(|networks| networks.iter().any(|network| network["ipv6"] == ipv6))
    };
    ["id", "name", "ip", "connected", "state", "migration_cycle", "is_consistency_result_exist"]
        .iter()
        .all(|field| is(field, row.get(*field)))
        && call.parameter("ipv6").is_none_or(has_ipv6)
        && is("migproject", source.facts.get("migprojectid"))
        && (call.parameter("enterprise_project_id") == Some("all_granted_eps")
            || is("enterprise_project_id", row.get("enterprise_project_id")))
        && is("vm_id", row["current_task"].pointer("/target_server/vm_id"))
}

pub(super) fn show(world: &World, call: &Call, now: Now) -> Answer {
    let Some(source) = server(world, call.id()) else {
        return errors::sms("SMS.7602", "The specified source server does not exist.");
    };
    let mut row = row(world, &source, now);
    // The list has bytes here, the single view megabytes.
    if let Some(bytes) = row.get("memory").and_then(Value::as_u64) {
        row.insert("memory".to_owned(), json!(bytes >> 20));
    }
    let target = row["init_target_server"].clone();
    let part = |name: &str| target.get(name).cloned().unwrap_or_else(|| json!([]));
    let more = json!({
        "hostname": source.name,
        "firmware": "BIOS",
        "disks": part("disks"),
        "volume_groups": part("volume_groups"),
        "btrfs_list": [],
        "networks": [],
        "agent_version": "25.2.0",
    });
    lay_over(&mut row, &more);
    lay_over(&mut row, &Value::Object(source.details));
    Answer::ok(&Value::Object(row))
}

pub(super) fn overview(world: &World) -> Answer {
    let mut counts: Map<String, Value> =
        OVERVIEW.iter().map(|state| ((*state).to_owned(), json!(0))).collect();
    for source in all(world) {
        let count = counts.entry(state(world, &source)).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or_default() + 1);
    }
    Answer::ok(&Value::Object(counts))
}

/// All of the account; where any id is registered, those that have a task.
fn all(world: &World) -> Vec<SourceServer> {
    match &world.sources {
        Some(registered) => registered.values().cloned().collect(),
        None => world.tasks.sources().map(SourceServer::connected).collect(),
    }
}

pub(super) fn server(world: &World, id: &str) -> Option<SourceServer> {
    match &world.sources {
        Some(registered) => registered.get(id).cloned(),
        None => Some(SourceServer::connected(id)),
    }
}

/// What both views tell.
fn row(world: &World, source: &SourceServer, now: Now) -> Map<String, Value> {
    let task = current_task(world, source).filter(|task| task.visible <= now.at);
    let then = now.wall.as_millisecond();
    let own = json!({
        "id": source.id,
        "name": source.name,
        "ip": source.ip,
        "enterprise_project_id": "0",
        "add_date": then,
        "os_type": source.os_type,
        "os_version": "",
        "oem_system": false,
        "connected": source.connected,
        "cpu_quantity": 2,
        "memory": 4_u64 << 30,
        "checks": [],
        "init_target_server": {"disks": [], "volume_groups": []},
        "replicatesize": 0,
        "totalsize": 0,
        "last_visit_time": then,
        "state_action_time": then,
        "stage_action_time": then,
        "is_consistency_result_exist": false,
        "has_tc": false,
        "start_type": "MANUAL",
    });
    let mut row = Map::new();
    lay_over(&mut row, &own);
    lay_over(&mut row, &Value::Object(source.facts.clone()));
    let lives = json!({
        "state": state(world, source),
        "migration_cycle": cycle(source, task),
        "current_task": task.map(task_of),
    });
    lay_over(&mut row, &lives);
    row
}

fn task_of(task: &Task) -> Value {
    let made = &task.made;
    json!({
        "id": task.id, "name": made.name, "type": made.task_type, "state": task.state(),
        "estimate_complete_time": null,
        "start_date": task.started.map(jiff::Timestamp::as_millisecond),
        "create_date": task.created.as_millisecond(),
        "speed_limit": made.speed_limit, "migrate_speed": 0.0,
        "start_target_server": made.start_target_server, "vm_template_id": made.vm_template_id,
        "region_id": made.region_id, "project_id": made.project_id, "project_name": made.project_name,
        "target_server": {"vm_id": made.vm_id, "name": made.target_name},
        "remain_seconds": null, "subtask_info": "",
    })
}

fn lay_over(row: &mut Map<String, Value>, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        row.insert(name.clone(), value.clone());
    }
}

fn current_task<'a>(world: &'a World, source: &SourceServer) -> Option<&'a Task> {
    let tasks = world.tasks.of_source(&source.id);
    tasks.max_by_key(|task| (task.is_live(), task.number))
}

pub(super) fn state(world: &World, source: &SourceServer) -> String {
    match current_task(world, source).map(Task::state) {
        Some(task::READY) => "initialize".to_owned(),
        Some(task::RUNNING) => "replicate".to_owned(),
        Some(task::SYNCING) => "syncing".to_owned(),
        Some(task::SUCCESS) => "finished".to_owned(),
        Some(task::FAIL) => "error".to_owned(),
        _ => source.state.clone(),
    }
}

fn cycle(source: &SourceServer, task: Option<&Task>) -> &'static str {
    match task.map(Task::state) {
        Some(task::SUCCESS) => "cutovered",
        Some(task::SYNCING) => "syncing",
        Some(_) => "replicating",
        None if source.state == "unavailable" => "checking",
        None => "setting",
    }
}
