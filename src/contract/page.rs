//! What does the API's page say? The one table of the create-task body: every field, limit, enumeration and default.
//!
//! The validator, the JSON Schema, the columns of plans and the explanations of `sluice check --explain` all come from
//! it. Where real use is known to be wider than the page, the rule says so, and [`super::Rules::strict`] decides.

/// One field of an object of the page.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    /// What the API takes where the field is absent, as far as the page says so.
    pub default: Option<Literal>,
    /// What the field means, for people.
    pub about: &'static str,
    /// Where the reader keeps the value for the [`super::View`].
    pub(super) slot: Option<Slot>,
}

/// What may stand in a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Lengths in characters (Unicode scalar values).
    Text {
        min: u32,
        max: u32,
        letters: Letters,
    },
    /// `verified`: false where the page lists values and says that they are not verified.
    Choice {
        values: &'static [&'static str],
        verified: bool,
    },
    /// `or_text`: the vendor's own examples send the number as a text (`"priority": "1"`).
    Integer {
        min: i64,
        max: i64,
        or_text: bool,
    },
    Number {
        min: f64,
        max: f64,
    },
    Boolean,
    Object(&'static Shape),
    /// The longest array is `max` objects.
    List {
        of: &'static Shape,
        max: u32,
    },
}

/// Which characters a text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    Any,
    /// Letters, digits, `_` and `-`; in real use Chinese characters too.
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Optional,
    Required,
    /// Required by the page, but left out in real use where `vm_template_id` names a template.
    UnlessTemplate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    Boolean(bool),
    Integer(i64),
    Text(&'static str),
}

/// An object of the page.
#[derive(Debug)]
pub struct Shape {
    /// The page's name for it.
    pub name: &'static str,
    /// At most 32, the reader keeps a bit for each.
    pub rules: &'static [Rule],
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The values that the reader keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Name,
    Type,
    OsType,
    AutoStart,
    SourceServerId,
    TargetName,
    TargetVmId,
    MigrationIp,
    RegionId,
    ProjectId,
    Priority,
    VmTemplateId,
    UseIpv6,
}

/// The blocks of Chinese characters that the console and the SDK allow in names: (first, last).
pub(super) const CHINESE: [(char, char); 4] = [
    ('\u{3400}', '\u{4DBF}'),
    ('\u{4E00}', '\u{9FFF}'),
    ('\u{F900}', '\u{FAFF}'),
    ('\u{20000}', '\u{323AF}'),
];

/// The largest `Long` of the page.
const LONG: i64 = i64::MAX;
/// The largest unbounded `Integer` of the page.
const INT: i64 = i32::MAX as i64;

const fn rule(name: &'static str, kind: Kind, about: &'static str) -> Rule {
    Rule { name, kind, need: Need::Optional, default: None, about, slot: None }
}

/// Nearly every text of the page is 0 to 255 characters long.
const fn text(name: &'static str, about: &'static str) -> Rule {
    sized(name, 0, 255, about)
}

const fn sized(name: &'static str, min: u32, max: u32, about: &'static str) -> Rule {
    rule(name, Kind::Text { min, max, letters: Letters::Any }, about)
}

const fn integer(name: &'static str, max: i64, about: &'static str) -> Rule {
    rule(name, Kind::Integer { min: 0, max, or_text: false }, about)
}

/// An integer that the vendor's own examples also send as a text.
const fn integer_or_text(name: &'static str, max: i64, about: &'static str) -> Rule {
    rule(name, Kind::Integer { min: 0, max, or_text: true }, about)
}

const fn boolean(name: &'static str, about: &'static str) -> Rule {
    rule(name, Kind::Boolean, about)
}

