//! What does the API answer? One function from a call and the state of the world to an answer; no socket, no clock.

use serde_json::{Value, json};

use super::call::{Answer, Call, Kind};
use super::errors;
use super::options::{Account, SourceServer};
use super::sources;
use super::task::{self, NewTask, Task};
use super::world::World;
use crate::contract::Reading;
use crate::core::Now;

/// The documented bounds of a page of a listing.
pub(super) const MAX_LIMIT: usize = 200;
const MAX_OFFSET: usize = 65_535;
/// The longest token of the API's page, in characters.
const MAX_TOKEN: usize = 16_384;

pub(super) fn answer(world: &mut World, call: &Call, request_id: &str, now: Now) -> Answer {
    if call.kind == Kind::Token {
        return world.iam.log_in(call, now);
    }
    let prefix = &world.options.quota.prefix;
    if call.kind == Kind::Other {
        let message = "The API does not exist or has not been published in the environment";
        return errors::gateway(404, prefix, "0101", message, request_id);
    }
    if call.header("x-auth-token").is_some_and(|token| token.len() > MAX_TOKEN) {
        let message = "The request header fields are too large";
        return errors::gateway(494, prefix, "0201", message, request_id);
    }
    if let Err(refused) = world.iam.check(call, world.options.account, now) {
        return errors::gateway(401, prefix, refused.number, &refused.message, request_id);
    }
    if let Some(refused) = account_refuses(world.options.account, call.kind) {
        return refused;
    }
    match (call.kind, call.method.as_str()) {
        (Kind::Create, _) => create(world, call, now),
        (Kind::List, _) => list_tasks(world, call, now),
        (Kind::Sources, _) => sources::list(world, call, now),
        (Kind::Source, _) if call.id() == "overview" => sources::overview(world),
        (Kind::Source, _) => sources::show(world, call, now),
        (_, "DELETE") => delete_task(world, call, now),
        (_, "POST") => act(world, call, now),
        _ => show_task(world, call, now),
    }
}

fn account_refuses(account: Account, kind: Kind) -> Option<Answer> {
    match account {
        Account::Ok | Account::TokenRevoked => None,
        Account::Frozen => Some(errors::sms("SMS.6525", "Your account is frozen or restricted.")),
        Account::Arrears => Some(errors::sms("SMS.6529", "Insufficient balance.")),
        Account::NoPermission => Some(errors::no_permission(match kind {
            Kind::Create => "sms:server:createTask",
            _ => "sms:server:listTask",
        })),
    }
}

fn create(world: &mut World, call: &Call, now: Now) -> Answer {
    let json =
        call.header("content-type").is_some_and(|t| t.trim().starts_with("application/json"));
    if !json {
        return errors::sms("SMS.6016", "The header Content-Type must be application/json.");
    }
    let new = match &call.reading {
        Some(Ok(reading)) => new_task(reading, &call.body),
        Some(Err(invalid)) => {
            return errors::invalid(&invalid.violations, &call.body, world.options.max_body);
        }
        None => return errors::sms("SMS.6012", "The request body is empty."),
    };
    if let Some(refused) = stands_in_the_way(world, &new) {
        return refused;
    }
    let source = new.source_server_id.clone();
    let id = world.tasks.create(new, now);
    world.tally.made(&source);
    Answer { task_id: Some(id.clone()), ..Answer::ok(&json!({"id": id})) }
}

/// The rules that the contract page states of a source server, and those of `tasks` in the options.
fn stands_in_the_way(world: &World, new: &NewTask) -> Option<Answer> {
    let source = new.source_server_id.as_str();
    match sources::server(world, source) {
        None => {
            return Some(errors::sms("SMS.7602", "The specified source server does not exist."));
        }
        Some(server) if !server.connected => {
            return Some(errors::sms("SMS.6603", "The source server is not connected to SMS."));
        }
        Some(server) if server.state == "unavailable" => {
            return Some(errors::sms("SMS.6520", "The source server is not available."));
        }
        Some(_) => {}
    }
    let options = world.tasks.options();
    let blocks = |task: &&Task| task.is_live() || options.ended_block;
    if let Some(other) = world.tasks.of_source(source).find(blocks)
        && !options.allow_doubles
    {
        let text = format!("The server has been set as the target of migration task {}.", other.id);
        return Some(errors::sms(&options.conflict_code, &text));
    }
    if let Some(code) = &options.target_conflict_code
        && world.tasks.live_on_target(&new.vm_id)
    {
        return Some(errors::sms(code, "The target server has been added to a migration task."));
    }
    let full = world.tasks.running() >= options.max_running;
    let code = options.full_code.as_deref().filter(|_| full)?;
    Some(errors::sms(code, "Current quota is not enough, please use MgC."))
}

fn new_task(reading: &Reading, body: &[u8]) -> NewTask {
    let view = &reading.view;
    // What only listings show is no part of the view.
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| body[field].as_str().map(str::to_owned);
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    NewTask {
        name: view.name.clone(),
        task_type: view.task_type.clone(),
        os_type: view.os_type.clone().unwrap_or_default(),
        priority: view.priority,
        source_server_id: view.source_server_id.clone(),
        vm_id: view.target_vm_id.clone().unwrap_or_default(),
        target_name: view.target_name.clone().unwrap_or_default(),
        project_id: view.project_id.clone(),
        region_id: view.region_id.clone(),
        enterprise_project_id: text("enterprise_project_id").unwrap_or_else(|| "0".to_owned()),
        migration_ip: text("migration_ip").unwrap_or_default(),
        region_name: text("region_name").unwrap_or_default(),
        project_name: text("project_name").unwrap_or_default(),
        vm_template_id: text("vm_template_id").unwrap_or_default(),
        speed_limit: number(&body["speed_limit"]).and_then(|n| n.try_into().ok()).unwrap_or(0),
        start_target_server: body["start_target_server"].as_bool().unwrap_or(true),
        auto_start: view.auto_start.unwrap_or(true),
        ..NewTask::default()
    }
}

