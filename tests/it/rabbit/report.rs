//! The way of a weekend's plan: an Excel file with mistakes, fixed, enqueued, watched from two machines and exported;
//! every cell of the reports is compared with what the broker and the API know.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use calamine::{Data, Reader as _, Xlsx};
use jiff::Timestamp;
use serde_json::{Value, json};
use sluicegate::core::Outcome;
use sluicegate::message::result::{CloudEvent, ResultData};
use sluicegate::sandbox::{Options, Sandbox};

use super::planner::{Desk, lines, text};
use crate::plan::{MISTAKES, places, thousand};
use crate::support::proxy::Proxy;
use crate::support::wait::until_so;

/// What the API says of some servers: a reason that a spreadsheet could run, and a browser too.
const HOSTILE: &str =
    "=HYPERLINK(\"http://x\",\"a\") <script>alert('1')</script>, \"quoted\"\r\nsecond line";

/// An API that refuses the servers of these rows of [`thousand`] (the header is row 1).
fn refusing(rows: &[usize]) -> Options {
    let refuse = |row: &usize| {
        json!({ "source": format!("{:036}", row - 1), "call": "create",
                "do": { "answer": { "status": 400, "code": "SMS.0202", "message": HOSTILE } } })
    };
    let faults: Vec<Value> = rows.iter().map(refuse).collect();
    Options::default().patched(&json!({ "faults": faults })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rows_from_twenty_five_mistakes_to_a_report_whose_every_cell_is_true() {
    let desk = Desk::new().await;
    let plan = desk.path("weekend.xlsx");
    let plan_name = plan.to_str().unwrap();
    std::fs::write(&plan, thousand(&MISTAKES)).unwrap();
    let refused = desk.sluice(&["enqueue", plan_name]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    for (row, column) in places() {
        assert!(said.contains(&format!("Sheet1!{column}{row}, /")), "{row} {column}: {said}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with("Sheet1!")).count(), 25, "{said}");
    assert!(said.contains("nothing was sent"), "{said}");
    let client = desk.lane.client().await;
    assert_eq!(client.depth(&desk.lane.queues.requests()).await, 0);

    std::fs::write(&plan, thousand(&[])).unwrap();
    let checking = Instant::now();
    assert_eq!(desk.sluice(&["check", plan_name]).status.code(), Some(0));
    let checking = checking.elapsed();
    let enqueuing = Instant::now();
    let enqueued = desk.sluice(&["enqueue", plan_name]);
    let enqueuing = enqueuing.elapsed();
    assert_eq!(enqueued.status.code(), Some(0), "{}", text(&enqueued.stderr));
    println!("checked in {checking:?}, enqueued in {enqueuing:?}");
    // Both read the plan (enqueue does so twice); a thousand confirms one after the other would be ten times that.
    assert!(enqueuing < 8 * checking, "checked in {checking:?}, enqueued in {enqueuing:?}");
    let batch = text(&enqueued.stdout).trim().to_owned();

    let worker = desk.worker(refusing(&[18, 500, 1001])).await;
    let csv = desk.path("report.csv");
    let args =
        ["watch", &batch, "--until-done", "--times", "iso", "--export", csv.to_str().unwrap()];
    let watched = desk.sluice(&args);
    assert_eq!(watched.status.code(), Some(1), "{}", text(&watched.stderr));
    assert!(text(&watched.stderr).contains("report.csv: 1000 requests"), "{watched:?}");
    let truth = truth(&desk, &worker.sandbox).await;
    check_csv(&std::fs::read_to_string(&csv).unwrap(), &truth);

    for ending in ["xlsx", "html"] {
        let file = desk.path(&format!("report.{ending}"));
        let later = desk.sluice(&["watch", &batch, "--export", file.to_str().unwrap()]);
        assert_eq!(later.status.code(), Some(1), "{}", text(&later.stderr));
    }
    check_xlsx(&std::fs::read(desk.path("report.xlsx")).unwrap(), &truth, &batch);
    check_html(&std::fs::read_to_string(desk.path("report.html")).unwrap(), &truth, &batch);
    check_refusals(&desk, &batch, &csv);
}

/// A wrong ending, a file that is there, a directory that is not: told at once, and nothing is written.
fn check_refusals(desk: &Desk, batch: &str, there: &Path) {
    let before = std::fs::read(there).unwrap();
    let export = |file: &str, more: &[&str]| {
        desk.sluice(&[&["watch", batch, "--times", "iso", "--export", file][..], more].concat())
    };
    let wrong = export("report.pdf", &[]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("must end with .csv, .xlsx or .html"), "{wrong:?}");
    let there = there.to_str().unwrap();
    let refused = export(there, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("replace it with --overwrite"), "{refused:?}");
    assert_eq!(std::fs::read(there).unwrap(), before);
    assert_eq!(export(there, &["--overwrite"]).status.code(), Some(1));
    assert_eq!(std::fs::read(there).unwrap(), before, "the same batch, the same report");
    let away = export("/no/such/directory/report.csv", &[]);
    assert_eq!(away.status.code(), Some(2));
    assert!(text(&away.stderr).contains("cannot write /no/such/directory/report.csv"), "{away:?}");
}

/// A row of the report as texts, by column, from what the broker and the API know; times in milliseconds.
type Row = BTreeMap<&'static str, String>;

async fn truth(desk: &Desk, sandbox: &Sandbox) -> Vec<Row> {
    let tasks: BTreeMap<_, _> =
        sandbox.tasks().into_iter().map(|task| (task.source().to_owned(), task)).collect();
    assert_eq!(tasks.len(), 997);
    let mut results = desk.lane.results(1000).await;
    results.sort_by_key(|result| result.data.row);
    let row = |(result, number): (&CloudEvent<ResultData>, usize)| {
        let data = &result.data;
        let source = format!("{number:036}");
        assert_eq!(data.source_server_id, source);
        let task = tasks.get(&source);
        if let Some(task) = task {
            assert_eq!((data.outcome, &task.made.name), (Outcome::Created, &data.name));
            let begun = data.first_attempt_at.unwrap();
            assert!(begun <= task.created && task.created <= data.settled_at);
        }
        let ms =
            |at: Option<Timestamp>| at.map_or(String::new(), |at| at.as_millisecond().to_string());
        let waited = data.settled_at.as_millisecond() - data.enqueued_at.unwrap().as_millisecond();
        let reason = if task.is_some() {
            String::new()
        } else {
            // Control characters of the API's texts have become spaces on the way.
            format!("{} [SMS.0202, status 400]", HOSTILE.replace(['\r', '\n'], " "))
        };
        Row::from([
            ("row", (number + 1).to_string()),
            ("source_server_id", source),
            ("name", format!("task-{number}")),
            ("priority", (number % 3).to_string()),
            ("region_id", "ap-southeast-3".to_owned()),
            ("outcome", if task.is_some() { "created" } else { "rejected" }.to_owned()),
            ("task_id", task.map_or(String::new(), |task| task.id.clone())),
            ("reason", reason),
            ("attempts", "1".to_owned()),
            ("looked_up", "0".to_owned()),
            ("enqueued_at", ms(data.enqueued_at)),
            ("first_attempt_at", ms(data.first_attempt_at)),
            ("settled_at", ms(Some(data.settled_at))),
            ("seconds_waited", waited.to_string()),
        ])
    };
    results.iter().zip(1..).map(row).collect()
}

fn milliseconds(text: &str) -> String {
    text.parse::<Timestamp>().unwrap().as_millisecond().to_string()
}

/// A number of seconds with a fraction, in whole milliseconds.
fn thousandths(seconds: f64) -> String {
    format!("{:.0}", seconds * 1000.0)
}

/// Every cell, one by one. What was waited may differ by the part of a millisecond that times do not show.
fn compare(found: &[(String, String)], wanted: &Row, file: &str) {
    assert_eq!(found.len(), wanted.len(), "{file}: {found:?}");
    for (column, cell) in found {
        let truth = &wanted[&**column];
        let same = if column == "seconds_waited" {
            let number = |text: &str| text.parse::<i64>().unwrap();
            (number(cell) - number(truth)).abs() <= 1
        } else {
            cell == truth
        };
        assert!(same, "{file}, row {}, {column}: {cell:?} instead of {truth:?}", wanted["row"]);
    }
}

fn check_csv(file: &str, truth: &[Row]) {
    let records = records(file.strip_prefix('\u{feff}').unwrap());
    assert_eq!(records.len(), 1001);
    for (record, wanted) in records[1..].iter().zip(truth) {
        let cell = |(name, cell): (&String, &String)| {
            let cell = match &**name {
                name if name.ends_with("_at") => milliseconds(cell),
                "seconds_waited" => thousandths(cell.parse().unwrap()),
                // An apostrophe keeps a spreadsheet from running it.
                "reason" if !cell.is_empty() => cell.strip_prefix('\'').unwrap().to_owned(),
                _ => cell.clone(),
            };
            (name.clone(), cell)
        };
        let found: Vec<_> = records[0].iter().zip(record).map(cell).collect();
        compare(&found, wanted, "csv");
    }
}

/// RFC 4180.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell, mut quoted) =
        (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            c => cell.push(c),
        }
    }
    assert!(!quoted && record.is_empty());
    records
}

fn check_xlsx(file: &[u8], truth: &[Row], batch: &str) {
    let mut book = Xlsx::new(Cursor::new(file)).unwrap();
    let sheet = book.worksheet_range("results").unwrap();
    let rows: Vec<&[Data]> = sheet.rows().collect();
    assert_eq!(rows.len(), 1001);
    for (row, wanted) in rows[1..].iter().zip(truth) {
        let cell = |(name, cell): (&Data, &Data)| {
            let name = name.to_string();
            let name = name.strip_suffix(" (UTC)").unwrap_or(&name).to_owned();
            let cell = match cell {
                Data::Empty => String::new(),
                // The same apostrophe as in the CSV.
                Data::String(text) if name == "reason" => {
                    text.strip_prefix('\'').unwrap().to_owned()
                }
                // Excel's own line end is a line feed.
                Data::String(text) => text.clone(),
                Data::DateTime(days) => format!("{:.0}", (days.as_f64() - 25_569.0) * 86_400_000.0),
                Data::Float(number) if name == "seconds_waited" => thousandths(*number),
                Data::Float(number) => number.to_string(),
                other => panic!("{name}: {other:?}"),
            };
            (name, cell)
        };
        let found: Vec<_> = rows[0].iter().zip(*row).map(cell).collect();
        compare(&found, wanted, "xlsx");
    }
    let totals = book.worksheet_range("batch").unwrap();
    let total = |name: &str| {
        let row = totals.rows().find(|row| row[0] == name).unwrap();
        row[1].to_string()
    };
    let told = ["batch", "total", "settled", "failed", "created", "rejected"].map(total);
    assert_eq!(told, [batch, "1000", "1000", "3", "997", "3"]);
}

fn check_html(page: &str, truth: &[Row], batch: &str) {
    assert!(page.contains(&format!("<h1>Batch {batch}</h1>")));
    assert!(page.contains("997 of 1000 migration tasks were created, 3 did not end well."));
    for forbidden in ["<script", " style=", " onload", "http-equiv=\"refresh", "<link", "src="] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("<circle").count(), page.matches("</circle>").count());
    assert!(page.matches("<circle").count() >= 1 && page.contains("<path class=\"ended\""));
    let rows = page.split("<details>").nth(1).unwrap();
    let names: Vec<_> = column(rows.split("</thead>").next().unwrap(), "<th", "</th>");
    let rows: Vec<&str> = rows.split("<tr>").skip(2).collect();
    assert_eq!(rows.len(), 1000);
    for (row, wanted) in rows.iter().zip(truth) {
        let cells = column(row, "<td", "</td>");
        let cell = |(name, cell): (&String, &String)| {
            let name = name.replace(' ', "_");
            let cell = match cell.split_once("<time datetime=\"") {
                Some((_, rest)) => milliseconds(rest.split('"').next().unwrap()),
                None if name == "seconds_waited" => thousandths(cell.parse().unwrap()),
                None => plain(cell),
            };
            (name, cell)
        };
        let found: Vec<_> = names.iter().zip(&cells).map(cell).collect();
        compare(&found, wanted, "html");
    }
}

/// What stands in elements of this kind.
fn column(html: &str, begin: &str, end: &str) -> Vec<String> {
    let of = |part: &str| part.split_once('>').unwrap().1.split(end).next().unwrap().to_owned();
    html.split(begin).skip(1).filter(|part| part.starts_with([' ', '>'])).map(of).collect()
}

fn plain(html: &str) -> String {
    // A carriage return is made visible.
    let pairs =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("⟨U+000D⟩", "\r"), ("&amp;", "&")];
    pairs.iter().fold(html.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A network namespace with a wire to this one: another machine. Removed when dropped.
struct Elsewhere {
    name: String,
    /// This machine's address on the wire.
    here: std::net::IpAddr,
}

impl Elsewhere {
    fn new() -> Self {
        let number = std::process::id();
        let name = format!("sluice{number}");
        let near = format!("slw{number}");
        // One of the 64 networks of four addresses in 198.18.77.0/24, a range for tests.
        let network = number % 64 * 4;
        let here = format!("198.18.77.{}", network + 1);
        let this = Self { name: name.clone(), here: here.parse().unwrap() };
        let (near_address, far_address) =
            (format!("{here}/30"), format!("198.18.77.{}/30", network + 2));
        for args in [
            &["netns", "add", &name][..],
            &["link", "add", &near, "type", "veth", "peer", "name", "wire", "netns", &name],
            &["addr", "add", &near_address, "dev", &near],
            &["link", "set", &near, "up"],
            &["-n", &name, "addr", "add", &far_address, "dev", "wire"],
            &["-n", &name, "link", "set", "wire", "up"],
        ] {
            let done = Command::new("ip").args(args).output();
            let told = done.as_ref().map_or_else(ToString::to_string, |done| text(&done.stderr));
            assert!(
                done.is_ok_and(|done| done.status.success()),
                "`ip {}` failed: {told}\nThis test makes a network namespace: it needs iproute2, and root with \
                 CAP_SYS_ADMIN and CAP_NET_ADMIN (in a container: --cap-add SYS_ADMIN --cap-add NET_ADMIN)",
                args.join(" ")
            );
        }
        this
    }

    fn run(&self, command: &Command) -> Output {
        let mut there = Command::new("ip");
        there
            .args(["netns", "exec", &self.name])
            .arg(command.get_program())
            .args(command.get_args());
        there.stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_on_another_machine_started_late_shows_the_same_totals() {
    let desk = Desk::new().await;
    let elsewhere = Elsewhere::new();
    // The broker listens on loopback, which is another one there: only over the wire it can be reached.
    let (before, rest) = desk.lane.url.split_once('@').unwrap();
    let (address, vhost) = rest.split_once('/').unwrap();
    let door = Proxy::start_at(elsewhere.here, address.parse().unwrap()).await;
    let plan = desk.plan(300);
    let batch = text(&desk.sluice(&["enqueue", plan.to_str().unwrap()]).stdout).trim().to_owned();
    let options = json!({ "faults": [{ "source": "source-7", "call": "create",
        "do": { "answer": { "status": 400, "code": "SMS.0202", "message": "no" } } }] });
    let worker = desk.worker_at(Options::default().patched(&options).unwrap(), "100/s").await;
    until_so("submitted", || worker.sandbox.stats(&[]).tasks.created >= 100).await;
    let away = desk.command(&["watch", &batch, "--until-done", "--json"]);
    let unreachable = elsewhere.run(&away);
    assert_eq!(unreachable.status.code(), Some(4), "{}", text(&unreachable.stderr));
    let url = format!("broker.url={before}@{}/{vhost}", door.address);
    let away = desk.command(&["watch", &batch, "--until-done", "--json", "-o", &url]);
    let late = elsewhere.run(&away);
    assert_eq!(late.status.code(), Some(1), "{}", text(&late.stderr));
    let here = desk.sluice(&["watch", &batch, "--until-done", "--json"]);
    let (late, here) = (lines(&late), lines(&here));
    assert_eq!(late.last(), here.last());
    assert_eq!(late.last().unwrap()["outcomes"], json!({ "created": 299, "rejected": 1 }));
    assert_eq!(late.len(), 301);
    assert_eq!(worker.sandbox.tasks().len(), 299);
}
