//! `enqueue --skip-invalid FILE` without a broker: what stands in the file, that it is a plan again once it is fixed, and that
//! no file comes of what goes wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rust_xlsxwriter::Workbook;
use serde_json::{Value, json};
use sluicegate::plan::{self, Aside, Finding, Format, Options, Survey};
use tempfile::TempDir;

const HEADER: [&str; 12] = [
    "name",
    "type",
    "os_type",
    "source_server.id",
    "target_server.name",
    "target_server.vm_id",
    "target_server.disks.0.size",
    "region_name",
    "region_id",
    "project_name",
    "project_id",
    "# owner",
];

/// Rows 2 and 4 (of a table: 3 and 5) have a type that there is not.
fn cells(n: u32) -> Vec<String> {
    let kind = if n.is_multiple_of(2) { "FILE" } else { "MIGRATE_FILE" };
    let own = [
        format!("web-{n}"),
        kind.to_owned(),
        "LINUX".to_owned(),
        format!("{n:036}"),
        format!("web-{n}-new"),
        format!("vm-{n}"),
        "42949672960".to_owned(),
    ];
    let rest = ["Singapore; north", "ap-southeast-3", "P", "05825205120026802ff0c01721bc1000"];
    own.into_iter().chain(rest.map(str::to_owned)).chain([format!("owner {n}")]).collect()
}

fn request(n: u32) -> Value {
    let cells = cells(n);
    json!({
        "name": cells[0], "type": cells[1], "os_type": cells[2], "source_server": { "id": cells[3] },
        "target_server": { "name": cells[4], "vm_id": cells[5], "disks": [{ "size": 42_949_672_960_u64 }] },
        "region_name": cells[7], "region_id": cells[8], "project_name": cells[9], "project_id": cells[10],
        "x-sluice-priority": n,
    })
}

fn csv(separator: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    writer.write_record(HEADER).unwrap();
    (1..=5).for_each(|n| writer.write_record(cells(n)).unwrap());
    writer.into_inner().unwrap()
}

fn workbook() -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.write(0, 0, "# a comment before the header").unwrap();
    sheet.write_row(1, 0, HEADER).unwrap();
    (1..=5).for_each(|n| {
        sheet.write_row(n + 1, 0, cells(n)).unwrap();
        sheet.write(n + 1, 6, 42_949_672_960_u64).unwrap();
    });
    book.save_to_buffer().unwrap()
}

fn jsonl() -> String {
    (1..=5).flat_map(|n| [request(n).to_string(), "\n".to_owned()]).collect()
}

/// Each plan, and the name of the file for its invalid rows.
fn plans(desk: &TempDir) -> Vec<(PathBuf, PathBuf)> {
    let array = json!((1..=5).map(request).collect::<Vec<_>>()).to_string();
    let files: [(&str, Vec<u8>); 6] = [
        ("comma.csv", csv(b',')),
        ("semicolon.csv", csv(b';')),
        ("tabs.tsv", csv(b'\t')),
        ("book.xlsx", workbook()),
        ("lines.jsonl", jsonl().into_bytes()),
        ("array.json", array.into_bytes()),
    ];
    let write = |(name, bytes): (&str, Vec<u8>)| {
        let path = desk.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (path, desk.path().join(format!("bad-{name}")))
    };
    files.into_iter().map(write).collect()
}

fn survey(plan: &Path, to: &Path) -> Survey {
    let options = Options::default();
    let format = plan::format_of(plan).unwrap();
    let mut out = Vec::new();
    let rows = plan::open(plan, &options).unwrap();
    let mut lines = Aside::new(&mut out, format, to).unwrap();
    let survey = plan::survey(rows, lines.as_mut()).unwrap();
    if matches!(format, Format::Csv | Format::Xlsx) {
        plan::set_aside(plan, &options, &survey.invalid, &survey.report, &mut out).unwrap();
    }
    std::fs::write(to, out).unwrap();
    survey
}

