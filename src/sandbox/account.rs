//! What does a believable account have? Servers as agents report them, with what goes wrong among hundreds of them: some are
//! not connected, some have failed a check, some have a task already, two have one name. The same for the same seed.

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::options::SourceServer;
use super::task::{FAIL, NewTask, SYNCING};

const GIB: u64 = 1 << 30;
/// The alignment of a first partition, and what the last one leaves free.
const MARGIN: u64 = 1 << 20;

const ROLES: [&str; 12] = [
    "web", "app", "db", "cache", "queue", "mail", "file", "build", "proxy", "erp", "report", "auth",
];
const STAGES: [&str; 3] = ["prod", "test", "dev"];
/// Versions as the API writes them, and the file system of each.
const LINUX: [(&str, &str); 5] = [
    ("CENTOS7.6", "xfs"),
    ("CENTOS7.9", "xfs"),
    ("UBUNTU20.04", "ext4"),
    ("DEBIAN11.0.0", "ext4"),
    ("REDHAT8.4", "xfs"),
];
const WINDOWS: [&str; 3] = ["WINDOWS2012", "WINDOWS2016", "WINDOWS2019"];
/// Checks that fail on Linux and on Windows: code, and what the API writes beside it.
const FAILED: [(&str, &str); 2] =
    [("SMS.6517", "Rsync is not installed."), ("SMS.6511", "The driver files are missing.")];

/// When the first one was registered. Fixed, so that the same account tells the same.
const REGISTERED: &str = "2026-03-02T08:00:00Z";

/// `count` source servers, and the tasks that some of them have.
pub(super) fn account(count: u32, seed: u64) -> (Vec<SourceServer>, Vec<NewTask>) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut servers: Vec<SourceServer> = (0..count).map(|n| server(n, &mut dice)).collect();
    // Two of one name, as there are where a machine was cloned.
    if let [first, .., last] = servers.as_mut_slice() {
        last.name.clone_from(&first.name);
    }
    let tasks = servers.iter().enumerate().filter_map(|(n, server)| task(n, server)).collect();
    (servers, tasks)
}

/// What is out of the ordinary comes at fixed places, so that a small account has some of each.
fn server(n: u32, dice: &mut fastrand::Rng) -> SourceServer {
    let windows = n % 4 == 3;
    let role = ROLES[n as usize % ROLES.len()];
    let stage = STAGES[n as usize / ROLES.len() % STAGES.len()];
    let name = format!("{role}-{stage}-{:02}", n as usize / (ROLES.len() * STAGES.len()) + 1);
    let (connected, broken) = (n % 20 != 7, n % 20 == 11 || n % 50 == 30);
    let disks = if windows { windows_disks(dice) } else { linux_disks(n, dice) };
    let mut facts = facts(n, windows, &disks, dice);
    if !connected {
        // Long enough ago that nobody takes it for a moment's trouble.
        facts.insert("last_visit_time".to_owned(), json!(registered(n + 30_000)));
    }
    let failed = broken.then(|| FAILED[usize::from(windows)]);
    facts.insert("checks".to_owned(), checks(failed));
    SourceServer {
        id: Uuid::from_u128(dice.u128(..)).to_string(),
        ip: address(n),
        connected,
        state: if broken { "unavailable" } else { "waiting" }.to_owned(),
        os_type: if windows { "WINDOWS" } else { "LINUX" }.to_owned(),
        facts,
        details: details(n, &name, windows, disks),
        name,
    }
}

fn address(n: u32) -> String {
    format!("10.20.{}.{}", n / 200, n % 200 + 10)
}

/// Milliseconds since 1970; one server a minute.
fn registered(n: u32) -> i64 {
    let first: Timestamp = REGISTERED.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    first.saturating_add(i64::from(n).minutes()).unwrap_or(first).as_millisecond()
}

