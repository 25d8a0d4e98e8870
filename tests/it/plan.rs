//! Plans: reading every format, typing cells, what rows share, checking, templates and explanations.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use rust_xlsxwriter::{ExcelDateTime, Format as Style, Formula, Workbook, Worksheet};
use serde_json::{Value, json};
use sluicegate::contract::{self, Rules};
use sluicegate::plan::{
    self, Check, CheckReport, Finding, Format, Options, PlanError, Purpose, Row,
};
use tempfile::TempDir;

const ID: &str = "05825205120026802ff0c01721bc1000";

/// A directory of its own, so that tests run side by side.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn sheet(&self, name: &str, fill: impl FnOnce(&mut Worksheet)) -> PathBuf {
        let mut book = Workbook::new();
        fill(book.add_worksheet());
        self.file(name, book.save_to_buffer().unwrap())
    }
}

fn options() -> Options {
    let now = "2026-11-01T00:00:00Z".parse().unwrap();
    Options { zone: TimeZone::UTC, now, ..Options::default() }
}

fn rows(file: &Path, options: &Options) -> Vec<Row> {
    plan::open(file, options).unwrap().map(Result::unwrap).collect()
}

fn refusal(file: &Path, options: &Options) -> PlanError {
    match plan::open(file, options) {
        Err(error) => error,
        Ok(mut rows) => rows.find_map(Result::err).expect("the plan can be read"),
    }
}

fn check(file: &Path, options: &Options) -> CheckReport {
    plan::check(plan::open(file, options).unwrap()).unwrap()
}

fn body(row: &Row) -> Value {
    serde_json::from_slice(&row.body).unwrap()
}

fn findings(row: &Row) -> &[Finding] {
    row.read.as_ref().unwrap_err()
}

/// A request that the contract accepts, for this number.
fn request(n: usize) -> Value {
    json!({
        "name": format!("task-{n}"), "type": "MIGRATE_FILE", "os_type": "LINUX",
        "source_server": { "id": format!("{n:036}") },
        "target_server": { "name": format!("t-{n}"), "vm_id": format!("vm-{n}"), "disks": [{ "name": "Disk 0", "size": 42_949_672_960_u64 }] },
        "region_name": "R", "region_id": "ap-southeast-3", "project_name": "P", "project_id": ID, "priority": n % 3, "syncing": false,
    })
}

const HEADER: [&str; 14] = [
    "name",
    "type",
    "os_type",
    "source_server.id",
    "target_server.name",
    "target_server.vm_id",
    "target_server.disks.0.name",
    "target_server.disks.0.size",
    "region_name",
    "region_id",
    "project_name",
    "project_id",
    "priority",
    "syncing",
];

/// The cells of [`request`], in the order of [`HEADER`].
fn cells(n: usize) -> Vec<String> {
    let priority = (n % 3).to_string();
    let own = [
        format!("task-{n}"),
        "MIGRATE_FILE".into(),
        "LINUX".into(),
        format!("{n:036}"),
        format!("t-{n}"),
        format!("vm-{n}"),
    ];
    let rest = ["Disk 0", "42949672960", "R", "ap-southeast-3", "P", ID, &priority, "FALSE"];
    own.into_iter().chain(rest.map(str::to_owned)).collect()
}

fn csv(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = HEADER.join(",");
    for row in rows {
        text.push('\n');
        text.push_str(&row.join(","));
    }
    text
}

fn jsonl(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().flat_map(|row| [row.to_string(), "\n".to_owned()]).collect()
}

#[test]
fn the_same_plan_is_read_from_every_format() {
    let desk = Desk::new();
    let plain = csv((1..=3).map(cells));
    let quoted = |text: &str| {
        text.lines()
            .map(|line| format!("\"{}\"", line.replace(',', "\",\"")))
            .collect::<Vec<_>>()
            .join("\r\n")
    };
    let sheet = desk.sheet("plan.xlsx", |sheet| {
        sheet.write_row(0, 0, HEADER).unwrap();
        for n in 1..=3_u32 {
            for (column, text) in (0_u16..).zip(cells(n as usize)) {
                match HEADER[column as usize] {
                    // as Excel keeps what a person types: numbers as floats, FALSE as a boolean
                    "priority" | "target_server.disks.0.size" => {
                        sheet.write(n, column, text.parse::<f64>().unwrap())
                    }
                    "syncing" => sheet.write(n, column, false),
                    _ => sheet.write(n, column, text),
                }
                .unwrap();
            }
        }
    });
    let files = [
        desk.file("plan.csv", &plain),
        desk.file(
            "marked.csv",
            format!("\u{feff}{}", plain.replace(',', ";").replace('\n', "\r\n")),
        ),
        desk.file("tabs.tsv", plain.replace(',', "\t")),
        desk.file("quoted.csv", quoted(&plain)),
        sheet,
        desk.file("plan.jsonl", jsonl((1..=3).map(request))),
        desk.file(
            "plan.json",
            serde_json::to_string_pretty(&(1..=3).map(request).collect::<Vec<_>>()).unwrap(),
        ),
    ];
    for file in files {
        let rows = rows(&file, &options());
        let header = u64::from(!file.to_str().unwrap().contains("json"));
        let numbers: Vec<u64> = rows.iter().map(|row| row.number - header).collect();
        assert_eq!(numbers, [1, 2, 3], "{}", file.display());
        for (n, row) in (1..).zip(&rows) {
            assert_eq!(body(row), request(n), "{}", file.display());
            let view = row.read.as_ref().unwrap();
            assert_eq!(view.name, format!("task-{n}"));
            assert!(row.warnings.is_empty());
        }
    }
}