const fn choice(name: &'static str, values: &'static [&'static str], about: &'static str) -> Rule {
    rule(name, Kind::Choice { values, verified: true }, about)
}

const fn object(name: &'static str, of: &'static Shape, about: &'static str) -> Rule {
    rule(name, Kind::Object(of), about)
}

const fn list(name: &'static str, of: &'static Shape, max: u32, about: &'static str) -> Rule {
    rule(name, Kind::List { of, max }, about)
}

impl Rule {
    const fn required(mut self) -> Self {
        self.need = Need::Required;
        self
    }

    const fn unless_template(mut self) -> Self {
        self.need = Need::UnlessTemplate;
        self
    }

    const fn by_default(mut self, value: Literal) -> Self {
        self.default = Some(value);
        self
    }

    const fn kept(mut self, slot: Slot) -> Self {
        self.slot = Some(slot);
        self
    }
}

/// The body of `POST /v3/tasks`.
pub static TASK: Shape = Shape {
    name: "CreateTask",
    rules: &[
        rule("name", Kind::Text { min: 1, max: 64, letters: Letters::Name }, "The task's name. Names are not unique.")
            .required()
            .kept(Slot::Name),
        choice(
            "type",
            &["MIGRATE_FILE", "MIGRATE_BLOCK"],
            "How to migrate: file by file (Linux) or block by block (Linux and Windows).",
        )
        .required()
        .kept(Slot::Type),
        boolean("start_target_server", "Whether the target server is started after the migration.")
            .by_default(Literal::Boolean(true)),
        boolean("auto_start", "Whether the migration starts by itself.").kept(Slot::AutoStart),
        choice("os_type", &["WINDOWS", "LINUX"], "The operating system of the source server.").kept(Slot::OsType),
        object("source_server", &SOURCE_SERVER, "What to migrate: must exist, be connected and have no migration task.")
            .required(),
        object("target_server", &TARGET_SERVER, "Where to migrate it to.").required(),
        text(
            "migration_ip",
            "The IP address used for the migration: IPv6 where use_ipv6 is true, else IPv4. Not needed if the target \
             server is created by the migration.",
        )
        .kept(Slot::MigrationIp),
        text("region_name", "The name of the target region.").required(),
        text("region_id", "The id of the target region.").required().kept(Slot::RegionId),
        text("project_name", "The name of the target project.").required(),
        text("project_id", "The id of the target project.").required().kept(Slot::ProjectId),
        integer_or_text("priority", 65_535, "The priority; higher is more urgent.")
            .by_default(Literal::Integer(1))
            .kept(Slot::Priority),
        sized("vm_template_id", 0, 100, "The template that the target server is created from.")
            .kept(Slot::VmTemplateId),
        sized("clonevm_template_id", 0, 100, "The template that the target server is cloned with."),
        boolean("use_public_ip", "Whether a public IP address is used for the migration.")
            .by_default(Literal::Boolean(true)),
        boolean("use_ipv6", "Whether IPv6 is used.").by_default(Literal::Boolean(false)).kept(Slot::UseIpv6),
        boolean("syncing", "Whether changes are synchronised on and on after the first replication.")
            .by_default(Literal::Boolean(false)),
        boolean("exist_server", "Whether an existing target server is used (true) or a new one created (false)."),
        boolean("start_network_check", "Whether the network's performance is measured."),
        integer_or_text("speed_limit", 1000, "The speed limit of the migration in Mbit/s; 0 is none.")
            .by_default(Literal::Integer(0)),
        rule(
            "over_speed_threshold",
            Kind::Number { min: 10.0, max: 100.0 },
            "By how many percent the speed limit may be exceeded before the migration is stopped.",
        )
        .by_default(Literal::Integer(10)),
        boolean("is_need_consistency_check", "Whether source and target are compared after the migration."),
        boolean("need_migration_test", "Whether the migration is rehearsed first."),
    ],
};

static SOURCE_SERVER: Shape = Shape {
    name: "SourceServerByTask",
    rules: &[text("id", "The id of the source server in SMS.")
        .required()
        .kept(Slot::SourceServerId)],
};

static TARGET_SERVER: Shape = Shape {
    name: "TargetServerByTask",
    rules: &[
        list(
            "btrfs_list",
            &BTRFS,
            65_535,
            "The Btrfs file systems, as the source server reports them.",
        ),
        list("disks", &DISK, 50, "The disks. An existing target server needs them in practice."),
        text("name", "The name of the target server.").unless_template().kept(Slot::TargetName),
        text("vm_id", "The id of the target server; empty where it is to be created.")
            .unless_template()
            .kept(Slot::TargetVmId),
        list(
            "volume_groups",
            &VOLUME_GROUP,
            50,
            "The volume groups, as the source server reports them.",
        ),
    ],
};

static BTRFS: Shape = Shape {
    name: "BtrfsFileSystem",
    rules: &[
        text("name", "The name of the file system."),
        text("label", "The label of the file system; empty where it has none."),
        text("uuid", "The UUID of the file system."),
        text("device", "The device that the file system is on."),
        integer_or_text("size", LONG, "The space that the file system's data takes, in bytes."),
        integer("nodesize", LONG, "The node size in bytes."),
        integer("sectorsize", INT, "The sector size in bytes."),
        text("data_profile", "The RAID profile of the data."),
        text("system_profile", "The RAID profile of the system."),
        text("metadata_profile", "The RAID profile of the metadata."),
        text("global_reserve1", "Information on the global reserve."),
        integer_or_text("g_vol_used_size", LONG, "The used space of the volume in bytes."),
        text("default_subvolid", "The id of the default subvolume."),
        text("default_subvol_name", "The name of the default subvolume."),
        text(
            "default_subvol_mountpath",
            "Where the default subvolume or the file system is mounted.",
        ),
        list("subvolumn", &SUBVOLUME, 65_535, "The subvolumes (the API spells it so)."),
    ],
};

static SUBVOLUME: Shape = Shape {
    name: "BtrfsSubvolumn",
    rules: &[
        text("uuid", "The UUID of the parent volume."),
        text(
            "is_snapshot",
            "Whether the subvolume is a snapshot, as a text: \"true\" or \"false\".",
        ),
        text("subvol_id", "The id of the subvolume."),
        text("parent_id", "The id of the parent volume."),
        text("subvol_name", "The name of the subvolume."),
        text("subvol_mount_path", "Where the subvolume is mounted."),
    ],
};

static DISK: Shape = Shape {
    name: "TargetDisks",
    rules: &[
        rule(
            "device_use",
            Kind::Choice { values: &["BOOT", "OS", "NORMAL"], verified: false },
            "What the disk is used for: with the boot partition, with the system, or neither. Shown only.",
        )
        .by_default(Literal::Text("NORMAL")),
        text("disk_id", "The id of the EVS volume. Not needed if the target server is created by the migration."),
        text("name", "The name of the disk: \"Disk X\" in the order of the disks."),
        list("physical_volumes", &PHYSICAL_VOLUME, 50, "The partitions of the disk."),
        integer_or_text("size", LONG, "The size in bytes."),
        integer_or_text("used_size", LONG, "The used space in bytes."),
    ],
};

static PHYSICAL_VOLUME: Shape = Shape {
    name: "PhysicalVolumes",
    rules: &[
        text(
            "device_use",
            "What the partition is used for: NORMAL, OS, BOOT, VOLUME_GROUP, BTRFS.",
        ),
        text("file_system", "The type of the file system."),
        integer("index", INT, "The number of the partition, from 0."),
        text("mount_point", "Where it is mounted."),
        text("name", "The drive letter (Windows) or the device (Linux)."),
        integer_or_text("size", LONG, "The size in bytes."),
        integer_or_text("inode_size", LONG, "The size of an inode."),
        integer_or_text("used_size", LONG, "The used space in bytes."),
        text("uuid", "The GUID, as the source server reports it."),
    ],
};

static VOLUME_GROUP: Shape = Shape {
    name: "VolumeGroups",
    rules: &[
        text("components", "The physical volumes, separated by ;."),
        integer_or_text("free_size", LONG, "The free space in bytes."),
        list("logical_volumes", &LOGICAL_VOLUME, 50, "The logical volumes."),
        text("name", "The name of the volume group."),
        integer_or_text("size", LONG, "The size in bytes."),
    ],
};

static LOGICAL_VOLUME: Shape = Shape {
    name: "LogicalVolumes",
    rules: &[
        integer("block_count", INT, "The number of blocks.").by_default(Literal::Integer(0)),
        integer("block_size", 1_048_576, "The size of a block.").by_default(Literal::Integer(0)),
        text("file_system", "The type of the file system."),
        integer_or_text("inode_size", INT, "The size of an inode."),
        integer("inode_nums", LONG, "The number of inodes."),
        text(
            "device_use",
            "What it is used for: NORMAL, OS, BOOT, VOLUME_GROUP, BTRFS. May be empty.",
        ),
        sized("mount_point", 0, 256, "Where it is mounted."),
        sized("name", 0, 1024, "The name of the logical volume."),
        integer_or_text("size", LONG, "The size in bytes."),
        integer_or_text("used_size", LONG, "The used space in bytes."),
        integer_or_text("free_size", LONG, "The free space in bytes."),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_fits_the_readers_bits() {
        fn walk(shape: &'static Shape) {
            assert!(shape.rules.len() <= 32, "{}", shape.name);
            for rule in shape.rules {
                if let Kind::Object(of) | Kind::List { of, .. } = rule.kind {
                    walk(of);
                }
            }
        }
        walk(&TASK);
    }
}
