//! What is the same in many rows is said once, with its rows; and what a check counts adds up.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use rust_xlsxwriter::{Workbook, Worksheet};
use serde_json::Value;
use tempfile::TempDir;

const HEADER: [&str; 10] = [
    "name",
    "type",
    "os_type",
    "source_server.id",
    "target_server.name",
    "target_server.vm_id",
    "target_server.disks.0.name",
    "target_server.disks.0.size",
    "region_name",
    "project_id",
];

fn cells(n: u32) -> Vec<String> {
    let own = [
        format!("web-{n}"),
        "MIGRATE_FILE".to_owned(),
        "LINUX".to_owned(),
        format!("{n:036}"),
        format!("web-{n}-new"),
        format!("vm-{n}"),
    ];
    let rest = ["Disk 0", "42949672960", "Singapore", "05825205120026802ff0c01721bc1000"];
    own.into_iter().chain(rest.map(str::to_owned)).collect()
}

fn workbook(desk: &TempDir, fill: impl FnOnce(&mut Worksheet)) -> PathBuf {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name("Wave 1").unwrap();
    sheet.write_row(0, 0, HEADER).unwrap();
    fill(sheet);
    let path = desk.path().join("plan.xlsx");
    book.save(&path).unwrap();
    path
}

/// A CSV file of so many rows.
fn csv(desk: &TempDir, rows: impl IntoIterator<Item = Vec<String>>) -> PathBuf {
    let lines = rows.into_iter().map(|row| row.join(",") + "\n");
    let text = HEADER.join(",") + "\n" + &lines.collect::<String>();
    let path = desk.path().join("plan.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn sluice(args: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sluice")).env_clear().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn check(plan: &std::path::Path, more: &[&str]) -> (Option<i32>, String, String) {
    sluice(&[&["check", plan.to_str().unwrap()], more].concat())
}

