//! The contract: every rule of the page, held against a second list that was taken from the page's text by itself
//! (`data/contract_page.tsv`), and against an independent JSON Schema validator.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use sluicegate::contract::page::{Shape, TASK};
use sluicegate::contract::{self, Invalid, Kind, Need, Reading, Rules, Violation};

const FULL: &str = include_str!("../data/create-task-full.json");
const EXAMPLE: &str = include_str!("../data/create-task-example.json");
const PAGE: &str = include_str!("../data/contract_page.tsv");

fn full() -> Value {
    serde_json::from_str(FULL).unwrap()
}

fn rules(strict: bool) -> Rules {
    Rules { strict, ..Rules::default() }
}

fn read(body: &Value, strict: bool) -> Result<Reading, Box<Invalid>> {
    contract::read(body.to_string().as_bytes(), &rules(strict))
}

/// All that is wrong with these bytes, when read leniently.
fn violations(body: impl AsRef<[u8]>) -> Vec<Violation> {
    match contract::read(body.as_ref(), &Rules::default()) {
        Ok(_) => vec![],
        Err(invalid) => invalid.violations,
    }
}

/// The full body with this value at this place.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = full();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        parent => parent[name] = value,
    }
    body
}

fn without(pointer: &str) -> Value {
    let mut body = full();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    body
}

#[allow(clippy::needless_pass_by_value)] // the cases are written with json!
/// The body with one value at one place breaks one rule: there, so found, with this in what is allowed.
fn refused(pointer: &str, value: Value, found: &str, allowed: &str) {
    for strict in [false, true] {
        let invalid =
            read(&with(pointer, value.clone()), strict).expect_err(&format!("{pointer} {value}"));
        let [violation] = invalid.violations.as_slice() else {
            panic!("{pointer} {value}: {:?}", invalid.violations)
        };
        assert_eq!((violation.pointer.as_str(), violation.found.as_str()), (pointer, found));
        assert!(violation.allowed.contains(allowed), "{violation:?} should allow {allowed}");
    }
}

#[allow(clippy::needless_pass_by_value)] // as above
fn accepted(pointer: &str, value: Value) {
    for strict in [false, true] {
        let reading = read(&with(pointer, value.clone()), strict);
        assert!(reading.is_ok_and(|reading| reading.warnings.is_empty()), "{pointer} {value}");
    }
}

/// Accepted with one warning; a violation where the rules are strict.
fn questioned(body: &Value, pointer: &str) {
    let reading = read(body, false).unwrap();
    assert_eq!(
        reading.warnings.iter().map(|warning| warning.pointer.as_str()).collect::<Vec<_>>(),
        [pointer]
    );
    assert_eq!(read(body, true).unwrap_err().violations, reading.warnings);
}

/// One line of the page, as the second list has it.
struct Line {
    object: &'static str,
    field: &'static str,
    required: bool,
    kind: &'static str,
    min: Option<i64>,
    max: Option<i64>,
    values: Vec<&'static str>,
}

impl Line {
    /// Where the field stands in the full body.
    fn pointer(&self) -> String {
        let object = match self.object {
            "CreateTask" => "",
            "SourceServerByTask" => "/source_server",
            "TargetServerByTask" => "/target_server",
            "BtrfsFileSystem" => "/target_server/btrfs_list/0",
            "BtrfsSubvolumn" => "/target_server/btrfs_list/0/subvolumn/0",
            "TargetDisks" => "/target_server/disks/0",
            "PhysicalVolumes" => "/target_server/disks/0/physical_volumes/0",
            "VolumeGroups" => "/target_server/volume_groups/0",
            "LogicalVolumes" => "/target_server/volume_groups/0/logical_volumes/0",
            other => panic!("{other}"),
        };
        format!("{object}/{}", self.field)
    }

    /// Numbers that the vendor's examples also send as texts.
    fn or_text(&self) -> bool {
        let fields = [
            "priority",
            "size",
            "inode_size",
            "used_size",
            "free_size",
            "g_vol_used_size",
            "speed_limit",
        ];
        fields.contains(&self.field)
    }
}

fn page() -> Vec<Line> {
    let lines = PAGE.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        Line {
            object: cells[0],
            field: cells[1],
            required: cells[2] == "Yes",
            kind: cells[3],
            min: cells[4].parse().ok(),
            max: cells[5].parse().ok(),
            values: cells[7].split(',').filter(|value| !value.is_empty()).collect(),
        }
    });
    lines.collect()
}

