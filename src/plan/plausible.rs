//! What does the API take that nobody means? One table of rules, each with its reason and what to do. All that they say
//! is a warning: it holds nothing back, and `--allow RULE` silences it.

mod sights;

use jiff::Timestamp;
use serde_json::Value;

use super::cell::Refused;
use super::settings::RowSettings;
use crate::contract::{nearest, shown};

pub(super) use sights::disk_ids;

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
        look: sights::no_os_type,
    },
    Plausibility {
        id: "windows-file",
        about: "`WINDOWS` with `MIGRATE_FILE`",
        allowed: "MIGRATE_BLOCK for Windows",
        reason: "the API refuses it (SMS.6610)",
        cure: "use MIGRATE_BLOCK",
        look: sights::windows_file,
    },
    Plausibility {
        id: "windows-volumes",
        about: "`WINDOWS` with volume groups, Btrfs or `/dev/...` names",
        allowed: "disks and drive letters",
        reason: "only Linux has them",
        cure: "set os_type to LINUX, or remove them",
        look: sights::windows_volumes,
    },
    Plausibility {
        id: "no-target",
        about: "neither a target server nor a template",
        allowed: "target_server.vm_id of an existing server, or vm_template_id for a new one",
        reason: "there is nothing to migrate to",
        cure: "give one of them",
        look: sights::no_target,
    },
    Plausibility {
        id: "template-and-server",
        about: "`vm_template_id` together with `target_server.vm_id`",
        allowed: "one of vm_template_id (a new server) and target_server.vm_id (an existing one)",
        reason: "a migration goes to one server",
        cure: "remove the other one",
        look: sights::template_and_server,
    },
    Plausibility {
        id: "exist-server",
        about: "`exist_server` says otherwise than `target_server.vm_id`",
        allowed: "true with target_server.vm_id, false without",
        reason: "it says whether an existing target server is used",
        cure: "correct it, or leave it out",
        look: sights::exist_server,
    },
    Plausibility {
        id: "source-is-target",
        about: "the target's id is the source's",
        allowed: "the id of another server",
        reason: "the one is an id of the migration service, the other of the compute service",
        cure: "put the target server's own id there",
        look: sights::source_is_target,
    },
    Plausibility {
        id: "no-disks",
        about: "an existing target server without disks",
        allowed: "the disks that it has",
        reason: "the API refuses it (SMS.6033, SMS.6103)",
        cure: "name each disk and its disk_id",
        look: sights::no_disks,
    },
    Plausibility {
        id: DISK_TWICE,
        about: "a `disk_id` that another row, or another disk of the row, has",
        allowed: "each disk once in a plan",
        reason: "two migrations would write to one disk",
        cure: "put the disk's own id there",
        look: sights::across_rows,
    },
    Plausibility {
        id: "small-disk",
        about: "a disk of less than a gibibyte",
        allowed: "the size in bytes, a gibibyte (1073741824) or more",
        reason: "it looks like gigabytes or megabytes",
        cure: "40 GB are 42949672960",
        look: sights::small_disk,
    },
    Plausibility {
        id: "huge-disk",
        about: "a disk of more than 64 tebibytes",
        allowed: "the size in bytes, at most 64 tebibytes (70368744177664)",
        reason: "no disk of the cloud is as large",
        cure: "40 GB are 42949672960",
        look: sights::huge_disk,
    },
    Plausibility {
        id: "small-volume",
        about: "a partition or logical volume of less than a mebibyte",
        allowed: "the size in bytes",
        reason: "it looks like gigabytes or megabytes",
        cure: "1 GB are 1073741824",
        look: sights::small_volume,
    },
    Plausibility {
        id: "used-above-size",
        about: "more used or free than there is",
        allowed: "at most the size",
        reason: "no more can be used, or free, than there is",
        cure: "correct one of the two (both are in bytes)",
        look: sights::used_above_size,
    },
    Plausibility {
        id: "volume-above-disk",
        about: "a partition that is larger than its disk",
        allowed: "at most the size of its disk",
        reason: "it does not fit",
        cure: "correct one of the two (both are in bytes)",
        look: sights::volume_above_disk,
    },
    Plausibility {
        id: "migration-ip",
        about: "a `migration_ip` that no server has: 0.0.0.0, 127.0.0.1, 169.254.1.1, 224.0.0.1, ...",
        allowed: "the address at which the source server reaches the target server",
        reason: "no other server can be reached there",
        cure: "put the target server's own address there",
        look: sights::migration_ip,
    },
    Plausibility {
        id: "region-swapped",
        about: "the region's id in its name, another text in its id",
        allowed: "an id such as ap-southeast-3",
        reason: "the name of the region looks like its id, and the id does not",
        cure: "swap region_name and region_id",
        look: sights::region_swapped,
    },
    Plausibility {
        id: "project-swapped",
        about: "the project's id in its name, another text in its id",
        allowed: "an id of 32 hexadecimal digits",
        reason: "the name of the project looks like its id, and the id does not",
        cure: "swap project_name and project_id",
        look: sights::project_swapped,
    },
    Plausibility {
        id: "region-for-project",
        about: "a region's id where the project's belongs, or the other way round",
        allowed: "region_id such as ap-southeast-3, project_id of 32 hexadecimal digits",
        reason: "the ids of regions and of projects look otherwise",
        cure: "put each in its place",
        look: sights::region_for_project,
    },
    Plausibility {
        id: "other-account",
        about: "a project of the configuration's name with another id, or the other way round",
        allowed: "the project as api.auth.project and api.auth.project_id have it",
        reason: "it is a project of another account than the configuration's",
        cure: "correct the row, or use the configuration of its account",
        look: sights::other_account,
    },
    Plausibility {
        id: PROJECT_REGIONS,
        about: "one project in two regions",
        allowed: "one region for each project",
        reason: "a project belongs to one region",
        cure: "correct region_id or project_id in one of the two rows",
        look: sights::across_rows,
    },
    Plausibility {
        id: "past-not-before",
        about: "a not-before that is past",
        allowed: "a time to come",
        reason: "it holds nothing back",
        cure: "remove it, or give a later time",
        look: sights::past_not_before,
    },
    Plausibility {
        id: "past-deadline",
        about: "a deadline that is past",
        allowed: "a time to come",
        reason: "the request would end as expired",
        cure: "give a later time",
        look: sights::past_deadline,
    },
    Plausibility {
        id: "far-time",
        about: "a not-before or a deadline that is more than a year ahead",
        allowed: "a time within a year",
        reason: "such a year is mostly a slip of the pen",
        cure: "correct the year",
        look: sights::far_time,
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
