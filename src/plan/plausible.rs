//! What does the API take that nobody means? One table of rules, each with its reason and what to do. All that they say
//! is a warning: it holds nothing back, and `--allow RULE` silences it.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::cell::Refused;
use super::clean;
use super::settings::RowSettings;
use crate::contract::{nearest, shown};
use crate::message::headers;

/// One thing that is surely not meant.
#[derive(Debug)]
pub struct Plausibility {
    /// What `--allow` takes.
    pub id: &'static str,
    /// What a row is like that gets the warning.
    pub about: &'static str,
    /// What is expected instead.
    pub allowed: &'static str,
    pub reason: &'static str,
    /// What to do.
    pub cure: &'static str,
    look: fn(&Looked<'_>) -> Vec<Sight>,
}

/// What the rules look at: a body that the contract accepts, and what stands around it.
pub(super) struct Looked<'a> {
    pub body: &'a Value,
    pub settings: &'a RowSettings,
    pub now: Timestamp,
    pub account: &'a Account,
}

/// What the configuration says of the account that the requests go to.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// `api.auth.project`: its name.
    pub project: Option<String>,
    /// `api.auth.project_id`
    pub project_id: Option<String>,
}

/// Where something is, and what.
type Sight = (String, String);

const GIB: u64 = 1 << 30;
/// No disk of the cloud is larger.
const LARGEST: u64 = 64 << 40;
/// The least that a partition is made of.
const LEAST_VOLUME: u64 = 1 << 20;
/// A time that is further off is a slip of the pen.
const FAR: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Judged over all rows: `super::check` does.
pub(super) const DISK_TWICE: &str = "disk-twice";
pub(super) const PROJECT_REGIONS: &str = "project-regions";