#[test]
fn a_json_row_that_needs_no_change_keeps_its_bytes() {
    let desk = Desk::new();
    let odd = r#"{ "name":"a" ,"type" : "MIGRATE_FILE","source_server":{"id":"\u0073"},"target_server":{"name":"","vm_id":"v"},  "region_name":"","region_id":"r","project_name":"","project_id":"p","os_type":"LINUX","speed_limit":1e2, "new":1.50 }"#;
    let row = &rows(&desk.file("a.jsonl", format!("  {odd} \r\n")), &options())[0];
    assert_eq!(row.body, odd.as_bytes());
    assert_eq!(row.read.as_ref().unwrap().source_server_id, "s");
    let warned: Vec<&str> = row.warnings.iter().map(|warning| warning.pointer.as_str()).collect();
    assert_eq!(warned, ["/new", "/target_server/disks"]);
    assert_eq!(
        rows(&desk.file("a.json", format!("[\n{odd}\n]")), &options())[0].body,
        odd.as_bytes()
    );

    // what is changed leaves the rest as it was
    let set = Options { set: vec!["priority=7".into()], ..options() };
    let row = &rows(&desk.file("b.jsonl", odd), &set)[0];
    let text = std::str::from_utf8(&row.body).unwrap();
    assert!(text.contains(r#""speed_limit":1e2,"new":1.50,"priority":7}"#), "{text}");
}

#[test]
fn an_empty_cell_is_absent_and_two_quotes_are_the_empty_text() {
    let desk = Desk::new();
    let mut empty = cells(1);
    (empty[5], empty[12]) = (String::new(), String::new());
    let mut blank = cells(2);
    (blank[5], blank[12]) = ("\"\"".into(), "\"\"".into());
    let mut typed = cells(3);
    typed[5] = "\"\"\"\"\"\"".into();
    let rows = rows(&desk.file("a.csv", csv([empty, blank, typed])), &options());
    assert_eq!(findings(&rows[0])[0].pointer, "/target_server/vm_id");
    assert_eq!(findings(&rows[0])[0].column.as_deref(), Some("F"));
    assert_eq!(
        findings(&rows[0])[0].advice.as_deref(),
        Some("fill the cell"),
        "each row has its own"
    );
    for row in &rows[1..] {
        assert_eq!(body(row)["target_server"]["vm_id"], "");
    }
    assert!(body(&rows[1]).get("priority").is_none(), "a number cannot be empty");
}

#[test]
fn excel_numbers_dates_and_errors_are_understood() {
    let desk = Desk::new();
    let date = Style::new().set_num_format("yyyy-mm-dd hh:mm");
    let file = desk.sheet("plan.xlsx", |sheet| {
        sheet.write_row(0, 0, HEADER).unwrap();
        sheet.write(0, 14, "x-sluice-not-before").unwrap();
        sheet.write(0, 15, "over_speed_threshold").unwrap();
        for row in 1..=4 {
            for (column, text) in (0..).zip(cells(row as usize)) {
                sheet.write(row, column, text).unwrap();
            }
        }
        let evening = ExcelDateTime::parse_from_str("2026-11-28T22:30:00").unwrap();
        sheet.write_with_format(1, 14, &evening, &date).unwrap();
        sheet.write(1, 15, 12.5).unwrap();
        sheet.write(1, 3, 12).unwrap();
        sheet.write_with_format(2, 0, &evening, &date).unwrap();
        sheet.write(3, 3, 1_234_567_890_123_456_f64).unwrap();
        sheet.write_formula(4, 12, Formula::new("=1/0").set_result("#DIV/0!")).unwrap();
        sheet.write(4, 20, "a value without a header").unwrap();
    });
    let rows = rows(&file, &options());
    assert_eq!(rows[0].settings.not_before.unwrap().to_string(), "2026-11-28T22:30:00Z");
    assert_eq!(
        (
            body(&rows[0])["over_speed_threshold"].clone(),
            body(&rows[0])["source_server"]["id"].clone()
        ),
        (json!(12.5), json!("12"))
    );
    let told: Vec<String> = rows[1..].iter().flat_map(findings).map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(
        told[0].starts_with(
            "Sheet1!A3, /name: found the date 2026-11-28 22:30:00 (stored as 46354.9375); allowed: text of 1 to 64"
        ),
        "{told:#?}"
    );
    assert!(told[0].ends_with("format the column as Text, then type the value again"));
    assert!(
        told[1].starts_with(
            "Sheet1!D4, /source_server/id: found 1.23457E+15 (the number 1234567890123456, of which 15"
        ),
        "{told:#?}"
    );
    assert!(told[2].starts_with("Sheet1!M5, /priority: found the error #DIV/0!"), "{told:#?}");
    assert!(told[3].starts_with("Sheet1!U5: found \"a value without a header\""), "{told:#?}");
}

/// Twenty-five different mistakes: (row of the sheet, column, what stands there).
pub(crate) const MISTAKES: [(u32, u16, &str); 25] = [
    (2, 0, "web 1"),
    (5, 1, "FILE"),
    (9, 2, "Linux"),
    (17, 3, ""),
    (33, 4, ""),
    (65, 5, ""),
    (100, 7, "40 GB"),
    (101, 7, "-1"),
    (102, 8, ""),
    (103, 9, ""),
    (104, 10, ""),
    (105, 11, ""),
    (200, 12, "high"),
    (201, 12, "65536"),
    (202, 12, "1.5"),
    (203, 13, "maybe"),
    (204, 0, "a.b"),
    (205, 0, ""),
    (206, 1, ""),
    (207, 12, "-1"),
    (300, 7, "4.29E+10"),
    (301, 13, "2"),
    (500, 3, "000000000000000000000000000000000400"),
    (600, 5, "vm-500"),
    (1001, 0, "naïve"),
];

/// A thousand rows in a workbook, with these mistakes.
pub(crate) fn thousand(mistakes: &[(u32, u16, &str)]) -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.write_row(0, 0, HEADER).unwrap();
    for row in 1..=1000_u32 {
        for (column, text) in (0_u16..).zip(cells(row as usize)) {
            let wrong = mistakes.iter().find(|(at, of, _)| (*at, *of) == (row + 1, column));
            let text = wrong.map_or(text.as_str(), |(_, _, text)| text);
            sheet.write(row, column, text).unwrap();
        }
    }
    book.save_to_buffer().unwrap()
}

/// The places of the mistakes: row, and column as a spreadsheet calls it.
pub(crate) fn places() -> Vec<(u64, String)> {
    let letter = |column: u16| char::from(b'A' + u8::try_from(column).unwrap()).to_string();
    MISTAKES.iter().map(|(row, column, _)| (u64::from(*row), letter(*column))).collect()
}

#[test]
fn twenty_five_mistakes_in_a_thousand_rows_are_all_named() {
    let desk = Desk::new();
    let report = check(&desk.file("plan.xlsx", thousand(&MISTAKES)), &options());
    assert_eq!((report.rows, report.valid, report.more_findings), (1000, 975, 0));
    let told: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.row, finding.column.clone().unwrap_or_default()))
        .collect();
    assert_eq!(told, places(), "{:#?}", report.findings);
}

