//! What the API takes and nobody means: each rule by a request that breaks it and no other, what silences it, and the page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sluicegate::plan::{self, Account, CheckReport, Options, PLAUSIBILITY};
use tempfile::TempDir;

const PROJECT: &str = "05825205120026802ff0c01721bc1000";

/// A request with which everything is in order.
fn good(n: u32) -> Value {
    json!({
        "name": format!("web-{n}"), "type": "MIGRATE_FILE", "os_type": "LINUX", "exist_server": true,
        "source_server": { "id": format!("9a01cb97-3eec-440e-8000-00000000{n:04}") },
        "target_server": {
            "name": format!("web-{n}-new"), "vm_id": format!("6dac09d8-5835-4888-8000-00000000{n:04}"),
            "disks": [{
                "name": "/dev/vda", "disk_id": format!("354419d9-bd41-4b50-8000-00000000{n:04}"), "device_use": "BOOT",
                "size": 42_949_672_960_u64, "used_size": 429_496,
                "physical_volumes": [{ "name": "/dev/vda1", "size": 42_947_575_808_u64, "used_size": 5_346_484_224_u64 }],
            }],
            "volume_groups": [{ "name": "vg1", "size": 42_948_624_384_u64, "free_size": 0, "logical_volumes": [
                { "name": "lv1", "size": 10_737_418_240_u64, "used_size": 23_580_672, "free_size": 10_713_837_568_u64 }] }],
        },
        "migration_ip": "192.168.0.1", "region_name": "AP-Singapore", "region_id": "ap-southeast-3",
        "project_name": "ap-southeast-3", "project_id": PROJECT,
        "x-sluice-not-before": "2026-11-28T22:00:00Z", "x-sluice-deadline": "2026-11-29T06:00:00Z",
    })
}

/// A request to a new server.
fn by_template(n: u32) -> Value {
    let mut body = good(n);
    body["vm_template_id"] = json!("tmpl-1");
    body["exist_server"] = json!(false);
    body["target_server"] = json!({});
    body
}

fn options() -> Options {
    let account =
        Account { project: Some("ap-southeast-3".into()), project_id: Some(PROJECT.into()) };
    let now = "2026-11-01T00:00:00Z".parse().unwrap();
    Options { zone: TimeZone::UTC, now, account, ..Options::default() }
}

fn plan_of(desk: &TempDir, rows: &[Value]) -> PathBuf {
    let text: String = rows.iter().flat_map(|row| [row.to_string(), "\n".to_owned()]).collect();
    let path = desk.path().join("plan.jsonl");
    std::fs::write(&path, text).unwrap();
    path
}

fn check(rows: &[Value], options: &Options) -> CheckReport {
    let desk = tempfile::tempdir().unwrap();
    plan::check(plan::open(&plan_of(&desk, rows), options).unwrap()).unwrap()
}

fn rules(report: &CheckReport) -> Vec<&'static str> {
    report.warnings.iter().filter_map(|warning| warning.rule).collect()
}

/// The rule, and rows that break it: fields by their pointers, of [`good`] or, from `template` on, of [`by_template`].
fn broken() -> Vec<(&'static str, Vec<Value>)> {
    let put = |mut body: Value, fields: &[(&str, Value)]| {
        for (pointer, value) in fields {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap()[name] = value.clone();
        }
        body
    };
    let row = |fields: &[(&str, Value)]| vec![put(good(1), fields)];
    let templated = |fields: &[(&str, Value)]| vec![put(by_template(1), fields)];
    let disk = |name: &str| format!("/target_server/disks/0/{name}");
    let plain_windows = [
        ("/os_type", json!("WINDOWS")),
        ("/target_server/volume_groups", json!([])),
        ("/target_server/disks", json!([{ "name": "Disk 0", "size": 42_949_672_960_u64 }])),
    ];
    let mut twin = good(2);
    twin["target_server"]["disks"] = good(1)["target_server"]["disks"].clone();
    let disk_of = |size: u64| json!([{ "name": "Disk 0", "size": size }]);
    vec![
        ("no-os-type", row(&[("/os_type", Value::Null)])),
        ("windows-file", row(&plain_windows)),
        ("windows-volumes", {
            let block = ("/type", json!("MIGRATE_BLOCK"));
            let fields = [&plain_windows[..], &[block]].concat();
            let volumes = ("/target_server/volume_groups", json!([{ "name": "vg1" }]));
            row(&[&fields[..], &[volumes]].concat())
        }),
        ("no-target", row(&[("/target_server/vm_id", json!("")), ("/exist_server", Value::Null)])),
        ("template-and-server", row(&[("/vm_template_id", json!("tmpl-1"))])),
        ("exist-server", row(&[("/exist_server", json!(false))])),
        ("exist-server", templated(&[("/exist_server", json!(true))])),
        (
            "source-is-target",
            row(&[("/target_server/vm_id", json!("9A01CB97-3eec-440e-8000-000000000001"))]),
        ),
        ("no-disks", row(&[("/target_server/disks", json!([]))])),
        ("disk-twice", vec![good(1), twin]),
        ("small-disk", row(&[("/target_server/disks", disk_of(40))])),
        ("small-disk", row(&[("/target_server/disks", disk_of((1 << 30) - 1))])),
        ("huge-disk", row(&[("/target_server/disks", disk_of((64 << 40) + 1))])),
        ("small-volume", row(&[(&disk("physical_volumes"), json!([{ "size": 40 }]))])),
        ("used-above-size", row(&[(&disk("used_size"), json!(42_949_672_961_u64))])),
        (
            "used-above-size",
            row(&[("/target_server/volume_groups/0/free_size", json!(42_948_624_385_u64))]),
        ),
        (
            "volume-above-disk",
            row(&[(&disk("physical_volumes"), json!([{ "size": 42_949_672_961_u64 }]))]),
        ),
        ("migration-ip", row(&[("/migration_ip", json!("127.0.0.1"))])),
        (
            "region-swapped",
            row(&[("/region_name", json!("ap-southeast-3")), ("/region_id", json!("Singapore"))]),
        ),
        (
            "project-swapped",
            row(&[("/project_name", json!(PROJECT)), ("/project_id", json!("ap-southeast-3"))]),
        ),
        ("region-for-project", row(&[("/region_id", json!("15825205120026802ff0c01721bc1000"))])),
        ("other-account", row(&[("/project_id", json!("15825205120026802ff0c01721bc1000"))])),
        ("other-account", row(&[("/project_name", json!("ap-southeast-2"))])),
        ("project-regions", vec![good(1), put(good(2), &[("/region_id", json!("cn-north-4"))])]),
        ("past-not-before", row(&[("/x-sluice-not-before", json!("2025-11-28T22:00:00Z"))])),
        (
            "past-deadline",
            row(&[
                ("/x-sluice-deadline", json!("2026-10-28T22:00:00Z")),
                ("/x-sluice-not-before", Value::Null),
            ]),
        ),
        (
            "far-time",
            row(&[
                ("/x-sluice-not-before", json!("2062-11-28T22:00:00Z")),
                ("/x-sluice-deadline", Value::Null),
            ]),
        ),
    ]
}

