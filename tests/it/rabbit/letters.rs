//! `sluice dead-letters` as a process on a real broker: what it shows, what it moves, and what happens when it dies.
//! (Tests have several threads, because the commands are waited for without an `await`.)

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use sluicegate::broker::dead_letters::{MoveProgress, Review, ReviewAction, ReviewError};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::{ReadFrom, Reader, topology};
use sluicegate::contract::{Rules, Violation};
use sluicegate::core::{Fault, Outcome};
use sluicegate::message::audit::{Action, By};
use sluicegate::message::headers;
use sluicegate::message::result::dead_letter_headers;
use sluicegate::review::Filter;
use sluicegate::sandbox::{Options, Sandbox};
use sluicegate::worker::source::Source as _;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::form::number;
use crate::support::process::{Process, Spec};
use crate::support::rabbit::{
    Client, Lane, Node, SOON, arrived, door, ending, opened, request_body,
};
use crate::support::rig::body as body_of;
use crate::support::wait;

const BOTH: [QueueType; 2] = [QueueType::Quorum, QueueType::Classic];

/// A reviewer's desk: a lane, its configuration as a file, and somebody at the keyboard.
struct Desk {
    dir: TempDir,
    lane: Lane,
    config: PathBuf,
    client: Client,
}

impl Desk {
    async fn new(kind: QueueType) -> Self {
        let lane = Lane::new(&Node::shared(), kind);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("lane.toml");
        let text = format!(
            "[broker]\nurl = {:?}\n[queues]\nprefix = {:?}\ntype = {:?}\n[http]\nlisten = \"\"\n",
            lane.url,
            lane.queues.prefix,
            kind.as_str()
        );
        std::fs::write(&config, text).unwrap();
        let client = lane.client().await;
        Self { dir, lane, config, client }
    }

