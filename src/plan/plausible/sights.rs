//! What does each rule of plausibility see in a body? One function a rule, by its id; none where there is nothing to say.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Account, Looked, Sight};
use crate::contract::shown;
use crate::message::headers;
use crate::plan::clean;

const GIB: u64 = 1 << 30;
/// No disk of the cloud is larger.
const LARGEST: u64 = 64 << 40;
/// The least that a partition is made of.
const LEAST_VOLUME: u64 = 1 << 20;
/// A time that is further off is a slip of the pen.
const FAR: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The ids of a body's disks, with the disk's number.
pub(in crate::plan) fn disk_ids(body: &Value) -> Vec<(usize, String)> {
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

pub(super) fn across_rows(_: &Looked<'_>) -> Vec<Sight> {
    Vec::new()
}

pub(super) fn no_os_type(looked: &Looked<'_>) -> Vec<Sight> {
    let none = text(looked.body, "/os_type").is_empty();
    if none { at("/os_type", "no operating system") } else { Vec::new() }
}

pub(super) fn windows_file(looked: &Looked<'_>) -> Vec<Sight> {
    let file = is_windows(looked.body) && text(looked.body, "/type") == "MIGRATE_FILE";
    if file { at("/type", "MIGRATE_FILE for a Windows server") } else { Vec::new() }
}

pub(super) fn windows_volumes(looked: &Looked<'_>) -> Vec<Sight> {
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

pub(super) fn no_target(looked: &Looked<'_>) -> Vec<Sight> {
    let body = looked.body;
    let says_so = body.get("exist_server") == Some(&Value::Bool(true));
    if existing(body) || template(body) || says_so {
        return Vec::new();
    }
    at("/target_server/vm_id", "neither a target server nor a template")
}

pub(super) fn template_and_server(looked: &Looked<'_>) -> Vec<Sight> {
    let both = existing(looked.body) && template(looked.body);
    if both { at("/vm_template_id", "a template and a target server") } else { Vec::new() }
}

pub(super) fn exist_server(looked: &Looked<'_>) -> Vec<Sight> {
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

pub(super) fn source_is_target(looked: &Looked<'_>) -> Vec<Sight> {
    let (source, target) =
        (text(looked.body, "/source_server/id"), text(looked.body, "/target_server/vm_id"));
    let same = clean::is_visible(target) && clean::same(source) == clean::same(target);
    if same { at("/target_server/vm_id", "the id of the source server") } else { Vec::new() }
}

pub(super) fn no_disks(looked: &Looked<'_>) -> Vec<Sight> {
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

pub(super) fn small_disk(looked: &Looked<'_>) -> Vec<Sight> {
    sizes_of(looked.body, true, |size| size < GIB)
}

pub(super) fn huge_disk(looked: &Looked<'_>) -> Vec<Sight> {
    sizes_of(looked.body, true, |size| size > LARGEST)
}

pub(super) fn small_volume(looked: &Looked<'_>) -> Vec<Sight> {
    sizes_of(looked.body, false, |size| size < LEAST_VOLUME)
}

pub(super) fn used_above_size(looked: &Looked<'_>) -> Vec<Sight> {
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

pub(super) fn volume_above_disk(looked: &Looked<'_>) -> Vec<Sight> {
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

pub(super) fn migration_ip(looked: &Looked<'_>) -> Vec<Sight> {
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

pub(super) fn region_swapped(looked: &Looked<'_>) -> Vec<Sight> {
    let (name, id) = (text(looked.body, "/region_name"), text(looked.body, "/region_id"));
    // an id of a project there is another mistake
    if is_region(name) && !is_region(id) && !is_project(id) {
        return at("/region_id", format!("{} with the name {}", shown(id), shown(name)));
    }
    Vec::new()
}

pub(super) fn project_swapped(looked: &Looked<'_>) -> Vec<Sight> {
    let (name, id) = (text(looked.body, "/project_name"), text(looked.body, "/project_id"));
    if is_project(name) && !is_project(id) {
        return at("/project_id", format!("{} with the name {}", shown(id), shown(name)));
    }
    Vec::new()
}

pub(super) fn region_for_project(looked: &Looked<'_>) -> Vec<Sight> {
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

pub(super) fn other_account(looked: &Looked<'_>) -> Vec<Sight> {
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
pub(super) fn past_not_before(looked: &Looked<'_>) -> Vec<Sight> {
    past(headers::NOT_BEFORE, looked.settings.not_before, looked.now)
}

pub(super) fn past_deadline(looked: &Looked<'_>) -> Vec<Sight> {
    past(headers::DEADLINE, looked.settings.deadline, looked.now)
}

pub(super) fn far_time(looked: &Looked<'_>) -> Vec<Sight> {
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
