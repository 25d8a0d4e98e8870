//! Any table of texts, numbers, times and booleans, written by this project's writer and by foreign ones in every format
//! and encoding: what is sent is what was written, or there is a finding; never another value. Needs Python and the
//! packages that `scripts/test` installs.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::nonminimal_bool,
    reason = "numbers are compared as the formats keep them"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_xlsxwriter::{ExcelDateTime, Format as Style, Workbook};
use serde_json::{Value, json};
use sluicegate::plan::{self, Ending, Options, Row};

use super::options;

/// A value that somebody puts into a cell.
#[derive(Clone, Debug)]
enum Put {
    Nothing,
    Text(String),
    Number(f64),
    Truth(bool),
    /// Seconds since 1970.
    Time(i64),
}

/// The fields that are filled, of each type one and more: header and pointer.
const FIELDS: [(&str, &str); 8] = [
    ("source_server.id", "/source_server/id"),
    ("region_name", "/region_name"),
    ("project_id", "/project_id"),
    ("priority", "/priority"),
    ("over_speed_threshold", "/over_speed_threshold"),
    ("target_server.disks.0.size", "/target_server/disks/0/size"),
    ("syncing", "/syncing"),
    ("x-sluice-not-before", "x-sluice-not-before"),
];

fn put() -> impl Strategy<Value = Put> {
    let texts = prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,8}",
        "[0-9]{1,20}",
        "[0-9]{1,3}[.,][0-9]{1,3}",
        "[0-9a-f]{8}-[0-9a-f]{4}",
        prop::sample::select(vec![
            "'0012",
            "=\"0012\"",
            "#N/A",
            "#1042",
            "1.000",
            "1,5",
            "50%",
            "1.23E+15",
            "TRUE",
            "no",
            "\"\"",
            "=1+1",
            "2026-11-28 22:30",
            "22:30",
            " x ",
            "a\u{a0}b",
            "a\u{200b}",
            "Zürich",
            "中国-北京四",
            "0x10",
            "1e3",
            "NaN",
            "inf",
            "-0",
            "+5",
            "007",
            "a\nb",
            "\u{feff}x",
            "_x0041_",
            "a;b,c\td",
            "\"quoted\"",
            "null",
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        1 => Just(Put::Nothing),
        5 => texts.prop_map(Put::Text),
        2 => (-10_i64..100_000).prop_map(|n| Put::Number(n as f64)),
        1 => any::<i32>().prop_map(|n| Put::Number(f64::from(n) / 1000.0)),
        1 => (0_u64..1 << 60).prop_map(|n| Put::Number(n as f64)),
        1 => any::<bool>().prop_map(Put::Truth),
        2 => (946_684_800_i64..4_000_000_000).prop_map(Put::Time),
    ]
}

fn table() -> impl Strategy<Value = Vec<Vec<Put>>> {
    prop::collection::vec(prop::collection::vec(put(), FIELDS.len()), 1..6)
}

fn iso(seconds: i64) -> String {
    let at = jiff::Timestamp::from_second(seconds).unwrap();
    at.strftime("%FT%T").to_string()
}