#[test]
fn servers_that_come_twice_are_refused_and_both_rows_named() {
    let desk = Desk::new();
    let mut second = request(2);
    second["source_server"] = request(1)["source_server"].clone();
    let mut third = request(3);
    third["target_server"]["vm_id"] = json!("vm-1");
    // empty ids name no server
    let mut created = [request(4), request(5)];
    for row in &mut created {
        row["target_server"]["vm_id"] = json!("");
    }
    let [fourth, fifth] = created;
    let file = desk.file("a.jsonl", jsonl([request(1), second, third, fourth, fifth]));
    let report = check(&file, &options());
    let told: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "row 2, /source_server/id: found the source server of row 1; allowed: each source server once in a plan; remove one of the two rows",
            "row 3, /target_server/vm_id: found the target server of row 1; allowed: each target server once in a plan; remove one of the two rows",
        ]
    );
    assert_eq!((report.rows, report.valid, report.is_valid()), (5, 3, false));
}

#[test]
fn the_summary_counts_by_region_type_and_priority() {
    let desk = Desk::new();
    let mut urgent = request(4);
    urgent["x-sluice-priority"] = json!(500);
    urgent["region_id"] = json!("cn-north-4");
    urgent["project_id"] = json!("05825205120026802ff0c01721bc2000");
    urgent["type"] = json!("MIGRATE_BLOCK");
    urgent["unknown"] = json!(1);
    let report = check(
        &desk.file("a.jsonl", jsonl([request(1), request(2), request(3), urgent])),
        &options(),
    );
    assert!(report.is_valid());
    assert_eq!(
        report.by_region.into_iter().collect::<Vec<_>>(),
        [("ap-southeast-3".into(), 3), ("cn-north-4".into(), 1)]
    );
    assert_eq!(
        report.by_type.into_iter().collect::<Vec<_>>(),
        [("MIGRATE_BLOCK".into(), 1), ("MIGRATE_FILE".into(), 3)]
    );
    assert_eq!(
        report.by_priority.into_iter().collect::<Vec<_>>(),
        [(0, 1), (1, 1), (2, 1), (500, 1)]
    );
    assert_eq!(
        (report.warnings.len(), report.warnings[0].row, report.warnings[0].pointer.as_str()),
        (1, 4, "/unknown")
    );
}