fn list_tasks(world: &World, call: &Call, now: Now) -> Answer {
    let page = match Page::of(call, 100, 0) {
        Ok(page) => page,
        Err(refused) => return refused,
    };
    let wanted = |task: &&Task| {
        task.visible <= now.at
            && call.parameter("state").is_none_or(|state| state == task.state())
            && call.parameter("name").is_none_or(|name| name == task.made.name)
            && call.parameter("id").is_none_or(|id| id == task.id)
            && call.parameter("enterprise_project_id").is_none_or(|wanted| {
                wanted == "all_granted_eps" || wanted == task.made.enterprise_project_id
            })
    };
    let (count, rows) = match call.parameter("source_server_id") {
        Some(source) => page.cut(world.tasks.of_source(source).filter(wanted)),
        None => page.cut(world.tasks.all().filter(wanted)),
    };
    let rows: Vec<Value> = rows.into_iter().map(|task| task_row(world, task)).collect();
    Answer::ok(&json!({"count": count, "tasks": rows}))
}

fn show_task(world: &World, call: &Call, now: Now) -> Answer {
    match world.tasks.get(call.id()).filter(|task| task.visible <= now.at) {
        Some(task) => Answer::ok(&task_row(world, task)),
        None => no_such_task(),
    }
}

fn delete_task(world: &mut World, call: &Call, now: Now) -> Answer {
    if world.tasks.delete(call.id(), now) { Answer::ok(&json!({})) } else { no_such_task() }
}

/// The operations that the API documents and the sandbox has no use for.
const IDLE: [&str; 8] = [
    "cutover",
    "clone_test",
    "test",
    "network_check",
    "skip",
    "clear",
    "migration_test",
    "error_for_overspeed",
];

/// `POST /v3/tasks/{id}/action`: `start`, `restart` and `stop` do what they say, the other documented operations nothing.
fn act(world: &mut World, call: &Call, now: Now) -> Answer {
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let Some(operation) = body.get("operation").and_then(Value::as_str) else {
        return errors::sms("SMS.6013", "The request parameters are incomplete.");
    };
    let done = match operation {
        "start" => world.tasks.start(call.id(), now),
        "restart" => world.tasks.restart(call.id(), now),
        "stop" => world.tasks.change(call.id(), "ABORT", now),
        idle if IDLE.contains(&idle) => world.tasks.get(call.id()).is_some(),
        _ => {
            return errors::sms("SMS.9001", "Invalid parameter operation.");
        }
    };
    if done { Answer::ok(&json!({})) } else { no_such_task() }
}

fn no_such_task() -> Answer {
    errors::sms("SMS.7703", "The task does not exist.")
}

/// A page of a listing.
pub(super) struct Page {
    limit: usize,
    offset: usize,
}

impl Page {
    /// `limit=0` asks for the count alone; of source servers it means the default, as documented.
    pub(super) fn of(call: &Call, default: usize, zero: usize) -> Result<Self, Answer> {
        let number = |name: &str, default: usize, max: usize| match call.parameter(name) {
            None => Ok(default),
            Some(text) => text.parse().ok().filter(|n| *n <= max).ok_or_else(|| {
                errors::sms("SMS.9001", &format!("Invalid parameter {name}: 0 to {max} expected."))
            }),
        };
        let limit = number("limit", default, MAX_LIMIT)?;
        let limit = if limit == 0 { zero } else { limit };
        Ok(Self { limit, offset: number("offset", 0, MAX_OFFSET)? })
    }

    /// How many there are in all, and those on this page.
    pub(super) fn cut<T>(&self, all: impl Iterator<Item = T>) -> (usize, Vec<T>) {
        let mut rows = Vec::new();
        let count = all.enumerate().fold(0, |_, (index, row)| {
            if index >= self.offset && rows.len() < self.limit {
                rows.push(row);
            }
            index + 1
        });
        (count, rows)
    }
}

fn task_row(world: &World, task: &Task) -> Value {
    let made = &task.made;
    let source = sources::server(world, task.source())
        .unwrap_or_else(|| SourceServer::connected(task.source()));
    let progress = match task.state() {
        task::READY => json!(null),
        task::RUNNING => json!(1),
        _ => json!(100),
    };
    json!({
        "id": task.id,
        "name": made.name,
        "type": made.task_type,
        "os_type": made.os_type,
        "state": task.state(),
        "priority": made.priority,
        "create_date": task.created.as_millisecond(),
        "start_date": task.started.map(jiff::Timestamp::as_millisecond),
        "finish_date": task.ended.map(jiff::Timestamp::as_millisecond),
        "progress": progress,
        "error_json": "",
        "project_id": made.project_id,
        "region_id": made.region_id,
        "enterprise_project_id": made.enterprise_project_id,
        "migration_ip": made.migration_ip,
        "region_name": made.region_name,
        "project_name": made.project_name,
        "vm_template_id": made.vm_template_id,
        "speed_limit": made.speed_limit,
        "start_target_server": made.start_target_server,
        "source_server": {
            "id": source.id, "name": source.name, "ip": source.ip,
            "os_type": source.os_type, "os_version": source.facts.get("os_version"),
            "state": sources::state(world, &source),
        },
        "target_server": {"vm_id": made.vm_id, "name": made.target_name},
    })
}