/// The foreign writers, in a process of their own.
struct Writers {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Writers {
    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new("python3")
            .arg(root.join("tests/it/sheet/write.py"))
            .env("PYTHONPATH", root.join("target/clients/python"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, see scripts/test");
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    /// Whether the file was written: a writer may refuse a text.
    fn write(&mut self, job: &Value) -> bool {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{job}").unwrap();
        stdin.flush().unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(
            answer.starts_with("ok") || answer.starts_with("no"),
            "the writers have died: {answer:?}"
        );
        answer.starts_with("ok")
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn job(
    file: &Path,
    kind: &str,
    encoding: &str,
    separator: &str,
    quoted: bool,
    table: &[Vec<Put>],
) -> Value {
    let cell = |put: &Put| match put {
        Put::Nothing => Value::Null,
        Put::Text(text) => json!({ "text": text }),
        Put::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            json!({ "number": *number as i64 })
        }
        Put::Number(number) => json!({ "number": number }),
        Put::Truth(truth) => json!({ "truth": truth }),
        Put::Time(at) => json!({ "time": iso(*at) }),
    };
    let head: Vec<Value> = FIELDS.iter().map(|(name, _)| json!({ "text": name })).collect();
    let rows = std::iter::once(head).chain(table.iter().map(|row| row.iter().map(cell).collect()));
    let rows: Vec<Vec<Value>> = rows.collect();
    json!({ "file": file, "kind": kind, "encoding": encoding, "separator": separator, "quoted": quoted, "rows": rows })
}

/// This project's own writer.
fn own(file: &Path, table: &[Vec<Put>]) -> bool {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    let time = Style::new().set_num_format("yyyy-mm-dd hh:mm:ss");
    sheet.write_row(0, 0, FIELDS.map(|(name, _)| name)).unwrap();
    for (row, cells) in (1..).zip(table) {
        for (column, put) in (0..).zip(cells) {
            match put {
                Put::Nothing => {}
                Put::Text(text) => drop(sheet.write_string(row, column, text).unwrap()),
                Put::Number(number) => drop(sheet.write_number(row, column, *number).unwrap()),
                Put::Truth(truth) => drop(sheet.write_boolean(row, column, *truth).unwrap()),
                Put::Time(at) => {
                    let at = ExcelDateTime::parse_from_str(&iso(*at)).unwrap();
                    sheet.write_datetime_with_format(row, column, &at, &time).unwrap();
                }
            }
        }
    }
    book.save(file).unwrap();
    true
}

/// What a file is read as: its rows, and what is said of it as a whole; or a refusal of all of it.
fn read(file: &Path) -> Result<(Vec<Row>, Ending), String> {
    let set = [
        "name=n",
        "type=MIGRATE_FILE",
        "os_type=LINUX",
        "target_server.name=t",
        "vm_template_id=x",
        "target_server.vm_id=",
        "region_id=r",
        "project_name=p",
    ];
    let options = Options { set: set.map(str::to_owned).to_vec(), ..options() };
    let mut plan = plan::open(file, &options).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for row in plan.by_ref() {
        rows.push(row.map_err(|error| error.to_string())?);
    }
    Ok((rows, plan.ending()))
}

/// Whether what is sent says what was written.
fn same(put: &Put, sent: &Value) -> bool {
    let number = |text: &str| text.trim().replacen(',', ".", 1).parse::<f64>().ok();
    match (put, sent) {
        (Put::Nothing, Value::Null) => true,
        (Put::Text(text), Value::Null) => !text.chars().any(visible) || text.trim() == "\"\"",
        (Put::Text(text), Value::String(sent)) => {
            let bare = text.trim_matches(|char| !visible(char));
            bare == sent || (bare == "\"\"" && sent.is_empty())
        }
        (Put::Text(text), Value::Number(sent)) => number(text) == sent.as_f64(),
        (Put::Text(text), Value::Bool(sent)) => {
            let (yes, no) = (["true", "yes", "1"], ["false", "no", "0"]);
            let text = text.trim().to_lowercase();
            if *sent { yes.contains(&text.as_str()) } else { no.contains(&text.as_str()) }
        }
        (Put::Number(put), Value::Number(sent)) => Some(*put) == sent.as_f64(),
        (Put::Number(put), Value::String(sent)) => Some(*put) == number(sent),
        (Put::Number(put), Value::Bool(sent)) => *put == f64::from(u8::from(*sent)),
        // in a file of texts a time is one
        (Put::Time(put), Value::String(sent)) => *sent == iso(*put).replace('T', " "),
        (Put::Truth(put), Value::Bool(sent)) => put == sent,
        (Put::Truth(put), Value::String(sent)) => sent.to_lowercase() == put.to_string(),
        _ => false,
    }
}

fn visible(char: char) -> bool {
    !(char.is_whitespace()
        || char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}'))
        && !matches!(char, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}' | '\u{180b}'..='\u{180e}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{2028}'..='\u{202e}')
}

/// Each value that was written is sent as it is, or there is a word about it.
fn judge(table: &[Vec<Put>], file: &Path, what: &str) -> Result<(), TestCaseError> {
    // a file that is refused whole is refused with a reason
    let Ok((rows, ending)) = read(file) else { return Ok(()) };
    let guessed = !ending.warnings.is_empty();
    for (number, written) in (2..).zip(table) {
        let Some(row) = rows.iter().find(|row| row.number == number) else {
            let seen = written.iter().any(|put| match put {
                Put::Nothing => false,
                Put::Text(text) => text.chars().any(visible) && text != "\"\"",
                _ => true,
            });
            let comment =
                matches!(written.first(), Some(Put::Text(text)) if text.trim().starts_with('#'));
            prop_assert!(!seen || comment, "{what}: row {number} is gone: {written:?}");
            continue;
        };
        let sent: Value = serde_json::from_slice(&row.body).unwrap_or_default();
        let said = row.read.as_ref().err().into_iter().flatten().chain(&row.warnings);
        let said: Vec<&str> = said.map(|finding| finding.pointer.as_str()).collect();
        for ((_, pointer), put) in FIELDS.iter().zip(written) {
            let told = said.iter().any(|said| said.starts_with(pointer)) || guessed;
            let right = if *pointer == "x-sluice-not-before" {
                let sent = row.settings.not_before.map(jiff::Timestamp::as_second);
                match put {
                    Put::Time(at) => sent == Some(*at),
                    Put::Text(text) => {
                        sent.is_none() != text.chars().any(visible) || text == "\"\""
                    }
                    Put::Nothing => sent.is_none(),
                    _ => false,
                }
            } else {
                same(put, sent.pointer(pointer).unwrap_or(&Value::Null))
            };
            prop_assert!(
                right || told,
                "{what}: row {number}, {pointer}: {put:?} is sent as {:?}, {:?}, and nothing is said: {said:?}",
                sent.pointer(pointer),
                row.settings.not_before
            );
        }
    }
    Ok(())
}

/// Every format and encoding: kind, encoding, separator, whether all is quoted.
fn ways() -> Vec<(&'static str, &'static str, &'static str, bool)> {
    let mut ways = vec![("xlsx", "", "", false), ("xls", "", "", false), ("ods", "", "", false)];
    for encoding in
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "gbk", "shift_jis"]
    {
        for (separator, quoted) in [(",", false), (";", true), ("\t", false), (";", false)] {
            ways.push(("csv", encoding, separator, quoted));
        }
    }
    ways
}

#[test]
fn what_anybody_writes_is_sent_as_it_was_written_or_there_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let writers = Mutex::new(Writers::start());
    let written = Mutex::new(std::collections::BTreeMap::<String, u32>::new());
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::default(),
        ),
    )
    .run(&table(), |table| {
        let count = |what: String| *written.lock().unwrap().entry(what).or_default() += 1;
        let file: PathBuf = dir.path().join("own.xlsx");
        own(&file, &table);
        count("own xlsx".to_owned());
        judge(&table, &file, "rust_xlsxwriter")?;
        for (kind, encoding, separator, quoted) in ways() {
            let file = dir.path().join(format!("foreign.{kind}"));
            let job = job(&file, kind, encoding, separator, quoted, &table);
            if writers.lock().unwrap().write(&job) {
                let what = format!("{kind} {encoding} {separator:?} quoted: {quoted}");
                count(what.clone());
                judge(&table, &file, &what)?;
            }
        }
        Ok(())
    });
    let written = written.into_inner().unwrap();
    println!("{written:#?}");
    run.unwrap();
    for (kind, ..) in ways() {
        assert!(
            written.iter().any(|(what, _)| what.starts_with(kind)),
            "nothing was written as {kind}"
        );
    }
}