    /// Puts dead letters into the queue, as the worker would have.
    async fn dead(&self, letters: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>) {
        let queue = self.lane.queues.dead_letters();
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let mut confirms = Vec::new();
        for (body, properties) in letters {
            let (exchange, key) = door(&queue);
            let publish =
                self.client.channel.basic_publish(exchange, key, options, &body, properties);
            confirms.push(publish.await.unwrap());
        }
        for confirm in confirms {
            assert_eq!(confirm.await.unwrap(), lapin::Confirmation::Ack(None));
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().env("USER", "mei").env("PATH", std::env::var("PATH").unwrap());
        command.arg("dead-letters").args(args).arg("-c").arg(&self.config).stdin(Stdio::null());
        command
    }

    fn sluice(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it, expects this exit code, and gives what it said on stdout.
    fn said(&self, code: i32, args: &[&str]) -> String {
        let output = self.sluice(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What it said on stderr.
    fn told(&self, code: i32, args: &[&str]) -> String {
        let output = self.sluice(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    /// At a terminal, with these keys.
    fn at_a_terminal(&self, args: &[&str], keys: &str) -> (i32, String) {
        let words = ["dead-letters"].iter().chain(args).map(|word| format!("'{word}'"));
        let words: Vec<String> = words.collect();
        let line = format!(
            "{} {} -c {}",
            env!("CARGO_BIN_EXE_sluice"),
            words.join(" "),
            self.config.display()
        );
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), keys.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), text(&output.stdout))
    }

    fn review(&self) -> Review {
        Review {
            patience: Duration::from_secs(20),
            ..Review::new(&self.lane.settings, &self.lane.queues, Rules::default())
        }
    }

    async fn depths(&self, dead: u32, requests: u32) {
        self.client.wait_for_depth(&self.lane.queues.dead_letters(), dead).await;
        self.client.wait_for_depth(&self.lane.queues.requests(), requests).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn by(who: &str) -> By {
    By { who: who.into(), why: None }
}

/// A dead letter that died of one of `causes`.
fn rejected(number: usize, causes: usize, body: Vec<u8>) -> (Vec<u8>, BasicProperties) {
    let mut end = ending(Outcome::Rejected);
    end.fault = Some(Fault {
        status: Some(400),
        error_code: Some(format!("SMS.{:04}", number % causes)),
        error_msg: format!("server {number} is not known"),
        ..Fault::default()
    });
    (body, headers(number, &end))
}

fn headers(number: usize, end: &sluicegate::core::Ending) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut put = |name: &str, text: &str| {
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    };
    for (name, text) in dead_letter_headers(end) {
        put(name, &text);
    }
    put(headers::REQUEST_ID, &format!("row {number}"));
    put("x-sluice-batch", if number.is_multiple_of(2) { "even" } else { "odd" });
    put("x-sluice-enqueued-at", &format!("{:.3}", jiff::Timestamp::now()));
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(Uuid::new_v4().to_string().into())
        .with_headers(headers)
}

fn many(count: usize, causes: usize) -> Vec<(Vec<u8>, BasicProperties)> {
    (0..count).map(|number| rejected(number, causes, request_body(number).to_vec())).collect()
}

/// Each of a source server of its own.
pub(super) fn servers(numbers: std::ops::Range<usize>) -> Vec<(Vec<u8>, BasicProperties)> {
    numbers.map(|n| rejected(n, 4, body_of(&format!("source-{n}"), 1).to_vec())).collect()
}

/// Nobody has declared anything there: what to do is said, not what the broker calls it alone.
#[tokio::test(flavor = "multi_thread")]
async fn without_queues_it_is_said_how_they_come_to_be() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lane.toml");
    let text =
        format!("[broker]\nurl = {:?}\n[queues]\nprefix = {:?}\n", lane.url, lane.queues.prefix);
    std::fs::write(&config, text).unwrap();
    for command in [
        &["dead-letters", "list"][..],
        &["dead-letters", "replay", "--all", "--yes"],
        &["dead-letters", "export", "all.jsonl"],
        &["gate", "status"],
        &["gate", "list"],
        &["gate", "pause"],
        &["gate", "rate", "1/s"],
        &["batch", "hold", "wave"],
        &["watch"],
        &["watch", "wave"],
    ] {
        let mut sluice = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output = sluice
            .env_clear()
            .current_dir(&dir)
            .args(command)
            .args(["-c", "lane.toml"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{command:?}: {said}");
        assert!(said.contains("run `sluice topology apply`"), "{command:?}: {said}");
        assert!(said.contains("check queues.prefix"), "{command:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn causes_letters_and_one_letter_are_shown() {
    for kind in BOTH {
        let desk = Desk::new(kind).await;
        assert_eq!(desk.told(0, &["list"]), "there are no dead letters\n");
        desk.dead(many(24, 12)).await;
        let listed = desk.said(0, &["list"]);
        assert!(listed.contains("rejected SMS.0003 (400): server # is not known"), "{listed}");
        assert!(listed.contains("     24  in all, 12 causes"), "{listed}");
        let json: Value =
            serde_json::from_str(&desk.said(0, &["list", "--json", "--batch", "odd"])).unwrap();
        assert_eq!((&json["letters"], &json["not_looked_at"]), (&12.into(), &0.into()));
        assert_eq!(json["causes"].as_array().unwrap().len(), 6);
        let letters = desk.said(0, &["list", "--letters", "--json", "--cause", "SMS.0005"]);
        let letters: Vec<Value> =
            letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(letters.len(), 2);
        let id = letters[0]["id"].as_str().unwrap();
        let shown = desk.said(0, &["show", &id[..8]]);
        for part in [id, "task-5", "row 5", "SMS.0005", "  \"name\": \"task-5\"", "the API said"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let body = desk.sluice(&["show", "row 5", "--body"]).stdout;
        assert_eq!(body, request_body(5));
        let whole: Value = serde_json::from_str(&desk.said(0, &["show", id, "--json"])).unwrap();
        let schema = sluicegate::review::schema::dead_letter();
        assert!(jsonschema::is_valid(&schema, &whole["message"]), "{whole}");
        assert!(desk.told(2, &["show", "nothing-of-that"]).contains("no dead letter has the id"));
        desk.depths(24, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_letters_are_shown_harmlessly() {
    let desk = Desk::new(QueueType::Quorum).await;
    let mut end = ending(Outcome::Invalid);
    end.reason = "\u{1b}]0;owned\u{7}\u{202e}gnorw".into();
    end.violations = vec![Violation {
        pointer: "/na\u{1b}[2Jme".into(),
        found: "\u{9b}31m".into(),
        allowed: "a name\nof one line".into(),
    }];
    let bodies = [b"{\"name\":\"\x1b[2J\xe2\x80\xae\"}".to_vec(), b"\xff\x00\x1b[31m".to_vec()];
    desk.dead(bodies.iter().map(|body| (body.clone(), headers(1, &end)))).await;
    let ids = desk.said(0, &["list", "--letters", "--json"]);
    let ids: Vec<Value> = ids.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut all = desk.said(0, &["list"]) + &desk.said(0, &["list", "--letters"]);
    for (letter, body) in ids.iter().zip(&bodies) {
        let id = letter["id"].as_str().unwrap();
        all += &desk.said(0, &["show", id]);
        let (code, shown) = desk.at_a_terminal(&["show", id, "--body"], "");
        assert_eq!(code, 0);
        all += &shown.replace("\r\n", "\n");
        assert_eq!(desk.sluice(&["show", id, "--body"]).stdout, *body, "to a pipe as it is");
    }
    let discard = desk.sluice(&["discard", "--all", "--yes"]);
    all += &text(&discard.stderr);
    all += &desk.said(0, &["audit", ids[0]["id"].as_str().unwrap()]);
    let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!all.contains(hidden), "{all:?}");
    assert!(all.contains("⟨U+001B⟩]0;owned⟨U+0007⟩⟨U+202E⟩gnorw"), "{all}");
    assert!(all.contains("a name⟨U+000A⟩of one line"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_fixed_with_a_preview_and_only_if_all_of_it_is_valid_then() {
    for kind in BOTH {
        let desk = Desk::new(kind).await;
        desk.dead(many(12, 2)).await;
        let group = ["edit", "--cause", "SMS.0001", "--yes", "--why", "typo"];
        let with = |more: &[&'static str]| [&group[..], more].concat();
        let refused = desk.told(3, &with(&["--set", "type=NONSENSE", "--set", "name=x"]));
        assert!(
            refused.contains("6 of 6 dead letters would not be valid, so nothing was done"),
            "{refused}"
        );
        assert!(refused.contains("/type: found"), "{refused}");
        assert!(desk.told(2, &with(&["--set", "nonsense"])).contains("is no change"));
        let dry = desk.said(0, &with(&["--set", "name=fixed", "--dry-run", "--json"]));
        let dry: Value = serde_json::from_str(&dry).unwrap();
        assert_eq!(dry.as_array().unwrap().len(), 6);
        desk.depths(12, 0).await;
        let output = desk.sluice(&with(&["--set", "name=fixed", "--set", "priority=60000"]));
        let preview = text(&output.stderr);
        for part in ["/name (in 1 dead letter)", "- \"task-1\"", "+ \"fixed\""] {
            assert!(preview.contains(part), "{part}: {preview}");
        }
        assert_eq!(text(&output.stdout), "fixed and replayed 6 dead letters\n");
        desk.depths(6, 6).await;
        let sent = first_of(&desk.client, &desk.lane.queues.requests()).await;
        assert_eq!(sent.properties.priority(), &Some(10), "the level of the new priority");
        let acts = desk.said(0, &["audit", "--json", "--action", "edit"]);
        let acts: Vec<Value> =
            acts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(acts.len(), 6);
        let schema = sluicegate::review::schema::act();
        for act in &acts {
            assert!(jsonschema::is_valid(&schema, act), "{act}");
            assert!(act["who"].as_str().unwrap().starts_with("mei@"), "{act}");
            assert_eq!(act["why"], "typo");
            let after: Value =
                serde_json::from_str(act["after"]["body"].as_str().unwrap()).unwrap();
            assert_eq!(after["name"], "fixed");
        }
        let told = desk.said(0, &["audit", acts[0]["id"].as_str().unwrap()]);
        assert!(told.contains("- \"task-1\"") && told.contains("(typo)"), "{told}");
    }
}

/// The first message of a queue, which keeps it.
async fn first_of(client: &Client, queue: &str) -> Delivery {
    let channel = client.connection.create_channel().await.unwrap();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consume = channel.basic_consume(queue.into(), "".into(), options, arguments);
    let mut consumer = consume.await.unwrap();
    let first = tokio::time::timeout(SOON, consumer.next()).await.expect("nothing is there");
    channel.close(200, "seen".into()).await.unwrap();
    first.unwrap().unwrap()
}

/// An editor that changes one thing with `sed`, and keeps what it was given.
fn editor(desk: &Desk, script: &str) -> String {
    let path = desk.path("editor");
    let given = desk.path("given");
    let text = format!("#!/bin/sh\ncat \"$1\" > {given}\nsed -i '{script}' \"$1\"\n");
    std::fs::write(&path, text).unwrap();
    assert!(Command::new("chmod").args(["+x", &path]).status().unwrap().success());
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn one_letter_is_fixed_in_the_editor_with_what_is_wrong_on_top() {
    let desk = Desk::new(QueueType::Quorum).await;
    let mut end = ending(Outcome::Invalid);
    end.violations = vec![Violation {
        pointer: "/type".into(),
        found: "?".into(),
        allowed: "MIGRATE_FILE".into(),
    }];
    let bad = text(&request_body(1)).replace("MIGRATE_FILE", "MIGRATE_FIL");
    desk.dead([(bad.clone().into_bytes(), headers(1, &end))]).await;
    let edit = |script: &str, args: &[&str]| {
        let mut command = desk.command(&[&["edit", "row 1", "--yes"], args].concat());
        command.env("EDITOR", editor(&desk, script)).output().unwrap()
    };
    let unchanged = edit("", &[]);
    assert_eq!(unchanged.status.code(), Some(0));
    assert!(text(&unchanged.stderr).contains("nothing was changed"), "{}", text(&unchanged.stderr));
    let given = std::fs::read_to_string(desk.path("given")).unwrap();
    assert!(given.contains("//   /type: found ?; allowed: MIGRATE_FILE"), "{given}");
    assert!(given.contains("\n  \"type\": \"MIGRATE_FIL\""), "{given}");
    let still = edit("s/MIGRATE_FIL/MIGRATE_FI/", &[]);
    assert_eq!(still.status.code(), Some(3), "{}", text(&still.stderr));
    let failed = edit("s/x/y/; q7", &[]);
    assert_eq!(failed.status.code(), Some(2), "{}", text(&failed.stderr));
    desk.depths(1, 0).await;
    let done = edit("s/MIGRATE_FIL/MIGRATE_FILE/", &[]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    desk.depths(0, 1).await;
    let sent = requests(&desk.lane, 1).await.remove(0).1;
    // It came in one line, so it goes in one.
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(value(&text(&sent)), value(&bad.replace("MIGRATE_FIL", "MIGRATE_FILE")));
    assert!(!sent.contains(&b'\n'));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_without_a_yes_and_without_saying_which() {
    let desk = Desk::new(QueueType::Quorum).await;
    desk.dead(many(4, 2)).await;
    for args in [
        &["replay", "--all"][..],
        &["discard", "--cause", "SMS.0000"],
        &["restore", "--all"],
        &["edit", "--all", "--set", "name=x"],
    ] {
        assert!(desk.told(2, args).contains("there is no terminal to ask at: give --yes"));
    }
    for verb in ["replay", "discard", "restore", "edit"] {
        assert!(desk.told(2, &[verb, "--yes"]).contains("say which dead letters"));
    }
    assert!(desk.told(2, &["replay", "0d6c3a5e", "--yes"]).contains("no dead letter has the id"));
    let (code, shown) = desk.at_a_terminal(&["discard", "--cause", "SMS.0000"], "n\n");
    assert!(shown.contains("this will discard 2 dead letters:"), "{shown}");
    assert!(shown.contains("discard 2 dead letters? [y/N]"), "{shown}");
    assert!(code == 1 && shown.contains("nothing was done"), "{code}: {shown}");
    desk.depths(4, 0).await;
    let (code, shown) = desk.at_a_terminal(&["discard", "--cause", "SMS.0000"], "y\n");
    assert!(code == 0 && shown.contains("discarded 2 dead letters"), "{code}: {shown}");
    desk.depths(2, 0).await;
    assert_eq!(desk.said(0, &["replay", "--all", "--yes"]), "replayed 2 dead letters\n");
    desk.depths(0, 2).await;
    let none = desk.sluice(&["replay", "--cause", "x", "--yes", "--json"]);
    assert_eq!(text(&none.stderr), "no dead letter meets these conditions\n");
    assert!(text(&none.stdout).contains("\"moved\":0"), "{}", text(&none.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_is_undone_from_the_audit_once_and_a_note_stands_in_it() {
    for kind in BOTH {
        let desk = Desk::new(kind).await;
        desk.dead(many(9, 3)).await;
        let listed = |args: &[&str]| {
            let lines = desk.said(0, &[&["list", "--letters", "--json"], args].concat());
            lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Value>>()
        };
        let one = listed(&["--cause", "SMS.0002"])[0]["id"].as_str().unwrap().to_owned();
        let before = desk.said(0, &["show", &one, "--json"]);
        desk.said(0, &["note", &one[..8], "ask the customer", "--by", "ada"]);
        desk.said(0, &["discard", "--all", "--yes", "--by", "bob", "--why", "oops"]);
        desk.depths(0, 0).await;
        let audit = desk.said(0, &["audit", &one]);
        assert!(audit.contains("note by ada") && audit.contains("(ask the customer)"), "{audit}");
        assert!(audit.contains("discard by bob") && audit.contains("(oops)"), "{audit}");
        assert_eq!(desk.said(0, &["restore", &one[..8], "--yes"]), "restored 1 dead letter\n");
        desk.depths(1, 0).await;
        assert_eq!(desk.said(0, &["show", &one, "--json"]), before, "it is back as it was");
        assert!(
            desk.told(2, &["restore", &one, "--yes"]).contains("nothing of that can be undone")
        );
        let rest = desk.said(0, &["restore", "--since", "1h", "--batch", "even", "--yes"]);
        assert!(rest.starts_with("restored ") && rest != "restored 9 dead letters\n", "{rest}");
        desk.said(0, &["restore", "--all", "--yes"]);
        desk.depths(9, 0).await;
        assert!(listed(&[]).iter().all(|letter| letter["copies"] == 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_comes_back_byte_for_byte_in_both_formats() {
    let desk = Desk::new(QueueType::Quorum).await;
    desk.dead(many(5, 5)).await;
    desk.dead([rejected(7, 9, b"\xff<script>\r\n\x00".to_vec())]).await;
    for name in ["letters.jsonl", "letters.csv"] {
        let file = desk.path(name);
        assert!(desk.said(0, &["export", &file]).starts_with("wrote 6 dead letters to "));
        assert!(desk.told(2, &["export", &file]).contains("is there already"));
        let ids = desk.said(0, &["list", "--letters", "--json"]);
        desk.said(0, &["discard", "--all", "--yes"]);
        desk.depths(0, 0).await;
        assert_eq!(desk.said(0, &["import", &file, "--by", "ada"]), "imported 6 dead letters\n");
        desk.depths(6, 0).await;
        assert_eq!(desk.said(0, &["list", "--letters", "--json"]), ids, "{name}");
        let hostile = desk.sluice(&["show", "row 7", "--body"]).stdout;
        assert_eq!(hostile, b"\xff<script>\r\n\x00");
    }
    let broken = desk.path("broken.jsonl");
    std::fs::write(&broken, "{\"body\":\"\"}\n{}\n").unwrap();
    assert!(desk.told(3, &["import", &broken]).contains("row 2: no dead letter"));
    assert!(desk.told(2, &["export", &desk.path("x.doc")]).contains("jsonl or csv?"));
    desk.depths(6, 0).await;
    assert_eq!(desk.said(0, &["audit", "--action", "import", "--by", "ada"]).lines().count(), 12);
}

/// Holds a review open for as long as `hold`, after its first letter.
pub(super) fn slow(hold: Duration) -> impl FnMut(MoveProgress) -> bool + Send + 'static {
    let mut has_slept = false;
    move |progress| {
        if progress.moved > 0 && !std::mem::replace(&mut has_slept, true) {
            std::thread::sleep(hold);
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_is_told_who_reviews_and_gets_the_queue_afterwards() {
    for kind in BOTH {
        let desk = Desk::new(kind).await;
        desk.dead(many(40, 2)).await;
        let ada = Review { who: "ada@ops".into(), ..desk.review() };
        let first = tokio::spawn(async move {
            let half = Filter { cause: Some("SMS.0000".into()), ..Filter::default() };
            ada.act(&half, &ReviewAction::Discard, &by("ada"), slow(Duration::from_secs(4)))
                .await
                .unwrap()
        });
        // She has begun when the queue is all in her hands.
        desk.client.wait_for_depth(&desk.lane.queues.dead_letters(), 0).await;
        let refused = desk.told(4, &["list", "--wait", "0s"]);
        assert!(refused.contains("ada@ops, since "), "{refused}");
        let second = desk.sluice(&["replay", "--all", "--yes"]);
        let told = text(&second.stderr);
        assert!(told.contains("waiting: ada@ops, since "), "{told}");
        assert_eq!(text(&second.stdout), "replayed 20 dead letters\n");
        assert_eq!(first.await.unwrap().moved, 20);
        desk.depths(0, 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_pass_can_hold_is_reviewed_in_parts_and_it_says_so() {
    for kind in BOTH {
        let desk = Desk::new(kind).await;
        desk.dead(many(120, 3)).await;
        let review = Review { most: 50, ..desk.review() };
        let snapshot = review.list().await.unwrap();
        assert_eq!((snapshot.letters.len(), snapshot.left), (50, 70));
        desk.depths(120, 0).await;
        let mut parts = Vec::new();
        for _ in 0..3 {
            let done =
                review.act(&Filter::default(), &ReviewAction::Replay, &by("ada"), |_| true).await;
            let done = done.unwrap();
            parts.push((done.moved, done.left));
        }
        assert_eq!(parts, [(50, 70), (50, 20), (20, 0)]);
        desk.depths(0, 120).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_is_held_for_longer_than_the_consumer_timeout_loses_nothing() {
    let desk = Desk::new(QueueType::Quorum).await;
    let node = Node::shared();
    let queue = desk.lane.queues.dead_letters();
    // Before 4.3 only the node's own setting counts, and is looked at once a minute: `held::` has that.
    let times_out = node.version == "4.3";
    if times_out {
        let pattern = format!("^{queue}$");
        let policy = ["set_policy", &queue, &pattern, "{\"consumer-timeout\":10000}"];
        node.script("ctl", &policy).await;
    }
    desk.dead(many(200, 4)).await;
    let all = Filter::default();
    let held = slow(Duration::from_secs(14));
    let first = desk.review().act(&all, &ReviewAction::Replay, &by("ada"), held).await;
    match first {
        Err(ReviewError::Lost { progress, why }) if times_out => {
            assert!(
                progress.moved < 200 && why.0.contains("consumer timeout"),
                "{progress:?} {why}"
            );
        }
        Ok(progress) if !times_out => assert_eq!(progress.moved, 200),
        other => panic!("{other:?}"),
    }
    all_replayed(&desk.lane, &desk.review(), 200).await;
}

/// The ids and bodies of so many waiting requests, as a worker gets them.
async fn requests(lane: &Lane, count: u32) -> Vec<(String, Vec<u8>)> {
    let mut broker = lane.start("reader");
    opened(&mut broker).await;
    let mut requests = Vec::new();
    for _ in 0..count {
        let job = arrived(&mut broker).await;
        let body =
            sluicegate::worker::source::Delivery::body(&job.delivery).await.unwrap().to_vec();
        requests.push((job.request.id.to_string(), body));
    }
    broker.leave(Vec::new()).await;
    requests
}

/// What is left is replayed, and every dead letter is found among the requests and in the audit.
pub(crate) async fn all_replayed(lane: &Lane, review: &Review, count: usize) {
    review.act(&Filter::default(), &ReviewAction::Replay, &by("ada"), |_| true).await.unwrap();
    let client = lane.client().await;
    client.wait_for_depth(&lane.queues.dead_letters(), 0).await;
    let waiting = client.depth(&lane.queues.requests()).await;
    let sent: BTreeSet<_> = requests(lane, waiting).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(sent.len(), count, "each at least once");
    let acts = review.acts(|act| act.action == Action::Replay).await.unwrap();
    let letters: BTreeSet<_> = acts.iter().map(|act| act.letter).collect();
    assert_eq!(letters.len(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_lets_what_is_in_hand_end_and_says_what_has_moved() {
    let desk = Desk::new(QueueType::Quorum).await;
    desk.dead(many(3000, 3)).await;
    let mut command = desk.command(&["replay", "--all", "--yes"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sent = desk.lane.queues.requests();
    wait::until(SOON, async || match desk.client.depth(&sent).await {
        0 => Err("nothing has moved".into()),
        _ => Ok(()),
    })
    .await;
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    let moved: u32 = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(said.contains("of 3000 dead letters; the others are as they were"), "{said}");
    assert!(moved > 0 && moved < 3000, "{said}");
    desk.depths(3000 - moved, moved).await;
    assert_eq!(desk.review().acts(|_| true).await.unwrap().len(), moved as usize);
}

fn interrupt(child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_given_up_again_and_again_misses_nothing() {
    let desk = Desk::new(QueueType::Quorum).await;
    for number in 0..300 {
        let body = number.to_string();
        desk.client
            .publish(&desk.lane.queues.audit(), body.as_bytes(), BasicProperties::default())
            .await;
    }
    let stream = desk.lane.queues.audit();
    let mut reader =
        Reader::open(&desk.lane.settings, &stream, ReadFrom::First, 1 << 20).await.unwrap();
    let mut read = Vec::new();
    let mut given_up = 0;
    while read.len() < 300 {
        // Given up after it was asked once, at whatever it waits for by then.
        let next = reader.next(Duration::from_secs(30));
        tokio::select! {
            biased;
            next = next => read.push(next.unwrap().unwrap().offset),
            () = tokio::task::yield_now() => given_up += 1,
        }
    }
    assert!(given_up > 0);
    assert_eq!(read, (0..300).collect::<Vec<_>>());
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_knows_the_end_that_its_stream_had_when_it_began() {
    let desk = Desk::new(QueueType::Quorum).await;
    let stream = desk.lane.queues.audit();
    let open =
        async |from| Reader::open(&desk.lane.settings, &stream, from, 1 << 20).await.unwrap();
    assert!(open(ReadFrom::First).await.is_caught_up(), "empty");
    let now = Timestamp::now();
    let seconds = u64::try_from(now.as_second()).unwrap();
    // In one go, so that they stand in few chunks.
    let publish = async |count: u64, properties: BasicProperties| {
        let mut confirms = Vec::new();
        for _ in 0..count {
            let (to, options) = (stream.as_str().into(), BasicPublishOptions::default());
            let properties = properties.clone();
            confirms.push(
                desk.client
                    .channel
                    .basic_publish("".into(), to, options, b"", properties)
                    .await
                    .unwrap(),
            );
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    };
    publish(5_000, BasicProperties::default().with_timestamp(seconds)).await;
    let mut reader = open(ReadFrom::First).await;
    // What comes later does not belong to it.
    publish(10, BasicProperties::default().with_timestamp(seconds)).await;
    let mut count = 0;
    while reader.next_to_the_end().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 5_000);
    let hour = SignedDuration::from_hours(1);
    assert!(open(ReadFrom::Time(now + hour)).await.is_caught_up(), "nothing is as late");
    let mut reader = open(ReadFrom::Time(now - hour)).await;
    assert!(!reader.is_caught_up());
    while reader.next_to_the_end().await.unwrap().is_some() {}
    assert!(open(ReadFrom::Offset(5_010)).await.is_caught_up());
    assert!(!open(ReadFrom::Offset(5_009)).await.is_caught_up());
}

/// `SLUICE_KILLS` makes it longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_killed_in_the_middle_of_replays_loses_nothing_and_creates_nothing_twice()
{
    let kills: u64 = number("SLUICE_KILLS", 3, 10);
    for (seed, kind) in (17..).zip(BOTH) {
        let desk = Desk::new(kind).await;
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let spec = Spec::new(&desk.lane.url, &desk.lane.queues, &sandbox.base_url, "1000/s");
        let worker = Process::start(&spec, desk.dir.path(), "worker");
        worker.active().await;
        let letters = killed_while_replaying(&desk, 1000, kills, seed).await;
        desk.depths(0, 0).await;
        let idle = |status: &sluicegate::message::status::Status| {
            let window = &status.window;
            status.settled >= letters as u64
                && window.ready + window.waiting + window.in_flight + window.settling == 0
        };
        worker.until("done", Duration::from_secs(120), idle).await;
        let stats = sandbox.stats(&[]);
        assert_eq!(stats.created_twice.sources, 0, "{:?}", stats.created_twice);
        assert_eq!(sandbox.tasks().len(), letters, "nothing is lost");
        let acts = desk.review().acts(|act| act.action == Action::Replay).await.unwrap();
        let of_each: BTreeSet<_> = acts.iter().map(|act| act.letter).collect();
        assert_eq!(of_each.len(), letters, "all of them stand in the audit");
        let (kind, acts) = (kind.as_str(), acts.len());
        println!(
            "{kind}: {kills} kills, {acts} replays of {letters} dead letters, {:?}",
            stats.calls
        );
        worker.stop().await;
    }
}

/// Replays all dead letters with commands that are killed at random points, and one that is not; how many there were.
async fn killed_while_replaying(desk: &Desk, letters: usize, kills: u64, seed: u64) -> usize {
    desk.dead(servers(0..letters)).await;
    let mut letters = letters;
    let mut random = fastrand::Rng::with_seed(seed);
    // About how long a command takes here.
    let mut whole = Duration::from_secs(2);
    let (mut hit, mut moved) = (0, 0);
    while hit < kills {
        let start = Instant::now();
        let mut command = desk.command(&["replay", "--all", "--yes"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let after = whole.mul_f64(random.f64());
        wait::until(whole + SOON, async || {
            let is_over = start.elapsed() >= after || child.try_wait().unwrap().is_some();
            is_over.then_some(()).ok_or_else(|| "it runs".into())
        })
        .await;
        if child.try_wait().unwrap().is_some() {
            // It was faster: kill earlier from now on, with more dead letters to move.
            whole = start.elapsed();
            desk.dead(servers(letters..letters + 250)).await;
            letters += 250;
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
            hit += 1;
            let acts = desk.review().acts(|_| true).await.unwrap().len();
            moved += u64::from(acts > 0);
        }
    }
    println!("{hit} kills, {moved} of them after something had moved; {letters} dead letters");
    desk.said(0, &["replay", "--all", "--yes"]);
    letters
}