#[test]
fn rows_win_over_defaults_and_set_wins_over_rows() {
    let desk = Desk::new();
    let defaults = [
        desk.file("d.json", r#"{"region_name":"D","priority":9,"target_server":{"name":"d","disks":[{"name":"Disk 0"}]},"x-sluice-priority":8,"x-sluice-again":true}"#),
        desk.file("d.toml", "region_name = \"D\"\npriority = 9\nx-sluice-priority = 8\nx-sluice-again = true\n[target_server]\nname = \"d\"\n[[target_server.disks]]\nname = \"Disk 0\"\n"),
    ];
    let header = "name,type,source_server.id,target_server.vm_id,region_name,region_id,project_name,project_id,x-sluice-priority";
    let plan = desk.file(
        "a.csv",
        format!("{header}\na,MIGRATE_FILE,s-1,v-1,R,r,P,p,\nb,MIGRATE_FILE,s-2,v-2,,r,P,p,7\n"),
    );
    for file in defaults {
        let set = vec![
            "syncing=TRUE".into(),
            "name=c".into(),
            "x-sluice-again=no".into(),
            "migration_ip=".into(),
        ];
        let rows = rows(&plan, &Options { defaults: Some(file), set, ..options() });
        for (row, region, priority) in [(&rows[0], "R", 8), (&rows[1], "D", 7)] {
            let body = body(row);
            assert_eq!(
                (body["region_name"].clone(), body["name"].clone()),
                (json!(region), json!("c"))
            );
            assert_eq!(
                (body["priority"].clone(), body["syncing"].clone()),
                (json!(9), json!(true))
            );
            assert_eq!(body["target_server"]["disks"][0]["name"], "Disk 0");
            assert_eq!(body["migration_ip"], "");
            assert!(body.get("x-sluice-priority").is_none());
            assert_eq!(
                (row.settings.priority, row.priority(), row.settings.again),
                (Some(priority), Some(priority), Some(false))
            );
        }
    }
}

#[test]
fn all_that_is_wrong_with_the_options_is_said_at_once() {
    let desk = Desk::new();
    let plan = desk.file("a.jsonl", jsonl([request(1)]));
    let set = [
        "prority=1",
        "target_server.disks[].name=x",
        "priority",
        "x-sluice-priority=99999",
        "source_server=1",
    ]
    .map(str::to_owned);
    let error = refusal(
        &plan,
        &Options { defaults: Some(desk.file("d.json", "[]")), set: set.into(), ..options() },
    );
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    let parts = [
        "d.json: must hold one JSON object",
        "did you mean priority?",
        "target_server.disks.0.name",
        "field=value",
        "0 to 65535",
        "source_server",
    ];
    assert_eq!(lines.len(), parts.len(), "{lines:#?}");
    for (line, part) in lines.iter().zip(parts) {
        assert!(line.contains(part), "{line} should say {part}");
    }
}

#[test]
fn settings_of_a_row_are_read_and_stay_out_of_the_body() {
    let desk = Desk::new();
    let mut row = request(1);
    row["x-sluice-not-before"] = json!("2026-11-28T22:00:00+08:00");
    row["x-sluice-deadline"] = json!("2026-11-29");
    row["x-sluice-again"] = json!(true);
    let mut wrong = request(2);
    wrong["x-sluice-deadline"] = json!("soon");
    wrong["x-sluice-prio"] = json!(1);
    wrong["name"] = json!("no good");
    let rows = rows(&desk.file("a.jsonl", jsonl([row, wrong])), &options());
    assert_eq!(body(&rows[0]), request(1));
    let settings = rows[0].settings;
    assert_eq!(settings.not_before.unwrap().to_string(), "2026-11-28T14:00:00Z");
    assert_eq!(
        (settings.deadline.unwrap().to_string().as_str(), settings.again),
        ("2026-11-29T00:00:00Z", Some(true))
    );
    let pointers: Vec<&str> =
        findings(&rows[1]).iter().map(|finding| finding.pointer.as_str()).collect();
    assert_eq!(pointers, ["x-sluice-deadline", "x-sluice-prio", "/name"]);
}

#[test]
fn arrays_are_filled_by_index_and_gaps_are_refused() {
    let desk = Desk::new();
    let header =
        "target_server.disks.1.name,target_server.disks.0.name,target_server.volume_groups";
    let json = r#""[{""name"":""vg""}]""#;
    let file = desk.file("a.csv", format!("{header}\nb,a,{json}\n,a,\nb,,\n"));
    let rows = rows(&file, &options());
    let disks = |row: &Row| body(row)["target_server"]["disks"].clone();
    assert_eq!(disks(&rows[0]), json!([{ "name": "a" }, { "name": "b" }]));
    assert_eq!(body(&rows[0])["target_server"]["volume_groups"], json!([{ "name": "vg" }]));
    assert_eq!(disks(&rows[1]), json!([{ "name": "a" }]));
    let gap = findings(&rows[2])
        .iter()
        .find(|finding| finding.found.contains("without the one before"))
        .unwrap();
    assert_eq!(
        (gap.column.as_deref(), gap.pointer.as_str()),
        (Some("A"), "/target_server/disks/1/name")
    );
}

#[test]
fn notes_and_blank_rows_are_left_out_and_rows_keep_their_numbers() {
    let desk = Desk::new();
    let text = csv([vec!["# a note".into()], vec![], cells(1), vec![",,".into()], cells(2)]);
    let numbers: Vec<u64> =
        rows(&desk.file("a.csv", text), &options()).iter().map(|row| row.number).collect();
    assert_eq!(numbers, [4, 6]);
    let text = format!("# a note\n\n{}", jsonl([request(1)]));
    assert_eq!(rows(&desk.file("a.jsonl", text), &options())[0].number, 3);
}

#[test]
fn rows_that_are_no_requests_are_findings_and_the_rest_is_read() {
    let desk = Desk::new();
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(2 << 20));
    let text = format!("[1]\n{{\"name\": \n{long}\n{}", jsonl([request(1)]));
    for extra in [vec![], vec!["priority=3".to_owned()]] {
        let rows = rows(&desk.file("a.jsonl", &text), &Options { set: extra, ..options() });
        assert_eq!(findings(&rows[0])[0].found, "an array");
        assert!(findings(&rows[1])[0].found.starts_with("broken JSON"));
        assert_eq!(findings(&rows[2])[0].found, "a row that is too long");
        assert!(rows[3].read.is_ok());
    }
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let desk = Desk::new();
    let missing = desk.0.path().join("missing.csv");
    let folder = desk.0.path().join("folder.csv");
    fs::create_dir(&folder).unwrap();
    for (file, part) in [
        (missing, "(os error 2); check the path, or begin a plan with `sluice plan template"),
        (folder, "is a directory; name the file in it"),
        (desk.file("empty.xlsx", ""), "an empty file (0 bytes); save the workbook again"),
        (desk.file("plan.xls", "x"), "text, not a workbook; name it .csv"),
        (desk.file("plan.doc", "x"), "a plan ends in .csv, .xlsx, .xls, .ods"),
        (desk.file("empty.csv", ""), "has no requests"),
        (desk.file("empty.jsonl", "\n# nothing\n"), "has no requests"),
        (desk.file("empty.json", "[]"), "has no requests"),
        (desk.file("header.csv", HEADER.join(",")), "has no requests"),
        (desk.file("text.xlsx", "name,type\n"), "text, not a workbook; name it .csv"),
        (
            desk.file("damaged.csv", b"name\nM\xc3\xbcller M\xc3\xbcller\nM\xfcller\n"),
            "row 3: bytes that are not UTF-8 in column A",
        ),
        (
            desk.file("quote.csv", "name\n\"a\n"),
            "row 2: the quote that opens column A is never closed",
        ),
        (desk.file("object.json", "{}"), "put the requests in [ ]"),
        (
            desk.file("headers.csv", "name,nmae,owner\n"),
            "row 1, column C: found the header \"owner\"",
        ),
    ] {
        let error = refusal(&file, &options()).to_string();
        assert!(error.contains(part), "{error}\nshould say: {part}");
        assert!(
            error.contains(file.file_name().unwrap().to_str().unwrap()),
            "{error} should name the file"
        );
    }
    let book = desk.sheet("book.xlsx", |sheet| {
        sheet.set_name("Servers").unwrap().write(0, 0, "name").unwrap();
    });
    let error = refusal(&book, &Options { sheet: Some("plan".into()), ..options() }).to_string();
    assert!(error.contains("no sheet \"plan\"; its sheets are: \"Servers\""), "{error}");
}