#[test]
fn columns_that_are_missing_in_all_rows_are_a_line_each() {
    let desk = tempfile::tempdir().unwrap();
    let plan = csv(&desk, (1..=250).map(cells));
    let (code, out, err) = check(&plan, &[]);
    assert_eq!(code, Some(3));
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(
        lines,
        [
            "in all 250 rows, /region_id: is missing; it is required: text of at most 255 characters; \
             add a column region_id, or give it to all rows with --set region_id=...",
            "in all 250 rows, /project_name: is missing; it is required: text of at most 255 characters; \
             add a column project_name, or give it to all rows with --set project_name=...",
        ]
    );
    assert!(out.contains("250 requests, 0 valid, 250 invalid; 500 findings\n"), "{out}");

    let (_, out, _) = check(&plan, &["--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["report"]["findings"].as_array().unwrap().len(), 500, "every row is there");
    let groups = json["report"]["finding_groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0]["rows"]["count"], 250);
    assert_eq!(groups[0]["rows"]["runs"], serde_json::json!([[2, 251]]));
    assert_eq!(groups[0]["pointer"], "/region_id");
}

#[test]
fn some_rows_are_named_in_runs_and_one_as_ever() {
    let desk = tempfile::tempdir().unwrap();
    let plan = workbook(&desk, |sheet| {
        sheet.write_row(0, 10, ["region_id", "project_name"]).unwrap();
        for n in 1..=50_u32 {
            let mut cells = cells(n);
            cells.extend(["ap-southeast-3".to_owned(), "P".to_owned()]);
            if n == 2 || n == 6 || (11..=39).contains(&n) {
                cells[1] = "FILE".into();
            }
            if n == 45 {
                cells[8].clear();
            }
            sheet.write_row(n, 0, cells).unwrap();
        }
    });
    let (code, out, err) = check(&plan, &["--set", "target_server.disks.0.size=42949672960"]);
    assert_eq!(code, Some(3));
    assert_eq!(
        err,
        "in rows 3, 7, 12-40 (31 rows) of 'Wave 1', column B, /type: found \"FILE\"; allowed: one of MIGRATE_FILE, MIGRATE_BLOCK\n\
         'Wave 1'!I46, /region_name: is missing; it is required: text of at most 255 characters; \
         fill the cell, or give it to all rows that lack it in a file for --defaults\n"
    );
    assert!(out.contains("50 requests, 18 valid, 32 invalid; 32 findings\n"), "{out}");
}

/// The advice is taken: other rows keep what they say.
#[test]
fn a_defaults_file_fills_what_is_empty_and_set_replaces_in_all_rows() {
    let desk = tempfile::tempdir().unwrap();
    let rows = (1..=3).map(|n| {
        let mut cells = cells(n);
        cells[8] = if n == 2 { String::new() } else { format!("Region {n}") };
        cells
    });
    let plan = csv(&desk, rows);
    let defaults = desk.path().join("rest.json");
    std::fs::write(&defaults, r#"{"region_name":"Singapore"}"#).unwrap();
    let set = ["--set", "region_id=ap-southeast-3", "--set", "project_name=P"];
    let (code, _, err) = check(&plan, &set);
    assert!(code == Some(3) && err.contains("row 3, column I, /region_name: is missing"), "{err}");
    assert!(
        err.contains("in a file for --defaults") && !err.contains("--set region_name"),
        "{err}"
    );
    let (code, _, err) =
        check(&plan, &[&set[..], &["--defaults", defaults.to_str().unwrap()]].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

/// It is read once, and so is what is wrong with it: all of it, in the file's name, whatever the rows say.
#[test]
fn what_is_wrong_in_a_defaults_file_is_told_of_the_file_and_not_of_each_row() {
    let desk = tempfile::tempdir().unwrap();
    let plan = csv(&desk, (1..=3).map(cells));
    let defaults = desk.path().join("rest.toml");
    let wrong = "type = \"COPY\"\nx-sluice-priority = \"high\"\n[target_server]\nname = 7\n";
    std::fs::write(&defaults, wrong).unwrap();
    let (code, out, err) = check(&plan, &["--defaults", defaults.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{err}");
    for place in ["rest.toml: /type: found \"COPY\"", "x-sluice-priority", "/target_server/name"] {
        assert!(err.contains(place), "{place}: {err}");
    }
    assert!(!err.contains("row ") && out.is_empty(), "{err}{out}");
}

/// Each number of a report, in words and as JSON, against the rows that were written.
#[test]
fn the_sums_of_a_check_add_up() {
    let desk = tempfile::tempdir().unwrap();
    // header, 6 valid, 3 invalid, 2 hidden, 2 comments, 1 empty: 15 rows
    let plan = workbook(&desk, |sheet| {
        sheet.write_row(0, 10, ["region_id", "project_name"]).unwrap();
        let mut at = 0;
        for n in 1..=11_u32 {
            at += 1;
            if n == 4 {
                // an empty row, and comments
                sheet.write(at + 1, 0, "# a comment").unwrap();
                sheet.write(at + 2, 0, "# another").unwrap();
                at += 3;
            }
            let mut cells = cells(n);
            cells.extend([format!("ap-southeast-{}", n % 2 + 1), "P".to_owned()]);
            cells[9] = format!("05825205120026802ff0c01721bc100{}", n % 2);
            if n >= 9 {
                // two findings each
                cells[1] = "FILE".into();
                cells[2] = "BSD".into();
            }
            if n == 2 || n == 3 {
                sheet.set_row_hidden(at).unwrap();
            }
            sheet.write_row(at, 0, cells).unwrap();
        }
    });
    for (more, hidden, words) in [
        (
            &[][..],
            ("undecided", 2),
            "11 requests, 6 valid, 3 invalid, 2 hidden, not decided; 7 findings\n",
        ),
        (&["--hidden", "skip"], ("hidden", 2), "9 requests, 6 valid, 3 invalid; 6 findings\n"),
        (
            &["--hidden", "include"],
            ("valid", 8),
            "11 requests, 8 valid, 3 invalid; 6 findings, 1 warning\n",
        ),
    ] {
        let (_, out, _) = check(&plan, more);
        assert!(out.contains(words), "{out}");
        let counted = out.lines().nth(1).unwrap().trim();
        let (all, parts) = counted.split_once(" rows in sheet \"Wave 1\": ").unwrap();
        let sum: u64 = parts
            .split(", ")
            .filter_map(|part| part.split_once(' '))
            .filter_map(|(count, _)| count.parse::<u64>().ok())
            .sum();
        assert_eq!((all, sum), ("15", 15), "{counted}");

        let (_, out, _) = check(&plan, &[more, &["--json"]].concat());
        let report = serde_json::from_str::<Value>(&out).unwrap()["report"].take();
        let count = |pointer: &str| report.pointer(pointer).unwrap().as_u64().unwrap();
        let (name, number) = hidden;
        let pointer = match name {
            "hidden" => "/other/hidden/count",
            "undecided" => "/undecided/count",
            _ => "/valid",
        };
        assert_eq!(count(pointer), number, "{more:?}");
        assert_eq!(count("/rows"), count("/valid") + count("/invalid") + count("/undecided/count"));
        let others =
            ["/other/header", "/other/comments/count", "/other/empty", "/other/hidden/count"];
        assert_eq!(count("/rows") + others.map(count).iter().sum::<u64>(), 15, "{more:?}");
        for counts in ["by_region", "by_type", "by_priority"] {
            let sum: u64 =
                report[counts].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            assert_eq!(sum, count("/valid"), "{more:?} {counts}");
        }
        for (all, groups) in [("findings", "finding_groups"), ("warnings", "warning_groups")] {
            let of_groups: u64 = report[groups]
                .as_array()
                .unwrap()
                .iter()
                .map(|group| group["rows"]["count"].as_u64().unwrap())
                .sum();
            assert_eq!(of_groups, report[all].as_array().unwrap().len() as u64, "{more:?} {all}");
        }
    }
}

/// Twelve regions are named, the others counted with their requests.
#[test]
fn counts_by_region_name_all_requests() {
    let desk = tempfile::tempdir().unwrap();
    let rows = (1..=40_u32).map(|n| {
        let mut cells = cells(n);
        cells[9] = format!("{:032x}", n % 20);
        cells
    });
    let mut text = std::fs::read_to_string(csv(&desk, rows)).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[0].push_str(",region_id,project_name");
    for (n, line) in (1..).zip(&mut lines[1..]) {
        let _ = write!(line, ",ap-southeast-{},P", n % 20);
    }
    text = lines.join("\n");
    let plan = desk.path().join("many.csv");
    std::fs::write(&plan, text).unwrap();
    let (code, out, err) = check(&plan, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let line = out.lines().find(|line| line.contains("by region")).unwrap();
    assert!(line.ends_with(", 8 others (16)"), "{line}");
    let sum: u64 = line
        .split('(')
        .skip(1)
        .map(|part| part.split(')').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 40, "{line}");
}
