//! Files that people made and that were once sent as something else than they say; each with its right values.

use serde_json::json;
use sluicegate::plan::{Hidden, Options};

use super::{body, check, data, findings, hiding, options, refusal, rows, says, sluice, warnings};

#[test]
fn a_formula_with_the_result_zero_of_a_writer_that_does_not_calculate_is_refused() {
    let report = check(&data("02-formula-with-result-zero/plan.xlsx"), &options());
    assert_eq!((report.rows, report.valid), (1, 0));
    let told = findings(&report);
    assert_eq!(told.len(), 2, "{told:#?}");
    says(
        &told,
        &[
            "Sheet1!J2, x-sluice-not-before: found a formula with the result 0",
            "calculate, and save",
        ],
    );
    says(&told, &["Sheet1!K2, /priority: found a formula with the result 0"]);
}

#[test]
fn a_deadline_that_is_past_is_said_and_stays_a_warning() {
    let report = check(&data("04-deadline-long-past/plan.csv"), &options());
    assert_eq!(report.valid, 1);
    says(
        &warnings(&report),
        &["row 2, column J, x-sluice-deadline", "which is past", "would end as expired"],
    );
}

#[test]
fn a_ticket_number_in_the_notes_column_leaves_no_row_out() {
    let report = check(&data("06-ticket-number-in-the-notes-column/plan.csv"), &options());
    assert_eq!((report.rows, report.valid, report.other.comments.count), (3, 3, 0));
}

#[test]
fn a_text_in_the_way_of_a_formula_is_the_text() {
    let file = data("07-equals-quote/plan.csv");
    let row = &rows(&file, &options())[0];
    let body = body(row);
    assert_eq!(body["source_server"]["id"], "000012");
    assert_eq!(body["project_id"], "05825205120026800000000000001000");
    says(
        &warnings(&check(&file, &options())),
        &["column C", "=\"...\" around a text", "\"000012\" is sent"],
    );
}

#[test]
fn a_leading_apostrophe_is_no_part_of_an_id() {
    let file = data("08-leading-apostrophe/plan.csv");
    assert_eq!(body(&rows(&file, &options())[0])["project_id"], "05825205120026800000000000001000");
    says(
        &warnings(&check(&file, &options())),
        &["row 2, column I, /project_id", "an apostrophe in front of a text"],
    );
}

#[test]
fn one_uuid_in_two_cases_is_one_server() {
    let report = check(&data("11-case-of-ids/plan.csv"), &options());
    assert_eq!((report.rows, report.valid), (2, 1));
    says(
        &findings(&report),
        &["row 3, column C", "the source server of row 2, there written \"9a01cb97-"],
    );
}

#[test]
fn an_escape_sequence_in_a_header_reaches_no_terminal() {
    let told = refusal(&data("12-escape-sequence-in-a-header/plan.csv"), &options());
    assert!(told.chars().all(|char| char == '\n' || !char.is_control()), "{told:?}");
    assert!(told.contains("rename it to \"#owner\\u{1b}[2J"), "{told}");
    let longest = told.lines().map(str::len).max();
    assert!(longest < Some(300), "{told}");
}

#[test]
fn zeros_that_only_a_number_format_shows_are_a_finding() {
    let report = check(&data("15-zeros-shown-by-a-number-format/plan.xlsx"), &options());
    let told = findings(&report);
    says(
        &told,
        &[
            "Sheet!C2, /source_server/id: found 000012 (stored as the number 12)",
            "format the column as Text",
        ],
    );
    says(
        &told,
        &["Sheet!I2, /project_id: found 00582520512002 (stored as the number 582520512002)"],
    );
    assert_eq!(told.len(), 2, "{told:#?}");
}

#[test]
fn hidden_rows_are_sent_or_left_out_only_as_somebody_says() {
    let file = data("16-filtered-and-hidden-rows/plan.xlsx");
    let report = check(&file, &options());
    assert_eq!(
        (report.rows, report.valid, report.undecided.count, report.decided),
        (3, 2, 1, false)
    );
    says(
        &findings(&report),
        &["Sheet!3:3: found a hidden row (3); allowed: --hidden skip or --hidden include"],
    );
    let skipped = check(&file, &hiding(Hidden::Skip));
    assert!(skipped.is_valid());
    assert_eq!(
        (skipped.rows, skipped.valid, skipped.other.hidden.to_string()),
        (2, 2, "3".to_owned())
    );
    let included = check(&file, &hiding(Hidden::Include));
    assert_eq!((included.is_valid(), included.valid, included.included.count), (true, 3, 1));
    says(&warnings(&included), &["1 hidden (3)", "they are sent"]);
}

#[test]
fn the_visible_sheet_with_the_headers_is_the_plan() {
    for (file, sheet) in
        [("hidden-lists", "Sheet"), ("readme-first", "Wave 1"), ("chart-first", "Sheet")]
    {
        let file = data(&format!("17-first-sheet-is-hidden-or-no-plan/{file}.xlsx"));
        let report = check(&file, &options());
        assert!(report.is_valid(), "{report:#?}");
        assert_eq!(report.sheet.as_deref(), Some(sheet));
    }
    let chart = data("17-first-sheet-is-hidden-or-no-plan/chart-first.xlsx");
    let told = refusal(&chart, &Options { sheet: Some("Chart".into()), ..options() });
    assert!(told.contains("is a chart") && told.contains("\"Sheet\""), "{told}");
}