/// All rules, in the order of the body.
pub static PLAUSIBILITY: [Plausibility; 23] = [
    Plausibility {
        id: "no-os-type",
        about: "no `os_type`",
        allowed: "WINDOWS or LINUX",
        reason: "the API refuses a task without it (SMS.6601)",
        cure: "add it",
        look: no_os_type,
    },
    Plausibility {
        id: "windows-file",
        about: "`WINDOWS` with `MIGRATE_FILE`",
        allowed: "MIGRATE_BLOCK for Windows",
        reason: "the API refuses it (SMS.6610)",
        cure: "use MIGRATE_BLOCK",
        look: windows_file,
    },
    Plausibility {
        id: "windows-volumes",
        about: "`WINDOWS` with volume groups, Btrfs or `/dev/...` names",
        allowed: "disks and drive letters",
        reason: "only Linux has them",
        cure: "set os_type to LINUX, or remove them",
        look: windows_volumes,
    },
    Plausibility {
        id: "no-target",
        about: "neither a target server nor a template",
        allowed: "target_server.vm_id of an existing server, or vm_template_id for a new one",
        reason: "there is nothing to migrate to",
        cure: "give one of them",
        look: no_target,
    },
    Plausibility {
        id: "template-and-server",
        about: "`vm_template_id` together with `target_server.vm_id`",
        allowed: "one of vm_template_id (a new server) and target_server.vm_id (an existing one)",
        reason: "a migration goes to one server",
        cure: "remove the other one",
        look: template_and_server,
    },
    Plausibility {
        id: "exist-server",
        about: "`exist_server` says otherwise than `target_server.vm_id`",
        allowed: "true with target_server.vm_id, false without",
        reason: "it says whether an existing target server is used",
        cure: "correct it, or leave it out",
        look: exist_server,
    },
    Plausibility {
        id: "source-is-target",
        about: "the target's id is the source's",
        allowed: "the id of another server",
        reason: "the one is an id of the migration service, the other of the compute service",
        cure: "put the target server's own id there",
        look: source_is_target,
    },
    Plausibility {
        id: "no-disks",
        about: "an existing target server without disks",
        allowed: "the disks that it has",
        reason: "the API refuses it (SMS.6033, SMS.6103)",
        cure: "name each disk and its disk_id",
        look: no_disks,
    },
    Plausibility {
        id: DISK_TWICE,
        about: "a `disk_id` that another row, or another disk of the row, has",
        allowed: "each disk once in a plan",
        reason: "two migrations would write to one disk",
        cure: "put the disk's own id there",
        look: across_rows,
    },
    Plausibility {
        id: "small-disk",
        about: "a disk of less than a gibibyte",
        allowed: "the size in bytes, a gibibyte (1073741824) or more",
        reason: "it looks like gigabytes or megabytes",
        cure: "40 GB are 42949672960",
        look: small_disk,
    },
    Plausibility {
        id: "huge-disk",
        about: "a disk of more than 64 tebibytes",
        allowed: "the size in bytes, at most 64 tebibytes (70368744177664)",
        reason: "no disk of the cloud is as large",
        cure: "40 GB are 42949672960",
        look: huge_disk,
    },
    Plausibility {
        id: "small-volume",
        about: "a partition or logical volume of less than a mebibyte",
        allowed: "the size in bytes",
        reason: "it looks like gigabytes or megabytes",
        cure: "1 GB are 1073741824",
        look: small_volume,
    },
    Plausibility {
        id: "used-above-size",
        about: "more used or free than there is",
        allowed: "at most the size",
        reason: "no more can be used, or free, than there is",
        cure: "correct one of the two (both are in bytes)",
        look: used_above_size,
    },
    Plausibility {
        id: "volume-above-disk",
        about: "a partition that is larger than its disk",
        allowed: "at most the size of its disk",
        reason: "it does not fit",
        cure: "correct one of the two (both are in bytes)",
        look: volume_above_disk,
    },
    Plausibility {
        id: "migration-ip",
        about: "a `migration_ip` that no server has: 0.0.0.0, 127.0.0.1, 169.254.1.1, 224.0.0.1, ...",
        allowed: "the address at which the source server reaches the target server",
        reason: "no other server can be reached there",
        cure: "put the target server's own address there",
        look: migration_ip,
    },
    Plausibility {
        id: "region-swapped",
        about: "the region's id in its name, another text in its id",
        allowed: "an id such as ap-southeast-3",
        reason: "the name of the region looks like its id, and the id does not",
        cure: "swap region_name and region_id",
        look: region_swapped,
    },
    Plausibility {
        id: "project-swapped",
        about: "the project's id in its name, another text in its id",
        allowed: "an id of 32 hexadecimal digits",
        reason: "the name of the project looks like its id, and the id does not",
        cure: "swap project_name and project_id",
        look: project_swapped,
    },
    Plausibility {
        id: "region-for-project",
        about: "a region's id where the project's belongs, or the other way round",
        allowed: "region_id such as ap-southeast-3, project_id of 32 hexadecimal digits",
        reason: "the ids of regions and of projects look otherwise",
        cure: "put each in its place",
        look: region_for_project,
    },
    Plausibility {
        id: "other-account",
        about: "a project of the configuration's name with another id, or the other way round",
        allowed: "the project as api.auth.project and api.auth.project_id have it",
        reason: "it is a project of another account than the configuration's",
        cure: "correct the row, or use the configuration of its account",
        look: other_account,
    },
    Plausibility {
        id: PROJECT_REGIONS,
        about: "one project in two regions",
        allowed: "one region for each project",
        reason: "a project belongs to one region",
        cure: "correct region_id or project_id in one of the two rows",
        look: across_rows,
    },
    Plausibility {
        id: "past-not-before",
        about: "a not-before that is past",
        allowed: "a time to come",
        reason: "it holds nothing back",
        cure: "remove it, or give a later time",
        look: past_not_before,
    },
    Plausibility {
        id: "past-deadline",
        about: "a deadline that is past",
        allowed: "a time to come",
        reason: "the request would end as expired",
        cure: "give a later time",
        look: past_deadline,
    },
    Plausibility {
        id: "far-time",
        about: "a not-before or a deadline that is more than a year ahead",
        allowed: "a time within a year",
        reason: "such a year is mostly a slip of the pen",
        cure: "correct the year",
        look: far_time,
    },
];