fn facts(n: u32, windows: bool, disks: &Storage, dice: &mut fastrand::Rng) -> Map<String, Value> {
    let version = if windows {
        WINDOWS[dice.usize(..WINDOWS.len())]
    } else if disks.btrfs.is_some() {
        "SUSE12SP5"
    } else {
        disks.version
    };
    let at = registered(n);
    let facts = json!({
        "os_version": version,
        "oem_system": false,
        "cpu_quantity": 2_u32 << dice.u32(..3),
        "memory": (4 * GIB) << dice.u32(..4),
        "init_target_server": {"disks": disks.disks, "volume_groups": disks.groups},
        "totalsize": disks.used,
        "add_date": at,
        "state_action_time": at + 600_000,
        "stage_action_time": at + 600_000,
        "enterprise_project_id": if n % 10 == 9 { "4f0a1c6e-6c1d-4b0e-9a53-0f6a7f7ce0d1" } else { "0" },
        "migprojectid": if n.is_multiple_of(3) { "move-2026" } else { "default" },
        "start_type": "MANUAL",
    });
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

fn checks(failed: Option<(&str, &str)>) -> Value {
    let passed = |id: u32, name: &str| {
        json!({"id": id, "params": [], "name": name, "result": "OK", "error_code": "",
            "error_or_warn": "", "error_params": ""})
    };
    let mut checks = vec![passed(1, "OS_VERSION"), passed(2, "FILE_SYSTEM"), passed(3, "FIRMWARE")];
    if let Some((code, text)) = failed {
        checks.push(json!({"id": 4, "params": [], "name": "COMPONENTS", "result": "ERROR",
            "error_code": code, "error_or_warn": text, "error_params": ""}));
    }
    Value::Array(checks)
}

fn details(n: u32, name: &str, windows: bool, disks: Storage) -> Map<String, Value> {
    let (third, fourth) = (n / 200, n % 200 + 10);
    let ipv6 =
        if n.is_multiple_of(5) { format!("fd00:20::{third:x}:{fourth:x}") } else { String::new() };
    let mut details = Map::new();
    details.insert("hostname".to_owned(), json!(name));
    details.insert("firmware".to_owned(), json!(if n % 6 == 5 { "UEFI" } else { "BIOS" }));
    details.insert(
        "networks".to_owned(),
        json!([{
            "name": if windows { "Ethernet" } else { "eth0" },
            "ip": address(n), "ipv6": ipv6, "netmask": "255.255.255.0",
            "gateway": format!("10.20.{third}.1"), "mtu": 1500,
            "mac": format!("02:00:0a:14:{third:02x}:{fourth:02x}"),
        }]),
    );
    let mut seen = disks.disks.clone();
    for disk in &mut seen {
        disk["partition_style"] = json!(if n % 6 == 5 { "GPT" } else { "MBR" });
        disk["os_disk"] = json!(disk["device_use"] != "NORMAL");
        disk["relation_name"] = disk["name"].clone();
        disk["inode_size"] = json!(256);
    }
    details.insert("disks".to_owned(), json!(seen));
    details.insert("btrfs_list".to_owned(), json!(Vec::from_iter(disks.btrfs)));
    details
}

/// What an agent reports of a server's disks, in the shapes that the create call takes.
struct Storage {
    version: &'static str,
    disks: Vec<Value>,
    groups: Vec<Value>,
    btrfs: Option<Value>,
    /// What is to be copied, in bytes.
    used: u64,
}

fn part_of(size: u64, dice: &mut fastrand::Rng) -> u64 {
    size / 100 * dice.u64(15..80)
}

fn uuid(dice: &mut fastrand::Rng) -> String {
    Uuid::from_u128(dice.u128(..)).to_string()
}

fn linux_disks(n: u32, dice: &mut fastrand::Rng) -> Storage {
    let (version, file_system) = LINUX[dice.usize(..LINUX.len())];
    let size = (40 * GIB) << dice.u32(..2);
    let root = size - 2 * MARGIN;
    let used = part_of(root, dice);
    // One in twelve has a Btrfs, and of the others every second a volume group.
    if n % 12 == 4 {
        return btrfs_disks(size, used, dice);
    }
    let mut found = Storage {
        version,
        disks: vec![json!({
            "name": "/dev/vda", "size": size, "used_size": used, "device_use": "BOOT",
            "physical_volumes": [{
                "name": "/dev/vda1", "index": 0, "device_use": "OS", "file_system": file_system,
                "mount_point": "/", "size": root, "used_size": used, "inode_size": 256, "uuid": uuid(dice),
            }],
        })],
        groups: Vec::new(),
        btrfs: None,
        used,
    };
    if n.is_multiple_of(2) {
        let (size, share) = ((100 * GIB) << dice.u32(..3), dice.u64(20..70));
        let (logical, group) = (size / 10 * 9, size - 4 * MARGIN);
        let used = logical / 100 * share;
        found.used += used;
        found.disks.push(json!({
            "name": "/dev/vdb", "size": size, "used_size": used, "device_use": "NORMAL",
            "physical_volumes": [{
                "name": "/dev/vdb1", "index": 0, "device_use": "VOLUME_GROUP", "file_system": "",
                "mount_point": "", "size": size - 2 * MARGIN, "used_size": used, "uuid": uuid(dice),
            }],
        }));
        found.groups.push(json!({
            "name": "vg_data", "components": "/dev/vdb1", "size": group, "free_size": group - logical,
            "logical_volumes": [{
                "name": "/dev/mapper/vg_data-lv_srv", "device_use": "NORMAL", "file_system": file_system,
                "mount_point": "/srv", "size": logical, "used_size": used, "free_size": logical - used,
                "block_count": 0, "block_size": 4096, "inode_size": 256, "inode_nums": 655_360,
            }],
        }));
    }
    found
}

fn btrfs_disks(size: u64, used: u64, dice: &mut fastrand::Rng) -> Storage {
    let (id, root) = (uuid(dice), size - 2 * MARGIN);
    let subvolume = |id: &str, name: &str, path: &str| {
        json!({"uuid": "", "is_snapshot": "false", "subvol_id": id, "parent_id": "5",
            "subvol_name": name, "subvol_mount_path": path})
    };
    Storage {
        version: "SUSE12SP5",
        disks: vec![json!({
            "name": "/dev/vda", "size": size, "used_size": used, "device_use": "BOOT",
            "physical_volumes": [{
                "name": "/dev/vda1", "index": 0, "device_use": "BTRFS", "file_system": "btrfs",
                "mount_point": "/", "size": root, "used_size": used, "uuid": id,
            }],
        })],
        groups: Vec::new(),
        btrfs: Some(json!({
            "name": "/dev/vda1", "label": "", "uuid": id, "device": "/dev/vda1", "size": root,
            "nodesize": 16_384, "sectorsize": 4096, "data_profile": "single", "system_profile": "DUP",
            "metadata_profile": "DUP", "global_reserve1": "single", "g_vol_used_size": used,
            "default_subvolid": "256", "default_subvol_name": "@", "default_subvol_mountpath": "/",
            "subvolumn": [subvolume("256", "@", "/"), subvolume("257", "@/var/log", "/var/log")],
        })),
        used,
    }
}

fn windows_disks(dice: &mut fastrand::Rng) -> Storage {
    let size = (60 * GIB) << dice.u32(..2);
    let (reserved, system) = (500 * MARGIN, size - 502 * MARGIN);
    let used = part_of(system, dice);
    let volume = |index: u32, letter: &str, usage: &str, size: u64, used: u64, id: String| {
        json!({"name": letter, "index": index, "device_use": usage, "file_system": "NTFS",
            "mount_point": letter, "size": size, "used_size": used, "uuid": format!(r"\\?\Volume{{{id}}}\")})
    };
    let mut found = Storage {
        version: "",
        disks: vec![json!({
            "name": "Disk 0", "size": size, "used_size": used, "device_use": "BOOT",
            "physical_volumes": [
                volume(0, "(Reserved)", "BOOT", reserved, 30 * MARGIN, uuid(dice)),
                volume(1, "C:", "OS", system, used, uuid(dice)),
            ],
        })],
        groups: Vec::new(),
        btrfs: None,
        used,
    };
    if dice.bool() {
        let size = 200 * GIB;
        let used = part_of(size, dice);
        found.used += used;
        found.disks.push(json!({
            "name": "Disk 1", "size": size, "used_size": used, "device_use": "NORMAL",
            "physical_volumes": [volume(0, "D:", "NORMAL", size - 2 * MARGIN, used, uuid(dice))],
        }));
    }
    found
}

/// One in twenty has a task that has copied everything and waits for its cut-over, one in thirty a failed one.
fn task(n: usize, server: &SourceServer) -> Option<NewTask> {
    let state = match n {
        n if n % 20 == 3 => SYNCING,
        n if n % 30 == 17 => FAIL,
        _ => return None,
    };
    Some(NewTask {
        name: "MigrationTask".to_owned(),
        task_type: if server.os_type == "WINDOWS" { "MIGRATE_BLOCK" } else { "MIGRATE_FILE" }
            .to_owned(),
        os_type: server.os_type.clone(),
        source_server_id: server.id.clone(),
        vm_id: format!("vm-{n:04}"),
        target_name: server.name.clone(),
        project_id: "project-1".to_owned(),
        region_id: "ap-southeast-3".to_owned(),
        state: state.to_owned(),
        age_seconds: 86_400,
        ..NewTask::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_account_with_some_of_each() {
        let (servers, tasks) = account(300, 7);
        assert_eq!(account(300, 7).0, servers);
        assert_ne!(account(300, 8).0, servers);
        let count = |is: &dyn Fn(&SourceServer) -> bool| servers.iter().filter(|s| is(s)).count();
        assert_eq!(count(&|s| !s.connected), 15);
        assert!(count(&|s| s.state == "unavailable") > 10);
        assert_eq!(count(&|s| s.os_type == "WINDOWS"), 75);
        assert_eq!(count(&|s| s.details["btrfs_list"] != json!([])), 25);
        assert_eq!(count(&|s| s.name == servers[0].name), 2);
        assert_eq!(tasks.iter().filter(|task| task.state == SYNCING).count(), 15);
        assert_eq!(tasks.iter().filter(|task| task.state == FAIL).count(), 10);
        let mut ids: Vec<_> = servers.iter().flat_map(|s| [&s.id, &s.ip]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 600, "ids and addresses are unique");
        assert_eq!((account(0, 1).0.len(), account(1, 1).0.len()), (0, 1));
    }
}
