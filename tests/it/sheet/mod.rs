//! What stands in the sheet is what is sent: spreadsheets as people really save them, and what two foreign writers make.

mod cases;
mod foreign;
mod marked;
mod odd;
mod shown;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sluicegate::plan::{self, CheckReport, Hidden, Options, Row};

/// A small file of the repository.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sheet").join(name)
}

fn options() -> Options {
    let now = "2026-11-01T00:00:00Z".parse().unwrap();
    Options { zone: TimeZone::UTC, now, ..Options::default() }
}

fn hiding(hidden: Hidden) -> Options {
    Options { hidden: Some(hidden), ..options() }
}

fn rows(file: &Path, options: &Options) -> Vec<Row> {
    plan::open(file, options).unwrap().map(Result::unwrap).collect()
}

fn check(file: &Path, options: &Options) -> CheckReport {
    plan::check(plan::open(file, options).unwrap()).unwrap()
}

fn refusal(file: &Path, options: &Options) -> String {
    match plan::open(file, options) {
        Err(error) => error.to_string(),
        Ok(mut rows) => rows.find_map(Result::err).expect("the plan can be read").to_string(),
    }
}

fn body(row: &Row) -> Value {
    serde_json::from_slice(&row.body).unwrap()
}

fn findings(report: &CheckReport) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

fn warnings(report: &CheckReport) -> Vec<String> {
    report.warnings.iter().map(ToString::to_string).collect()
}

/// A warning or a finding that says all of this is there.
fn says(all: &[String], parts: &[&str]) {
    let found = all.iter().any(|one| parts.iter().all(|part| one.contains(part)));
    assert!(found, "{all:#?} should say {parts:?}");
}

#[allow(clippy::zombie_processes, reason = "it ends with its file, and the test's process with it")]
fn sluice(args: &[&str], input: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let input = input.map_or_else(Stdio::null, |file| {
        // a pipe, as from `cat`: it can be read once
        let mut cat = Command::new("cat").arg(file).stdout(Stdio::piped()).spawn().unwrap();
        cat.stdout.take().unwrap().into()
    });
    command.env_clear().env("PATH", "/usr/bin:/bin").args(args).stdin(input).output().unwrap()
}

/// The fields of a request that the contract accepts, in an order of columns.
const HEADER: [&str; 10] = [
    "name",
    "type",
    "os_type",
    "source_server.id",
    "target_server.name",
    "vm_template_id",
    "region_name",
    "region_id",
    "project_name",
    "project_id",
];

/// The cells of a request.
fn cells(n: usize) -> Vec<String> {
    let id = format!("{n:036}");
    let fixed = ["t", "tmpl", "R", "ap-southeast-3", "P", "05825205120026802ff0c01721bc1000"];
    let own = [format!("task-{n}"), "MIGRATE_FILE".to_owned(), "LINUX".to_owned(), id];
    own.into_iter().chain(fixed.map(str::to_owned)).collect()
}

/// What is missing to send [`cells`].
fn complete(options: Options) -> Options {
    Options { set: vec!["target_server.vm_id=".to_owned()], ..options }
}

fn request(n: usize) -> Value {
    json!({
        "name": format!("task-{n}"), "type": "MIGRATE_FILE", "os_type": "LINUX",
        "source_server": { "id": format!("{n:036}") },
        "target_server": { "name": "t", "vm_id": "" }, "vm_template_id": "tmpl",
        "region_name": "R", "region_id": "ap-southeast-3", "project_name": "P",
        "project_id": "05825205120026802ff0c01721bc1000",
    })
}