#[test]
fn a_template_names_every_field_and_its_example_is_a_valid_plan() {
    let desk = Desk::new();
    let strict = Options { rules: Rules { strict: true, ..Rules::default() }, ..options() };
    for (name, format) in
        [("t.csv", Format::Csv), ("t.xlsx", Format::Xlsx), ("t.jsonl", Format::Jsonl)]
    {
        let file = desk.file(name, plan::template(format, None).unwrap());
        assert!(
            matches!(refusal(&file, &strict), PlanError::Empty { .. }),
            "{name} asks for nothing yet"
        );
    }
    let text = String::from_utf8(plan::template(Format::Csv, None).unwrap()).unwrap();
    let header = text.lines().next().unwrap();
    for field in contract::fields() {
        assert!(
            header.split(',').any(|name| name == field.path.replace("[]", ".0")),
            "{} is missing",
            field.path
        );
        assert!(text.contains(&field.rule.allowed().replace('"', "\"\"")), "{}", field.path);
    }
    let lines = String::from_utf8(plan::template(Format::Jsonl, None).unwrap()).unwrap();
    let example = lines.lines().last().unwrap().trim_start_matches("# ").to_owned();
    let files = [
        desk.file("used.csv", text.replace("# example (empty this cell to use the row)", "")),
        desk.file("used.jsonl", &example),
        desk.file("used.json", plan::template(Format::Json, None).unwrap()),
    ];
    for file in files {
        let report = check(&file, &strict);
        assert!(report.is_valid() && report.warnings.is_empty(), "{report:#?}");
        assert_eq!(rows(&file, &strict)[0].body, example.as_bytes(), "{}", file.display());
    }
}

