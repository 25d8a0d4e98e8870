//! What is a migration task? What it is made of, and the states it can be in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::Moment;

pub(super) const READY: &str = "READY";
pub(super) const RUNNING: &str = "RUNNING";
pub(super) const SYNCING: &str = "SYNCING";
pub(super) const SUCCESS: &str = "MIGRATE_SUCCESS";
pub(super) const FAIL: &str = "MIGRATE_FAIL";
const ENDED: [&str; 4] = [SUCCESS, FAIL, "ABORT", "SYNC_F_ROLLBACK_SUCCESS"];

pub(super) fn has_ended(state: &str) -> bool {
    ENDED.contains(&state)
}

/// A task to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewTask {
    pub name: String,
    #[serde(rename = "type")]
    pub task_type: String,
    pub os_type: String,
    pub priority: u16,
    pub source_server_id: String,
    pub vm_id: String,
    pub target_name: String,
    pub project_id: String,
    pub region_id: String,
    pub enterprise_project_id: String,
    pub migration_ip: String,
    pub region_name: String,
    pub project_name: String,
    pub vm_template_id: String,
    /// In Mbit/s; 0 is none.
    pub speed_limit: u32,
    pub start_target_server: bool,
    /// Whether it runs by itself.
    pub auto_start: bool,
    /// Any state; one but `READY` and `RUNNING` stays until it is changed.
    pub state: String,
    /// How many seconds ago it was made: for tasks that were there before the rehearsal.
    pub age_seconds: u64,
}

impl Default for NewTask {
    fn default() -> Self {
        Self {
            name: "MigrationTask".to_owned(),
            task_type: "MIGRATE_FILE".to_owned(),
            os_type: "LINUX".to_owned(),
            priority: 1,
            source_server_id: String::new(),
            vm_id: String::new(),
            target_name: String::new(),
            project_id: String::new(),
            region_id: String::new(),
            enterprise_project_id: "0".to_owned(),
            migration_ip: String::new(),
            region_name: String::new(),
            project_name: String::new(),
            vm_template_id: String::new(),
            speed_limit: 0,
            start_target_server: true,
            auto_start: true,
            state: READY.to_owned(),
            age_seconds: 0,
        }
    }
}

/// A task that is there.
#[derive(Clone, Debug, Serialize)]
pub struct Task {
    pub id: String,
    /// Counts up in the order of creation.
    pub number: u64,
    #[serde(flatten)]
    pub made: NewTask,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// From when on listings show it.
    #[serde(skip)]
    pub(super) visible: Moment,
    /// Its next step; steps that were planned for another moment are void.
    #[serde(skip)]
    pub(super) due: Option<Moment>,
    /// Its turn in the queue.
    #[serde(skip)]
    pub(super) turn: Option<u64>,
}

impl Task {
    pub fn state(&self) -> &str {
        &self.made.state
    }

    pub fn source(&self) -> &str {
        &self.made.source_server_id
    }

    pub(super) fn is_live(&self) -> bool {
        !has_ended(self.state())
    }
}