/// The rule of an id that `--allow` names.
///
/// # Errors
/// There is none: names those that are like it.
pub fn plausibility(id: &str) -> Result<&'static str, String> {
    let ids = || PLAUSIBILITY.iter().map(|rule| rule.id);
    let id = id.trim();
    ids().find(|known| *known == id).ok_or_else(|| {
        let mut like: Vec<&str> = nearest(id, ids()).into_iter().collect();
        let words: Vec<&str> = id.split(['-', '_', ' ']).filter(|word| word.len() > 2).collect();
        let shares = |known: &&str| known.split('-').any(|part| words.contains(&part));
        like.extend(ids().filter(shares).filter(|known| nearest(id, ids()) != Some(*known)));
        match &like[..] {
            [] => format!(
                "{} is no rule; there are {}",
                shown(id),
                ids().collect::<Vec<_>>().join(", ")
            ),
            like => format!("{} is no rule; did you mean {}?", shown(id), like.join(" or ")),
        }
    })
}

/// What the rules see that are not allowed: the rule's id, the place, and what is said.
pub(super) fn look(
    looked: &Looked<'_>,
    allow: &[&'static str],
) -> Vec<(&'static str, String, Refused)> {
    let rules = PLAUSIBILITY.iter().filter(|rule| !allow.contains(&rule.id));
    let seen = rules.flat_map(|rule| {
        let sights = (rule.look)(looked).into_iter();
        sights.map(move |(pointer, found)| (rule.id, pointer, rule.refuse(found)))
    });
    seen.collect()
}

/// What is said of something that only all rows together show.
pub(super) fn said_of(id: &str, found: String) -> Option<Refused> {
    Some(PLAUSIBILITY.iter().find(|rule| rule.id == id)?.refuse(found))
}

impl Plausibility {
    fn refuse(&self, found: String) -> Refused {
        Refused {
            found,
            allowed: self.allowed.to_owned(),
            advice: format!("{}: {}", self.reason, self.cure).into(),
        }
    }
}

/// The ids of a body's disks, with the disk's number.
pub(super) fn disk_ids(body: &Value) -> Vec<(usize, String)> {
    let id = |(at, disk): (usize, &Value)| {
        let id = text(disk, "/disk_id");
        clean::is_visible(id).then(|| (at, id.to_owned()))
    };
    disks(body).iter().enumerate().filter_map(id).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn disks(body: &Value) -> &[Value] {
    list(body, "/target_server/disks")
}

/// A number of bytes; 0 says nothing.
fn bytes(value: &Value, name: &str) -> Option<u64> {
    let value = value.get(name)?;
    let whole = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (whole > 0).then_some(whole)
}

fn at(pointer: &str, found: impl Into<String>) -> Vec<Sight> {
    vec![(pointer.to_owned(), found.into())]
}

/// Everything of the target server that has a size, with its place: disks, partitions, volume groups, volumes.
fn sized(body: &Value) -> Vec<(String, &Value)> {
    let mut sized = Vec::new();
    for (outer, inner) in [("disks", "physical_volumes"), ("volume_groups", "logical_volumes")] {
        for (i, whole) in list(body, &format!("/target_server/{outer}")).iter().enumerate() {
            let place = format!("/target_server/{outer}/{i}");
            for (j, part) in list(whole, &format!("/{inner}")).iter().enumerate() {
                sized.push((format!("{place}/{inner}/{j}"), part));
            }
            sized.push((place, whole));
        }
    }
    sized
}

fn existing(body: &Value) -> bool {
    clean::is_visible(text(body, "/target_server/vm_id"))
}

fn template(body: &Value) -> bool {
    clean::is_visible(text(body, "/vm_template_id"))
}

fn is_windows(body: &Value) -> bool {
    text(body, "/os_type") == "WINDOWS"
}

fn across_rows(_: &Looked<'_>) -> Vec<Sight> {
    Vec::new()
}

fn no_os_type(looked: &Looked<'_>) -> Vec<Sight> {
    let none = text(looked.body, "/os_type").is_empty();
    if none { at("/os_type", "no operating system") } else { Vec::new() }
}

fn windows_file(looked: &Looked<'_>) -> Vec<Sight> {
    let file = is_windows(looked.body) && text(looked.body, "/type") == "MIGRATE_FILE";
    if file { at("/type", "MIGRATE_FILE for a Windows server") } else { Vec::new() }
}

fn windows_volumes(looked: &Looked<'_>) -> Vec<Sight> {
    let body = looked.body;
    if !is_windows(body) {
        return Vec::new();
    }
    let mut seen = Vec::new();
    for (name, what) in [("volume_groups", "volume groups"), ("btrfs_list", "Btrfs")] {
        let pointer = format!("/target_server/{name}");
        if !list(body, &pointer).is_empty() {
            seen.push((pointer, format!("{what} of a Windows server")));
        }
    }
    for (place, part) in sized(body) {
        let name = text(part, "/name");
        if place.starts_with("/target_server/disks/") && name.starts_with("/dev/") {
            seen.push((format!("{place}/name"), format!("{} of a Windows server", shown(name))));
        }
    }
    seen
}

fn no_target(looked: &Looked<'_>) -> Vec<Sight> {
    let body = looked.body;
    let says_so = body.get("exist_server") == Some(&Value::Bool(true));
    if existing(body) || template(body) || says_so {
        return Vec::new();
    }
    at("/target_server/vm_id", "neither a target server nor a template")
}

fn template_and_server(looked: &Looked<'_>) -> Vec<Sight> {
    let both = existing(looked.body) && template(looked.body);
    if both { at("/vm_template_id", "a template and a target server") } else { Vec::new() }
}

fn exist_server(looked: &Looked<'_>) -> Vec<Sight> {
    let (body, existing) = (looked.body, existing(looked.body));
    match body.get("exist_server").and_then(Value::as_bool) {
        Some(false) if existing => at("/exist_server", "false with a target server"),
        // without a template it may be known from elsewhere
        Some(true) if !existing && template(body) => {
            at("/exist_server", "true with a template for a new server")
        }
        _ => Vec::new(),
    }
}

fn source_is_target(looked: &Looked<'_>) -> Vec<Sight> {
    let (source, target) =
        (text(looked.body, "/source_server/id"), text(looked.body, "/target_server/vm_id"));
    let same = clean::is_visible(target) && clean::same(source) == clean::same(target);
    if same { at("/target_server/vm_id", "the id of the source server") } else { Vec::new() }
}

fn no_disks(looked: &Looked<'_>) -> Vec<Sight> {
    if existing(looked.body) && disks(looked.body).is_empty() {
        return at("/target_server/disks", "no disks of an existing target server");
    }
    Vec::new()
}

fn sizes_of(body: &Value, of_disks: bool, wrong: impl Fn(u64) -> bool) -> Vec<Sight> {
    let parts = sized(body).into_iter().filter(|(place, _)| {
        let inner = place.contains("/physical_volumes/") || place.contains("/logical_volumes/");
        if of_disks { !inner && place.contains("/disks/") } else { inner }
    });
    let wrong = parts.filter_map(|(place, part)| {
        let size = bytes(part, "size").filter(|size| wrong(*size))?;
        Some((format!("{place}/size"), size.to_string()))
    });
    wrong.collect()
}

fn small_disk(looked: &Looked<'_>) -> Vec<Sight> {
    sizes_of(looked.body, true, |size| size < GIB)
}

fn huge_disk(looked: &Looked<'_>) -> Vec<Sight> {
    sizes_of(looked.body, true, |size| size > LARGEST)
}

fn small_volume(looked: &Looked<'_>) -> Vec<Sight> {
    sizes_of(looked.body, false, |size| size < LEAST_VOLUME)
}

fn used_above_size(looked: &Looked<'_>) -> Vec<Sight> {
    let mut seen = Vec::new();
    for (place, part) in sized(looked.body) {
        let Some(size) = bytes(part, "size") else { continue };
        for name in ["used_size", "free_size"] {
            if let Some(more) = bytes(part, name).filter(|more| *more > size) {
                seen.push((format!("{place}/{name}"), format!("{more}, above the size {size}")));
            }
        }
    }
    seen
}

fn volume_above_disk(looked: &Looked<'_>) -> Vec<Sight> {
    let mut seen = Vec::new();
    for (i, disk) in disks(looked.body).iter().enumerate() {
        let Some(whole) = bytes(disk, "size") else { continue };
        for (j, volume) in list(disk, "/physical_volumes").iter().enumerate() {
            if let Some(size) = bytes(volume, "size").filter(|size| *size > whole) {
                let place = format!("/target_server/disks/{i}/physical_volumes/{j}/size");
                seen.push((place, format!("{size}, above its disk's {whole}")));
            }
        }
    }
    seen
}

fn migration_ip(looked: &Looked<'_>) -> Vec<Sight> {
    let ip = text(looked.body, "/migration_ip");
    let Ok(address) = ip.parse::<Ipv4Addr>() else { return Vec::new() };
    let nobodys = address.is_unspecified()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast();
    if nobodys { at("/migration_ip", ip) } else { Vec::new() }
}

/// `ap-southeast-3`
fn is_region(text: &str) -> bool {
    let mut parts = text.split('-').rev();
    let number = parts.next().is_some_and(|last| {
        !last.is_empty() && last.len() <= 4 && last.bytes().all(|byte| byte.is_ascii_digit())
    });
    let words: Vec<&str> = parts.collect();
    let word = |word: &&str| {
        word.len() > 1
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    number && words.len() >= 2 && words.iter().all(word) && words[words.len() - 1].len() == 2
}

/// `05825205120026802ff0c01721bc1000`
fn is_project(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn region_swapped(looked: &Looked<'_>) -> Vec<Sight> {
    let (name, id) = (text(looked.body, "/region_name"), text(looked.body, "/region_id"));
    // an id of a project there is another mistake
    if is_region(name) && !is_region(id) && !is_project(id) {
        return at("/region_id", format!("{} with the name {}", shown(id), shown(name)));
    }
    Vec::new()
}

fn project_swapped(looked: &Looked<'_>) -> Vec<Sight> {
    let (name, id) = (text(looked.body, "/project_name"), text(looked.body, "/project_id"));
    if is_project(name) && !is_project(id) {
        return at("/project_id", format!("{} with the name {}", shown(id), shown(name)));
    }
    Vec::new()
}

fn region_for_project(looked: &Looked<'_>) -> Vec<Sight> {
    let (region, project) = (text(looked.body, "/region_id"), text(looked.body, "/project_id"));
    let mut seen = Vec::new();
    if is_project(region) {
        seen.extend(at("/region_id", format!("{}, like the id of a project", shown(region))));
    }
    if is_region(project) && !is_project(text(looked.body, "/project_name")) {
        seen.extend(at("/project_id", format!("{}, like the id of a region", shown(project))));
    }
    seen
}

fn other_account(looked: &Looked<'_>) -> Vec<Sight> {
    let Account { project: Some(project), project_id: Some(project_id) } = looked.account else {
        return Vec::new();
    };
    let (name, id) = (text(looked.body, "/project_name"), text(looked.body, "/project_id"));
    match (name == project, id == project_id) {
        (true, false) => at(
            "/project_id",
            format!(
                "{} for the project {}, in the configuration {project_id}",
                shown(id),
                shown(name)
            ),
        ),
        (false, true) => at(
            "/project_name",
            format!("{} for the project {id}, in the configuration {project}", shown(name)),
        ),
        _ => Vec::new(),
    }
}

fn past(name: &str, time: Option<Timestamp>, now: Timestamp) -> Vec<Sight> {
    let past = time.filter(|time| *time <= now);
    past.map(|time| at(name, format!("{time:.0}, which is past"))).unwrap_or_default()
}

/// A warning and no more: whoever goes on with a plan after its times finds it as it was.
fn past_not_before(looked: &Looked<'_>) -> Vec<Sight> {
    past(headers::NOT_BEFORE, looked.settings.not_before, looked.now)
}

fn past_deadline(looked: &Looked<'_>) -> Vec<Sight> {
    past(headers::DEADLINE, looked.settings.deadline, looked.now)
}

fn far_time(looked: &Looked<'_>) -> Vec<Sight> {
    let times = [
        (headers::NOT_BEFORE, looked.settings.not_before),
        (headers::DEADLINE, looked.settings.deadline),
    ];
    let far = |(name, time): (&str, Option<Timestamp>)| {
        let time = time.filter(|time| time.duration_since(looked.now) > FAR)?;
        Some((name.to_owned(), format!("{time:.0}, more than a year ahead")))
    };
    times.into_iter().filter_map(far).collect()
}