/// About ten columns, filled as a person fills them, are a plan without a word about it: a workbook, CSV and JSON lines.
#[test]
fn a_short_template_is_a_plan_once_it_is_filled() {
    let desk = Desk::new();
    let strict = |purpose| Options {
        // the page wants the target server of a template, too
        rules: Rules { strict: purpose == Purpose::Existing, ..Rules::default() },
        ..options()
    };
    for (purpose, columns, own) in [
        (Purpose::Existing, 14, &["target_server.vm_id", "target_server.disks.0.disk_id"][..]),
        (Purpose::New, 10, &["vm_template_id", "x-sluice-not-before"][..]),
    ] {
        let options = strict(purpose);
        let text = plan::template(Format::Csv, Some(purpose)).unwrap();
        let text = String::from_utf8(text).unwrap();
        let table: Vec<Vec<String>> = csv_reader(&text);
        let header = &table[0];
        assert_eq!(header.len(), 1 + columns, "{header:?}");
        assert!(own.iter().all(|name| header.iter().any(|column| column == name)), "{header:?}");
        let example = table.last().unwrap();

        // the same three rows in each format, made of the example
        let filled = |n: usize| -> Vec<String> {
            let cell = |(name, value): (&String, &String)| match name.as_str() {
                "name"
                | "target_server.name"
                | "target_server.vm_id"
                | "source_server.id"
                | "target_server.disks.0.disk_id" => format!("{value}-{n}"),
                "#" => String::new(),
                "x-sluice-not-before" => "2026-11-28 22:00".to_owned(),
                _ => value.clone(),
            };
            header.iter().zip(example).map(cell).collect()
        };
        let lines: String = (1..=3).flat_map(|n| [filled(n).join(","), "\n".to_owned()]).collect();
        let mut files = vec![desk.file("short.csv", text + &lines)];
        files.push(desk.sheet("short.xlsx", |sheet| {
            // as the template's own sheet has it, which stays a template: comments are no requests
            for (row, cells) in (0..).zip(table.iter().cloned().chain((1..=3).map(filled))) {
                for (column, text) in (0..).zip(cells) {
                    match header[column as usize].as_str() {
                        "target_server.disks.0.size" if row > 4 => {
                            sheet.write(row, column, text.parse::<f64>().unwrap())
                        }
                        _ => sheet.write(row, column, text),
                    }
                    .unwrap();
                }
            }
        }));
        let empty = desk.file("empty.xlsx", plan::template(Format::Xlsx, Some(purpose)).unwrap());
        assert!(matches!(refusal(&empty, &options), PlanError::Empty { .. }));
        let jsonl = plan::template(Format::Jsonl, Some(purpose)).unwrap();
        let jsonl = String::from_utf8(jsonl).unwrap();
        let one: Value =
            serde_json::from_str(jsonl.lines().last().unwrap().trim_start_matches("# ")).unwrap();
        let rows_of = |n: usize| {
            let mut row = one.clone();
            for pointer in [
                "/name",
                "/source_server/id",
                "/target_server/name",
                "/target_server/vm_id",
                "/target_server/disks/0/disk_id",
            ] {
                if let Some(place) = row.pointer_mut(pointer) {
                    *place = format!("{}-{n}", place.as_str().unwrap()).into();
                }
            }
            row["x-sluice-not-before"] = json!("2026-11-28 22:00");
            row
        };
        files.push(desk.file("short.jsonl", jsonl + &self::jsonl((1..=3).map(rows_of))));
        let mut bodies: Vec<Vec<Value>> = Vec::new();
        for file in &files {
            let report = check(file, &options);
            assert!(report.is_valid() && report.warnings.is_empty(), "{file:?} {report:#?}");
            assert_eq!(report.valid, 3, "{file:?}");
            bodies.push(rows(file, &options).iter().map(body).collect());
        }
        // a table has the empty object that every request has; JSON says it, or leaves it to the template
        for row in &mut bodies[2] {
            if row.get("target_server").is_none() {
                row["target_server"] = json!({});
            }
        }
        assert!(bodies.iter().all(|of| *of == bodies[0]), "{bodies:#?}");
    }
}