fn lines(kind: &str) -> Vec<Line> {
    let lines: Vec<Line> = page().into_iter().filter(|line| line.kind == kind).collect();
    assert!(!lines.is_empty(), "no {kind} on the page");
    lines
}

#[test]
fn the_table_says_what_the_page_says() {
    fn walk(shape: &'static Shape, seen: &mut Vec<String>) {
        for rule in shape.rules {
            let default = rule.default.map_or_else(String::new, |default| default.to_string());
            let need = if rule.need == Need::Optional { "No" } else { "Yes" };
            let (kind, limits, values) = match rule.kind {
                Kind::Text { min, max, .. } => {
                    ("String".to_owned(), format!("{min}\t{max}"), String::new())
                }
                Kind::Choice { values, .. } => {
                    ("String".to_owned(), "\t".to_owned(), values.join(","))
                }
                Kind::Integer { min, max, .. } => {
                    ("whole".to_owned(), format!("{min}\t{max}"), String::new())
                }
                Kind::Number { min, max } => {
                    ("Double".to_owned(), format!("{min}\t{max}"), String::new())
                }
                Kind::Boolean => ("Boolean".to_owned(), "\t".to_owned(), String::new()),
                Kind::Object(of) => {
                    walk(of, seen);
                    (format!("{} object", of.name), "\t".to_owned(), String::new())
                }
                Kind::List { of, max } => {
                    walk(of, seen);
                    (format!("Array of {} objects", of.name), format!("\t{max}"), String::new())
                }
            };
            seen.push(format!(
                "{}\t{}\t{need}\t{kind}\t{limits}\t{default}\t{values}",
                shape.name, rule.name
            ));
        }
    }
    let mut table = vec![];
    walk(&TASK, &mut table);
    let mut page: Vec<String> = PAGE
        .lines()
        .skip(1)
        .map(|line| line.replace("\tLong\t", "\twhole\t").replace("\tInteger\t", "\twhole\t"))
        .collect();
    table.sort();
    page.sort();
    assert_eq!(page.len(), 83);
    assert_eq!(table, page);
}

#[test]
fn the_full_body_holds_every_field_of_the_page() {
    let body = full();
    for line in page() {
        assert!(body.pointer(&line.pointer()).is_some(), "{}", line.pointer());
    }
}

#[test]
fn texts_are_as_long_as_the_page_says() {
    for line in
        lines("String").iter().filter(|line| line.max.is_some() && line.field != "migration_ip")
    {
        let (pointer, max) = (line.pointer(), usize::try_from(line.max.unwrap()).unwrap());
        accepted(&pointer, json!("x".repeat(max)));
        let long = "x".repeat(max + 1);
        let found = format!("\"{}…\" ({} characters)", &long[..60], max + 1);
        refused(&pointer, json!(long), &found, &format!("{max} characters"));
        if line.min == Some(0) {
            accepted(&pointer, json!(""));
        } else {
            refused(&pointer, json!(""), "\"\"", "1 to");
        }
        if line.field != "name" || line.object != "CreateTask" {
            accepted(&pointer, json!("界".repeat(max)));
        }
    }
}

#[test]
fn whole_numbers_keep_the_pages_limits() {
    for line in lines("Integer").iter().chain(&lines("Long")) {
        let (pointer, min, max) = (line.pointer(), line.min.unwrap(), line.max.unwrap());
        let allowed = format!("a whole number from {min} to {max}");
        accepted(&pointer, json!(min));
        accepted(&pointer, json!(max));
        accepted(&pointer, json!(1.0));
        refused(&pointer, json!(min - 1), &(min - 1).to_string(), &allowed);
        let above = max.unsigned_abs() + 1;
        refused(&pointer, json!(above), &above.to_string(), &allowed);
        refused(&pointer, json!(0.5), "the number 0.5", &allowed);
        refused(&pointer, json!(1e300), "the number 1e+300", &allowed);
        for text in ["", "-1", "+1", "01", " 1", "1.0", "1e2", "99999999999999999999", "one"] {
            refused(&pointer, json!(text), &format!("the text {text:?}"), &allowed);
        }
        if line.or_text() {
            questioned(&with(&pointer, json!(max.to_string())), &pointer);
            refused(&pointer, json!(above.to_string()), &format!("the text \"{above}\""), &allowed);
        } else {
            refused(&pointer, json!("1"), "the text \"1\"", &allowed);
        }
    }
}