#[test]
fn a_merged_cell_is_called_so() {
    let report = check(&data("18-merged-cells/plan.xlsx"), &options());
    let told = findings(&report);
    assert_eq!((report.valid, told.len()), (1, 2), "{told:#?}");
    for row in [3, 4] {
        let place = format!("Sheet!F{row}, /region_name: found a part of the merged cell F2:F4");
        says(&told, &[&place, "unmerge it, and fill each of its cells"]);
    }
}

#[test]
fn a_file_is_read_as_what_it_is_or_told_what_that_is() {
    let file = |name: &str| data("19-other-files-named-xlsx").join(name);
    let report = check(&file("ods.xlsx"), &options());
    assert_eq!((report.valid, report.sheet.as_deref()), (1, Some("a")), "{report:#?}");
    assert_eq!(body(&rows(&file("ods.xlsx"), &options())[0])["auto_start"], json!(false));
    // it has one header and no row
    assert!(refusal(&file("excel97.xlsx"), &options()).contains("has no requests"));
    for (name, what) in [
        ("csv.xlsx", "text, not a workbook; name it .csv"),
        ("webpage.xlsx", "a web page; open it in a spreadsheet and save it as .xlsx"),
        ("~$plan.xlsx", "the lock file that a spreadsheet keeps beside an open workbook"),
    ] {
        let told = refusal(&file(name), &options());
        assert!(told.contains(what), "{told}");
    }
}

#[test]
fn utf_16_without_a_mark_is_read() {
    let report = check(&data("20-utf-16-without-a-mark/plan.csv"), &options());
    assert!(report.is_valid(), "{report:#?}");
    let row = &rows(&data("20-utf-16-without-a-mark/plan.csv"), &options())[0];
    assert_eq!(body(row)["project_id"], "05825205120026802ff0c01721bc1000");
}

#[test]
fn an_empty_id_names_nothing() {
    let report = check(&data("21-empty-ids/plan.csv"), &options());
    assert_eq!((report.rows, report.valid), (2, 0));
    let told = findings(&report);
    for row in [2, 3] {
        says(&told, &[&format!("row {row}, column C, /source_server/id: found an empty id")]);
        says(&told, &[&format!("row {row}, column I, /project_id: found an empty id")]);
    }
}

#[test]
fn a_body_inside_body_is_called_so_once() {
    let report = check(&data("22-hcloud-json-input/create-task.jsonl"), &options());
    let told = findings(&report);
    assert_eq!(told.len(), 1, "{told:#?}");
    says(
        &told,
        &["row 1, /body: found the request inside \"body\", as for KooCLI", "take what is inside"],
    );
    let told = refusal(&data("22-hcloud-json-input/create-task.json"), &options());
    assert!(told.contains("with the request inside \"body\""), "{told}");
}

#[test]
fn what_the_api_is_known_to_refuse_is_warned_of() {
    let report = check(&data("23-what-the-api-is-known-to-refuse/plan.jsonl"), &options());
    assert_eq!((report.rows, report.valid), (5, 5));
    let told = warnings(&report);
    // the last two: rows 3 and 4 have the disk of row 1
    assert_eq!(told.len(), 7, "{told:#?}");
    for (row, parts) in [
        (3, ["/target_server/disks/0/disk_id", "a disk of row 1"]),
        (4, ["/target_server/disks/0/disk_id", "a disk of row 1"]),
        (1, ["/type", "SMS.6610"]),
        (2, ["/target_server/disks", "SMS.6033"]),
        (3, ["/target_server/disks/0/size", "40 GB are 42949672960"]),
        (4, ["/os_type", "SMS.6601"]),
        (5, ["/target_server/vm_id", "neither a target server nor a template"]),
    ] {
        says(&told, &[&format!("row {row}, "), parts[0], parts[1]]);
    }
}

#[test]
fn a_plan_comes_through_a_pipe_if_it_says_what_it_is() {
    let file = data("24-plan-from-a-pipe/plan.csv");
    for name in ["-", "/dev/stdin"] {
        let told = sluice(&["check", name, "--format", "csv"], Some(&file));
        let (out, err) =
            (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert_eq!(told.status.code(), Some(0), "{out}{err}");
        assert!(out.contains("1 requests, 1 valid"), "{out}");
        let told = sluice(&["check", name], Some(&file));
        let err = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.code() == Some(2) && err.contains("add --format csv"), "{err}");
    }
    let book = data("16-filtered-and-hidden-rows/plan.xlsx");
    let told = sluice(&["check", "-", "--format", "xlsx", "--hidden", "skip"], Some(&book));
    assert!(String::from_utf8_lossy(&told.stdout).contains("2 requests, 2 valid"), "{told:?}");
}

#[test]
fn what_a_shell_hands_over_by_number_leaves_nothing_in_dev() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lane.toml");
    std::fs::write(&config, "[api]\nendpoint = \"http://127.0.0.1:1\"\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    let plan = std::fs::File::open(data("24-plan-from-a-pipe/plan.csv")).unwrap();
    command.env_clear().current_dir(dir.path()).stdin(plan);
    let told = command
        .args(["submit", "/dev/stdin", "--format", "csv", "-c"])
        .arg(&config)
        .output()
        .unwrap();
    assert_ne!(told.status.code(), Some(0), "{told:?}");
    assert!(!std::path::Path::new("/dev/stdin.results.jsonl").exists());
}

#[test]
fn a_percentage_is_said_as_it_is_seen_and_stored() {
    let report = check(&data("25-percent-cell/plan.xlsx"), &options());
    let told = findings(&report);
    assert_eq!(told.len(), 1, "{told:#?}");
    says(&told, &["Sheet!J2, /over_speed_threshold: found 50% (stored as 0.5)", "and write 50"]);
}