/// The cells of a CSV text.
fn csv_reader(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// A value that no row says is blamed on no column.
#[test]
fn a_wrong_set_is_told_as_that() {
    let desk = Desk::new();
    let good = desk.file("good.csv", csv([cells(1), cells(2)]));
    let good = good.to_str().unwrap();
    for (set, told) in [
        (
            "type=FILE",
            "--set type=FILE: found \"FILE\"; allowed: one of MIGRATE_FILE, MIGRATE_BLOCK",
        ),
        (
            "priority=70000",
            "--set priority=70000: found 70000; allowed: a whole number from 0 to 65535",
        ),
        (
            "speed_limit=fast",
            "--set speed_limit=fast: found the text \"fast\"; allowed: a whole number",
        ),
    ] {
        let (code, _, err) = sluice(&["check", good, "--set", set]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(told) && !err.contains("column"), "{err}");
    }
    // what depends on what else stands in the row is seen there, and still is no column's fault
    let (code, _, err) = sluice(&["check", good, "--set", "migration_ip=fe80::1"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(
        err.starts_with(
            "in all 2 rows, /migration_ip: found \"fe80::1\"; allowed: an IPv4 address"
        ) && err.contains("; --set gives it to all rows"),
        "{err}"
    );
}

#[test]
fn fields_are_explained_by_any_of_their_names() {
    let text = plan::explain("target_server.disks[].size").unwrap();
    for part in [
        "The size in bytes",
        "0 to 9223372036854775807",
        "required: no",
        "target_server.disks.0.size",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(plan::explain("priority").unwrap().contains("default: 1"));
    assert!(plan::explain("source_server").unwrap().contains("id (required): text of at most 255"));
    assert!(plan::explain("x-sluice-deadline").unwrap().contains("expired"));
    let error = plan::explain("prioritty").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"prioritty\" is no field of the contract; did you mean priority?"
    );
}

#[test]
fn rows_set_aside_can_be_fixed_and_read_again() {
    let desk = Desk::new();
    let mut bad = request(1);
    bad["type"] = json!("FILE");
    bad["x-sluice-priority"] = json!(5);
    let mut copy = request(2);
    copy["source_server"] = bad["source_server"].clone();
    let mut check = Check::new();
    let mut aside = String::new();
    for row in plan::open(&desk.file("a.jsonl", jsonl([bad, copy])), &options()).unwrap() {
        let mut row = row.unwrap();
        check.add(&mut row);
        assert!(row.read.is_err());
        aside.push_str(&row.set_aside());
    }
    assert_eq!(check.finish(plan::Ending::default()).findings.len(), 2);
    assert!(aside.starts_with("# row 1, /type: found \"FILE\""), "{aside}");
    let rows =
        rows(&desk.file("b.jsonl", aside.replace("\"FILE\"", "\"MIGRATE_FILE\"")), &options());
    assert_eq!(body(&rows[0]), request(1));
    assert_eq!(rows[0].settings.priority, Some(5));
}

/// The most memory that this process has had, in KiB.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_thousand_rows_stream_in_bounded_memory() {
    let desk = Desk::new();
    let files = [
        desk.file(
            "a.csv",
            (0..100_000).fold("source_server.id,priority".to_owned(), |text, n| {
                text + &format!("\ns-{n},{}", n % 1000)
            }),
        ),
        desk.sheet("a.xlsx", |sheet| {
            sheet.write_row(0, 0, ["source_server.id", "priority"]).unwrap();
            for row in 1..=100_000 {
                sheet.write(row, 0, format!("s-{row}")).unwrap();
                sheet.write(row, 1, row % 1000).unwrap();
            }
        }),
    ];
    let options =
        Options { defaults: Some(desk.file("rest.json", request(0).to_string())), ..options() };
    let before = peak();
    for file in files {
        let rows = plan::open(&file, &options).unwrap().map(Result::unwrap);
        assert_eq!(rows.filter(|row| row.read.is_ok()).count(), 100_000);
    }
    // the files were written by this process, so the peak before is that of writing them
    assert!(peak() <= before + 32 * 1024, "{} KiB, {before} KiB before", peak());
}

fn sluice(args: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .env_clear()
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn sluice_check_tells_people_and_programs_all_of_it() {
    let desk = Desk::new();
    let good = desk.file("good.csv", csv((1..=600).map(cells)));
    let (code, out, err) =
        sluice(&["check", good.to_str().unwrap(), "-o", "limits.rates=2/s", "--waiting", "100"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for part in [
        "600 requests, 600 valid\n",
        "by region: ap-southeast-3 (600)",
        "by priority: 0 (200), 1 (200), 2 (200)",
        "behind 100 that wait already; bound by limits.rates (2/s)",
    ] {
        assert!(out.contains(part), "{out} should say {part}");
    }

    let mut wrong = cells(1);
    wrong[1] = "FILE".into();
    let bad = desk.file("bad.csv", csv([wrong, cells(2)]));
    let (code, out, err) = sluice(&["check", bad.to_str().unwrap()]);
    assert_eq!(code, Some(3));
    assert_eq!(
        err,
        "row 2, column B, /type: found \"FILE\"; allowed: one of MIGRATE_FILE, MIGRATE_BLOCK\n"
    );
    assert!(out.contains("2 requests, 1 valid, 1 invalid; 1 finding\n"), "{out}");
    let (code, out, _) =
        sluice(&["check", bad.to_str().unwrap(), "--json", "--set", "type=MIGRATE_BLOCK"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["report"]["valid"].clone()), (Some(0), json!(2)));
    assert!(json["forecast"]["seconds"].as_f64().unwrap() > 0.0, "{json:#}");

    let (code, _, err) = sluice(&["check", "nowhere.csv"]);
    assert_eq!(code, Some(2));
    assert!(err.starts_with("sluice: nowhere.csv: cannot be read: No such file"), "{err}");
    assert_eq!(sluice(&["check", desk.file("empty.csv", "").to_str().unwrap()]).0, Some(3));
    assert!(
        sluice(&["check", "--explain", "priority"]).1.contains("a whole number from 0 to 65535")
    );
    assert_eq!(sluice(&["check", "--explain", "priorities"]).0, Some(2));
}

#[test]
fn sluice_plan_template_writes_a_file_once() {
    let desk = Desk::new();
    let path = desk.0.path().join("plan.xlsx");
    // The ending says what it is to be.
    let args = ["plan", "template", "--output", path.to_str().unwrap()];
    assert_eq!(sluice(&args).0, Some(0));
    assert!(fs::read(&path).unwrap().starts_with(b"PK"));
    let (code, _, err) = sluice(&args);
    assert!(code == Some(2) && err.contains("plan.xlsx is there already"), "{err}");
    assert!(err.contains("choose another name, or replace it with --overwrite"), "{err}");
    fs::write(&path, "mine").unwrap();
    assert_eq!(sluice(&args).0, Some(2));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(sluice(&[&args[..], &["--overwrite"]].concat()).0, Some(0));
    assert!(fs::read(&path).unwrap().starts_with(b"PK"));
    let pdf = sluice(&["plan", "template", "--output", "plan.pdf"]);
    assert!(pdf.0 == Some(2) && pdf.2.contains("a plan ends in .csv, .xlsx"), "{}", pdf.2);
    assert!(sluice(&["plan", "template"]).1.starts_with("\u{feff}#,name,type,"));
}