#[test]
fn the_threshold_keeps_its_limits() {
    let [line] = &lines("Double")[..] else { panic!("one Double is on the page") };
    let pointer = line.pointer();
    for good in [json!(10), json!(10.0), json!(55.5), json!(100)] {
        accepted(&pointer, good);
    }
    refused(&pointer, json!(9.99), "9.99", "a number from 10 to 100");
    refused(&pointer, json!(101), "101", "a number from 10 to 100");
    refused(&pointer, json!("10"), "the text \"10\"", "a number from 10 to 100");
}

#[test]
fn enumerations_take_their_values_and_no_others() {
    let lines: Vec<Line> = page().into_iter().filter(|line| !line.values.is_empty()).collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        for value in &line.values {
            accepted(&line.pointer(), json!(value));
        }
        if line.field == "device_use" {
            questioned(&with(&line.pointer(), json!("VOLUME_GROUP")), &line.pointer());
            continue;
        }
        for wrong in ["", "OTHER", line.values[0].to_lowercase().as_str()] {
            refused(
                &line.pointer(),
                json!(wrong),
                &format!("{wrong:?}"),
                &format!("one of {}", line.values.join(", ")),
            );
        }
    }
}

#[test]
fn every_field_refuses_values_of_another_type() {
    for line in page() {
        let pointer = line.pointer();
        let others = [
            ("String", json!("x"), "the text \"x\""),
            ("Boolean", json!(true), "true"),
            ("number", json!(50), "the number 50"),
            ("Array", json!([[]]), "an array"),
            ("object", json!({ "a": 1 }), "an object"),
        ];
        for (kind, value, found) in others {
            let number = ["Integer", "Long", "Double"].contains(&line.kind);
            let same = line.kind.starts_with(kind)
                || line.kind.ends_with(kind)
                || (number && kind == "number");
            if !same {
                refused(&pointer, value, found, "");
            }
        }
    }
}

#[test]
fn null_counts_as_absent_and_what_is_required_may_be_neither() {
    for line in page() {
        let pointer = line.pointer();
        let only_without_template =
            ["/target_server/vm_id", "/target_server/name"].contains(&pointer.as_str());
        if only_without_template {
            questioned(&with(&pointer, Value::Null), &pointer);
            questioned(&without(&pointer), &pointer);
        } else if line.required {
            refused(&pointer, Value::Null, "null", "");
            let violations = read(&without(&pointer), false).unwrap_err().violations;
            assert_eq!(violations.len(), 1, "{pointer}");
            assert_eq!(
                (violations[0].pointer.as_str(), violations[0].found.as_str()),
                (pointer.as_str(), "absent")
            );
            assert!(violations[0].allowed.starts_with("required"));
        } else {
            accepted(&pointer, Value::Null);
            assert!(read(&without(&pointer), true).is_ok(), "{pointer}");
        }
    }
}

#[test]
fn arrays_are_as_long_as_the_page_says() {
    let arrays: Vec<Line> =
        page().into_iter().filter(|line| line.kind.starts_with("Array")).collect();
    assert_eq!(arrays.len(), 6);
    for line in arrays {
        let (pointer, max) = (line.pointer(), usize::try_from(line.max.unwrap()).unwrap());
        accepted(&pointer, json!([]));
        accepted(&pointer, json!(vec![json!({}); max]));
        refused(
            &pointer,
            json!(vec![json!({}); max + 1]),
            &format!("an array of {}", max + 1),
            &format!("at most {max}"),
        );
        refused(&format!("{pointer}/0"), Value::Null, "null", "an object");
    }
}