#[test]
fn each_rule_sees_what_it_is_for_and_nothing_else_does() {
    let mut seen = BTreeSet::new();
    for (rule, rows) in broken() {
        let report = check(&rows, &options());
        assert!(report.is_valid(), "{rule}: a warning holds nothing back: {:#?}", report.findings);
        assert_eq!(rules(&report), [rule], "{:#?}", report.warnings);
        assert_eq!(report.warnings.len(), 1, "{rule}: {:#?}", report.warnings);
        let told = report.warnings[0].to_string();
        let of = PLAUSIBILITY.iter().find(|of| of.id == rule).unwrap();
        assert!(told.ends_with(&format!("; {}: {} [{rule}]", of.reason, of.cure)), "{told}");
        let allowed = check(&rows, &Options { allow: vec![of.id], ..options() });
        assert!(allowed.warnings.is_empty(), "{rule} is allowed: {:#?}", allowed.warnings);
        seen.insert(rule);
    }
    let all: BTreeSet<_> = PLAUSIBILITY.iter().map(|rule| rule.id).collect();
    assert_eq!(seen, all, "a rule has no request that breaks it");
}

#[test]
fn what_is_in_order_gets_no_warning() {
    let fine = [good(1), good(2), by_template(3), by_template(4)];
    let report = check(&fine, &options());
    assert!(report.is_valid() && report.warnings.is_empty(), "{report:#?}");
    // what a template gives is missing in no row, unless the page is to be kept to the letter
    let mut strict = options();
    strict.rules.strict = true;
    let report = check(&[by_template(1)], &strict);
    let pointers: Vec<_> = report.findings.iter().map(|one| one.pointer.as_str()).collect();
    assert_eq!(pointers, ["/target_server/name", "/target_server/vm_id"]);
}

#[test]
fn allow_silences_in_every_command_and_a_slip_of_it_is_told() {
    let desk = tempfile::tempdir().unwrap();
    let mut windows = good(1);
    windows["os_type"] = json!("WINDOWS");
    windows.as_object_mut().unwrap().retain(|name, _| !name.starts_with("x-sluice"));
    let plan = plan_of(&desk, &[windows.clone()]);
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output = command.env_clear().current_dir(&desk).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let plan = plan.to_str().unwrap();
    let nobody = "broker.url=amqp://guest:guest@127.0.0.1:1/";
    for command in
        [&["check", plan][..], &["submit", plan, "--dry-run"], &["enqueue", plan, "-o", nobody]]
    {
        let (_, err) = run(command);
        assert!(err.contains("warning: row 1, /type: found MIGRATE_FILE for a Windows"), "{err}");
        assert!(err.contains("if that is meant: --allow windows-file,windows-volumes\n"), "{err}");
        let allow = ["--allow", "windows-volumes", "--allow", "windows-file"];
        let (_, err) = run(&[command, &allow].concat());
        assert!(!err.contains("warning: row"), "{err}");
        let (_, err) = run(&[command, &["--allow", "windows-file,windows-volumes"]].concat());
        assert!(!err.contains("warning: row"), "{err}");
    }
    let (code, err) = run(&["check", plan, "--allow", "window-file"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("\"window-file\" is no rule; did you mean windows-file"), "{err}");
    let (code, err) = run(&["check", plan, "--allow", "disk"]);
    assert!(code == Some(2) && err.contains("did you mean disk-twice or small-disk or"), "{err}");
}

#[test]
fn the_page_has_every_rule() {
    let mut table = String::from(
        "| rule | a row like this | why it is told | what to do |\n|---|---|---|---|\n",
    );
    for rule in &PLAUSIBILITY {
        let _ =
            writeln!(table, "| `{}` | {} | {} | {} |", rule.id, rule.about, rule.reason, rule.cure);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plans.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (first, last) = ("<!-- rules: written from the code -->\n", "<!-- end of the rules -->");
    let (before, rest) = page.split_once(first).unwrap();
    let (there, after) = rest.split_once(last).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{first}{table}{last}{after}")).unwrap();
        return;
    }
    assert_eq!(there, table, "run the tests with UPDATE_DOCS=1");
}