#[test]
fn invalid_rows_are_set_aside_in_the_plans_own_format_and_read_again() {
    let desk = tempfile::tempdir().unwrap();
    for (plan, to) in plans(&desk) {
        let shown = plan.display();
        let first = survey(&plan, &to);
        assert_eq!((first.report.valid, first.report.invalid), (3, 2), "{shown}");
        // what is wrong is still wrong, and no other row is there
        let again = plan::check(plan::open(&to, &Options::default()).unwrap()).unwrap();
        assert_eq!((again.valid, again.invalid), (0, 2), "{shown}: {again:#?}");
        let told: Vec<_> = again.findings.iter().map(Finding::said).collect();
        assert_eq!(told, first.report.findings.iter().map(Finding::said).collect::<Vec<_>>());
        // fixed, they are the requests that were meant
        let set = vec!["type=MIGRATE_BLOCK".to_owned()];
        let fixed = plan::open(&to, &Options { set, ..Options::default() }).unwrap();
        let names: Vec<_> = fixed.map(|row| row.unwrap().read.unwrap().name).collect();
        assert_eq!(names, ["web-2", "web-4"], "{shown}");
    }
    let text = |name: &str| std::fs::read_to_string(desk.path().join(name)).unwrap();
    let comma = text("bad-comma.csv");
    assert!(comma.lines().next().unwrap().ends_with(",# owner,# what is wrong"), "{comma}");
    assert!(comma.contains(",owner 2,"), "notes are kept: {comma}");
    assert!(comma.contains("/type: found \"\"FILE\"\"; allowed: one of"), "{comma}");
    assert!(text("bad-semicolon.csv").starts_with("\u{feff}name;type;os_type;"));
    let lines = text("bad-lines.jsonl");
    assert!(
        lines.starts_with("# row 2, /type: found \"FILE\"")
            && lines.contains("\"x-sluice-priority\":4")
    );
    assert_eq!(
        serde_json::from_str::<Value>(&text("bad-array.json")).unwrap().as_array().unwrap().len(),
        2
    );
}

fn enqueue(desk: &TempDir, args: &[&str]) -> Output {
    let nobody = ["-o", "broker.url=amqp://guest:guest@127.0.0.1:1/"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().current_dir(desk).arg("enqueue").args(args).args(nobody).output().unwrap()
}

fn files(desk: &TempDir) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(desk)
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// A name that is no plan's, a plan that is missing, a broker that is down: every file is as it was, and no other one is there.
#[test]
fn what_goes_wrong_empties_nothing_and_leaves_no_file() {
    let desk = tempfile::tempdir().unwrap();
    for (plan, to) in plans(&desk) {
        let before = files(&desk);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let (plan, to) = (name(&plan), name(&to));
        for (args, code, told) in [
            (vec![&*plan, "--skip-invalid", &*plan, "--overwrite"], 2, "is the plan itself"),
            (vec![&*plan, "--skip-invalid", &*plan], 2, "is the plan itself"),
            (vec!["nowhere.csv", "--skip-invalid", &*to], 2, "nowhere.csv: cannot be read"),
            (
                vec![&*plan, "--skip-invalid", "bad.pdf"],
                2,
                "as the plan is: give it a name that ends in .",
            ),
            (vec![&*plan, "--skip-invalid", &*to], 4, "the broker is unreachable"),
        ] {
            let output = enqueue(&desk, &args);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
            assert!(said.contains(told), "{args:?}: {said}");
            assert!(files(&desk) == before, "{args:?}: {:?}", files(&desk));
        }
        // a file that is there is left alone, unless that is said; even then it stays while nothing has been sent
        std::fs::write(desk.path().join(&to), "mine").unwrap();
        let before = files(&desk);
        let output = enqueue(&desk, &[&*plan, "--skip-invalid", &*to]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("--overwrite"), "{said}");
        let output = enqueue(&desk, &[&*plan, "--skip-invalid", &*to, "--overwrite"]);
        assert_eq!(output.status.code(), Some(4));
        assert!(files(&desk) == before);
        std::fs::remove_file(desk.path().join(&to)).unwrap();
    }
}

/// Its brother: man pages that are there are left alone.
#[test]
fn man_pages_are_written_over_only_if_that_is_said() {
    let desk = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output =
            command.current_dir(&desk).args(["completions", "--man", "man1"]).args(more).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&[]).0, Some(0));
    let page = desk.path().join("man1/sluice-check.1");
    let whole = std::fs::read(&page).unwrap();
    std::fs::write(&page, "mine").unwrap();
    let (code, said) = run(&[]);
    assert!(code == Some(2) && said.contains("--overwrite"), "{said}");
    assert_eq!(std::fs::read(&page).unwrap(), b"mine");
    assert_eq!(run(&["--overwrite"]).0, Some(0));
    assert_eq!(std::fs::read(&page).unwrap(), whole);
}