#[test]
fn important_rules_hold_as_a_person_would_write_them() {
    refused("/name", json!("web 1"), r#""web 1""#, "letters, digits, underscores and hyphens");
    refused("/name", json!("web.1"), r#""web.1""#, "letters");
    refused(
        "/name",
        json!("a".repeat(65)),
        &format!("\"{}…\" (65 characters)", "a".repeat(60)),
        "1 to 64",
    );
    refused(
        "/type",
        json!("MIGRATE_DISK"),
        r#""MIGRATE_DISK""#,
        "one of MIGRATE_FILE, MIGRATE_BLOCK",
    );
    refused("/priority", json!(65_536), "65536", "from 0 to 65535");
    refused("/priority", json!(-1), "-1", "from 0 to 65535");
    refused("/speed_limit", json!(1001), "1001", "from 0 to 1000");
    refused("/source_server/id", json!(7), "the number 7", "text of at most 255");
    accepted("/priority", json!(0));
    accepted("/target_server/vm_id", json!(""));
    accepted("/target_server/disks/0/physical_volumes/0/uuid", Value::Null);
    accepted("/target_server/btrfs_list", Value::Null);
}

#[test]
fn a_migration_ip_fits_use_ipv6() {
    let cases = [
        (json!(false), "10.0.0.1", true),
        (json!(false), "2001:db8::1", false),
        (json!(true), "2001:db8::1", true),
        (json!(true), "::ffff:10.0.0.1", true),
        (json!(true), "10.0.0.1", false),
        (Value::Null, "10.0.0.1", true),
        (Value::Null, "::1", false),
        (json!(false), "10.0.0.256", false),
        (json!(false), "010.0.0.1", false),
        (json!(false), "host.example", false),
        (json!(true), "fe80::1%eth0", false),
        (json!(true), "", true),
    ];
    for (use_ipv6, ip, fits) in cases {
        // in both orders: the rule is judged when both have been read
        let rest = &without("/migration_ip").to_string()[1..];
        let rest = rest.replacen("\"use_ipv6\":false,", "", 1);
        for head in [
            format!(r#""use_ipv6":{use_ipv6},"migration_ip":"{ip}""#),
            format!(r#""migration_ip":"{ip}","use_ipv6":{use_ipv6}"#),
        ] {
            let found = violations(format!("{{{head},{rest}"));
            assert_eq!(found.is_empty(), fits, "{head}: {found:?}");
            assert!(
                found.iter().all(|violation| violation.pointer == "/migration_ip"),
                "{found:?}"
            );
        }
    }
}

#[test]
fn the_schema_knows_an_address_as_the_validator_does() {
    let schema = validator(false);
    let agrees = |ip: &str| {
        for use_ipv6 in [false, true] {
            let mut body = with("/migration_ip", json!(ip));
            body["use_ipv6"] = json!(use_ipv6);
            let valid = read(&body, false).is_ok();
            assert_eq!(valid, schema.is_valid(&body), "{ip:?} with use_ipv6 {use_ipv6}");
        }
    };
    let mut dice = fastrand::Rng::with_seed(6);
    for _ in 0..3000 {
        let group = |dice: &mut fastrand::Rng| match dice.u8(..10) {
            0 | 1 => String::new(),
            2 => format!("{}.{}.{}.{}", dice.u8(..), dice.u8(..), dice.u16(..300), dice.u8(..)),
            3 => format!("{:05x}", dice.u32(..0x10_0000)),
            _ => format!("{:x}", dice.u16(..)),
        };
        let groups: Vec<String> = (0..dice.usize(1..10)).map(|_| group(&mut dice)).collect();
        agrees(&groups.join(":"));
    }
    for ip in [
        "::",
        "::1",
        "1::",
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:8",
        "1::3:4:5:6:7:8",
        "1:2:3:4:5:6:1.2.3.4",
        "::1.2.3.4",
        "1::1.2.3.4",
        "1:2:3:4:5::1.2.3.4",
        "1:2:3:4:5:6::1.2.3.4",
        ":::",
        "1:::2",
        "1::2::3",
        ":1",
        "1:",
        "0.0.0.0",
        "255.255.255.255",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.4\n",
    ] {
        agrees(ip);
    }
}

#[test]
fn beside_a_template_a_field_that_is_left_out_is_told_as_what_the_page_wants() {
    let mut body = with("/vm_template_id", json!("t"));
    body["target_server"].as_object_mut().unwrap().remove("vm_id");
    questioned(&body, "/target_server/vm_id");
    let invalid = read(&body, true).unwrap_err();
    let allowed = &invalid.violations[0].allowed;
    assert!(
        allowed.starts_with("required by the API's page") && allowed.contains("contract.strict"),
        "{allowed}"
    );
}

#[test]
fn without_a_template_the_target_needs_a_name_and_a_vm_id() {
    for template in [Value::Null, json!("")] {
        let mut body = with("/vm_template_id", template);
        body["target_server"].as_object_mut().unwrap().remove("vm_id");
        body["target_server"]["name"] = Value::Null;
        let found: Vec<String> =
            read(&body, false).unwrap_err().violations.into_iter().map(|v| v.pointer).collect();
        assert_eq!(found, ["/target_server/name", "/target_server/vm_id"]);
    }
}

#[test]
fn chinese_names_and_unknown_fields_are_questioned() {
    questioned(&with("/name", json!("迁移任务_1")), "/name");
    refused("/name", json!("миграция"), "\"миграция\"", "letters");
    questioned(&with("/auto_install_pvdriver", json!(true)), "/auto_install_pvdriver");
    questioned(
        &with("/target_server/ip", json!({ "deep": [{ "er": null }] })),
        "/target_server/ip",
    );
    let reading = read(&with("/prority", json!(1)), false).unwrap();
    assert!(
        reading.warnings[0].allowed.contains("did you mean priority?"),
        "{:?}",
        reading.warnings
    );
}

#[test]
fn the_view_holds_what_the_body_says() {
    let view = read(&with("/priority", json!("65535")), false).unwrap().view;
    assert_eq!(view.name, "MigrationTask");
    assert_eq!(view.source_server_id, "9a01cb97-3eec-440e-8000-04016a8d7502");
    assert_eq!(view.target_vm_id.as_deref(), Some("6dac09d8-5835-4888-8000-787453c4e1d4"));
    assert_eq!(view.target_name.as_deref(), Some("Auto-tar-name"));
    assert_eq!(
        (view.region_id.as_str(), view.project_id.as_str()),
        ("region_id", "05825205120026802ff0c01721bc1000")
    );
    assert_eq!((view.task_type.as_str(), view.os_type.as_deref()), ("MIGRATE_FILE", Some("LINUX")));
    assert_eq!((view.priority, view.auto_start), (65_535, Some(true)));
    assert_eq!(view.vm_template_id.as_deref(), Some("tmpl-1"));

    let view = read(&with("/target_server/vm_id", json!("")), false).unwrap().view;
    assert_eq!(view.target_vm_id, None);
    let example = contract::read(EXAMPLE.as_bytes(), &rules(true)).unwrap();
    assert_eq!((example.view.priority, example.view.auto_start), (1, None));
    assert_eq!(example.view.vm_template_id, None);
}

#[test]
fn the_pages_example_and_the_full_body_pass_strictly() {
    for body in [EXAMPLE, FULL] {
        let reading = contract::read(body.as_bytes(), &rules(true)).unwrap();
        assert!(reading.warnings.is_empty());
    }
}

#[test]
fn all_violations_come_at_once_with_what_could_be_read() {
    let body = json!({
        "name": "bad name", "type": "X", "priority": 7, "region_id": "r", "region_name": 1, "project_id": "p",
        "source_server": { "id": "s-1" }, "target_server": { "disks": [{ "size": -1 }, 3] }, "syncing": "no",
    });
    let invalid = read(&body, false).unwrap_err();
    let mut pointers: Vec<&str> =
        invalid.violations.iter().map(|violation| violation.pointer.as_str()).collect();
    pointers.sort_unstable();
    let expected = [
        "/name",
        "/project_name",
        "/region_name",
        "/syncing",
        "/target_server/disks/0/size",
        "/target_server/disks/1",
        "/target_server/name",
        "/target_server/vm_id",
        "/type",
    ];
    assert_eq!(pointers, expected);
    assert_eq!(invalid.name.as_deref(), Some("bad name"));
    assert_eq!(invalid.source_server_id.as_deref(), Some("s-1"));
    assert_eq!(
        (invalid.project_id.as_deref(), invalid.region_id.as_deref()),
        (Some("p"), Some("r"))
    );
    assert_eq!(invalid.priority, Some(7));
}

#[test]
fn reports_are_bounded_and_say_how_much_more_there_is() {
    let disks = json!(vec![json!({ "size": -1, "used_size": -1, "name": 1 }); 50]);
    let found = violations(with("/target_server/disks", disks).to_string());
    assert_eq!(found.len(), 101);
    assert_eq!(found[100].found, "50 more violations");

    let mut body = full();
    for n in 0..300 {
        body[format!("extra{n}")] = json!(n);
    }
    let warnings = read(&body, false).unwrap().warnings;
    assert_eq!((warnings.len(), warnings[100].found.as_str()), (101, "200 more warnings"));

    let body = with(
        "/extra",
        (0..5000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into(),
    );
    let found = violations(body.to_string());
    assert_eq!(found.len(), 1);
    assert!(found[0].allowed.contains("4096"), "{found:?}");
}

#[test]
fn duplicate_keys_are_found_at_every_level() {
    let rest = &FULL.trim_start()[1..];
    let cases = [
        (format!(r#"{{"name":"a",{rest}"#), "/name"),
        (format!(r#"{{"na\u006de":"a",{rest}"#), "/name"),
        (format!(r#"{{"x":1,"x":1,{rest}"#), "/x"),
        (format!(r#"{{"x":[{{"y":{{"z":1,"z":2}}}}],{rest}"#), "/x/0/y/z"),
        (
            FULL.replace(r#""index": 0"#, r#""index": 0, "index": {"a":1,"a":2}"#),
            "/target_server/disks/0/physical_volumes/0/index",
        ),
    ];
    for (body, pointer) in cases {
        let found = violations(&body);
        assert_eq!(found[0].pointer, pointer, "{body}");
        assert_eq!(found[0].allowed, "each field once");
    }
}

#[test]
fn broken_bodies_are_named_with_the_place() {
    let one = |body: &[u8]| {
        let found = violations(body);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    };
    for body in ["", " \r\n\t"] {
        assert_eq!(one(body.as_bytes()).found, "an empty body");
    }
    let broken = one(b"{\n \"name\": \"a\",\n \"type\" \"MIGRATE_FILE\"}");
    assert!(broken.found.contains("line 3 column 9"), "{broken:?}");
    assert_eq!(broken.pointer, "/type");
    let cut = one(&FULL.as_bytes()[..700]);
    assert!(cut.found.starts_with("broken JSON: EOF while parsing"), "{cut:?}");
    assert!(one(format!("{FULL}x").as_bytes()).found.contains("trailing characters"));
    assert!(one(b"{\n\"name\": \"\xff\"}").found.contains("not UTF-8, from byte 11 (line 2)"));
    assert!(one("\u{feff}{}".as_bytes()).found.contains("byte order mark"));
    for body in ["null", "3", "\"x\"", "[]", "true"] {
        assert_eq!(one(body.as_bytes()).allowed, "an object (CreateTask)");
    }
    assert!(one(br#"{"name": "\ud800"}"#).found.starts_with("broken JSON"));
}

#[test]
fn bodies_of_any_size_and_depth_are_read_without_harm() {
    let big = format!(r#"{{"x":"{}"}}"#, "x".repeat(10 << 20));
    let found = violations(&big);
    assert_eq!(found[0].found, format!("a body of {} bytes", big.len()));
    assert_eq!(found[0].allowed, "at most 1048576 bytes (contract.max_body)");

    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for body in [
            nested.clone(),
            format!(r#"{{"x":{nested}}}"#),
            format!(r#"{{"target_server":{nested}}}"#),
            open.repeat(100_000),
        ] {
            let found = violations(body);
            assert!(
                found.iter().any(|violation| violation.found.contains("too deep")),
                "{found:?}"
            );
        }
    }
    let just = format!(r#"{{"x":{}{},{}"#, "[".repeat(62), "]".repeat(62), &FULL.trim_start()[1..]);
    assert_eq!(violations(just), []);
}

#[test]
fn fifty_full_disks_and_65535_subvolumes_pass() {
    let disk = full()["target_server"]["disks"][0].clone();
    let mut disk = disk;
    disk["physical_volumes"] = json!(vec![disk["physical_volumes"][0].clone(); 50]);
    let body = with("/target_server/disks", json!(vec![disk; 50])).to_string();
    assert!(body.len() > 400_000);
    assert_eq!(violations(&body), []);

    let subvolume = full()["target_server"]["btrfs_list"][0]["subvolumn"][0].clone();
    let body =
        with("/target_server/btrfs_list/0/subvolumn", json!(vec![subvolume; 65_535])).to_string();
    let large = Rules { strict: true, max_body: 16 << 20 };
    assert!(contract::read(body.as_bytes(), &large).unwrap().warnings.is_empty());
    assert_eq!(violations(&body).len(), 1);
}

fn validator(strict: bool) -> jsonschema::Validator {
    // As most people's validators are set: `format` is a remark.
    jsonschema::options().should_validate_formats(false).build(&contract::schema(strict)).unwrap()
}

#[test]
fn the_schema_is_a_schema_and_takes_the_examples() {
    for strict in [false, true] {
        jsonschema::meta::validate(&contract::schema(strict)).unwrap();
        for body in [FULL, EXAMPLE] {
            assert!(validator(strict).is_valid(&serde_json::from_str(body).unwrap()));
        }
    }
}

/// One change to a body: another value at, or nothing at, one of the places.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, Value),
    Remove(usize),
    Add(usize, &'static str, Value),
}

fn any_value() -> impl Strategy<Value = Value> {
    let odd = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(10.5),
        json!(100),
        json!(1000),
        json!(1001),
        json!(65_535),
        json!(65_536),
        json!(1.0),
        json!(1e19),
        json!(9.3e18),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(""),
        json!("1"),
        json!("0"),
        json!("01"),
        json!("65535"),
        json!("65536"),
        json!("65600"),
        json!("70000"),
        json!("2147483647"),
        json!("2147483648"),
        json!("9223372036854775807"),
        json!("9223372036854775808"),
        json!("10223372036854775807"),
        json!("MIGRATE_FILE"),
        json!("LINUX"),
        json!("BOOT"),
        json!("10.0.0.1"),
        json!("2001:db8::1"),
        json!("1.2.3"),
        json!("名字"),
        json!("名 字"),
        json!("a\n"),
        json!([]),
        json!({}),
        json!([{}]),
        json!([1]),
        json!([null]),
        json!("x".repeat(100)),
        json!("x".repeat(101)),
        json!("x".repeat(255)),
        json!("界".repeat(256)),
        json!("x".repeat(1025)),
    ];
    prop_oneof![
        8 => proptest::sample::select(odd.to_vec()),
        1 => any::<i64>().prop_map(Value::from),
        1 => (0_u64..=66_000).prop_map(|number| Value::from(number.to_string())),
        1 => "[0-9]{1,20}".prop_map(Value::from),
        1 => "\\PC{0,80}".prop_map(Value::from),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<usize>(), any_value()).prop_map(|(at, value)| Change::Set(at, value)),
        2 => any::<usize>().prop_map(Change::Remove),
        1 => (any::<usize>(), proptest::sample::select(vec!["x", "ip", "Name"]), any_value())
            .prop_map(|(at, name, value)| Change::Add(at, name, value)),
    ]
}

/// Changes the body; what an earlier change took away cannot be changed again.
fn change(body: &mut Value, change: Change, places: &[String]) {
    let at = |n: usize| places[n % places.len()].rsplit_once('/').unwrap();
    let (Change::Set(n, _) | Change::Remove(n) | Change::Add(n, ..)) = change;
    let (parent, name) = at(n);
    let Some(Value::Object(object)) = body.pointer_mut(parent) else { return };
    match change {
        Change::Set(_, value) => drop(object.insert(name.to_owned(), value)),
        Change::Remove(_) => drop(object.remove(name)),
        Change::Add(_, name, value) => drop(object.insert(name.to_owned(), value)),
    }
}

#[test]
fn validator_and_schema_agree_on_any_body() {
    let places: Vec<String> = page().iter().map(Line::pointer).collect();
    let schemas = [(false, validator(false)), (true, validator(true))];
    let config = ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    };
    proptest!(config, |(changes in proptest::collection::vec(any_change(), 0..4))| {
        let mut body = full();
        for one in changes {
            change(&mut body, one, &places);
        }
        for (strict, schema) in &schemas {
            let reading = read(&body, *strict);
            prop_assert_eq!(reading.is_ok(), schema.is_valid(&body), "strict {}: {:?}\n{}", strict, reading, body);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_can_make_it_panic(cut in 0..FULL.trim_end().len(), at in 0..FULL.len(), byte in any::<u8>()) {
        let mut body = FULL.as_bytes().to_vec();
        body[at] = byte;
        let whole = contract::read(&body, &Rules::default());
        body.truncate(cut);
        let part = contract::read(&body, &Rules::default());
        prop_assert!(part.is_err(), "a part of a body is no body");
        if let Err(invalid) = whole {
            prop_assert!(!invalid.violations.is_empty());
        }
    }
}
