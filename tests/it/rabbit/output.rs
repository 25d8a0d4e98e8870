//! What if the output of a command cannot be written? Every command that says something on stdout ends with an error and
//! says why: on a disk that is full, and with a reader that has gone away.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use sluicegate::commands::Cli;
use sluicegate::sandbox::Options;

use super::planner::{Desk, lines, text};
use crate::replay::a_recording;

/// Every command that has none below it.
fn leaves() -> BTreeSet<String> {
    fn walk(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        let subs = command.get_subcommands().filter(|sub| sub.get_name() != "help");
        let mut none = true;
        for sub in subs {
            none = false;
            walk(sub, format!("{path} {}", sub.get_name()).trim(), found);
        }
        if none {
            found.insert(path.to_owned());
        }
    }
    let mut found = BTreeSet::new();
    walk(&Cli::command(), "", &mut found);
    found
}

/// How it ends and what it says, with stdout such.
fn ended(mut command: Command, stdout: Stdio) -> (Option<i32>, String) {
    let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn without_a_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Stands for a file of the case's own.
const FILE: &str = "FILE";

/// These say nothing on stdout, or nothing that ends them.
const SILENT: [&str; 5] = ["run", "topology apply", "config check", "completions", "plan fill"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_whose_output_cannot_be_written_ends_with_an_error() {
    let desk = Desk::new().await;
    let worker = desk.worker(Options::default()).await;
    let (plan, other) = (desk.plan(3), desk.path("other.jsonl"));
    std::fs::copy(&plan, &other).unwrap();
    let (plan, other) = (plan.to_str().unwrap(), other.to_str().unwrap());
    let enqueued = desk.sluice(&["enqueue", plan, "--json"]);
    let batch = lines(&enqueued)[0]["batch"].as_str().unwrap().to_owned();
    let watched = desk.sluice(&["watch", &batch, "--until-done"]);
    assert_eq!(watched.status.code(), Some(0), "{}", text(&watched.stderr));
    // Dead letters to look at, to note and to move.
    let client = desk.lane.client().await;
    for n in 0..12 {
        let properties = crate::support::rig::properties(&format!("bad-{n}"));
        client.publish(&desk.lane.queues.requests(), b"{}", properties).await;
    }
    client.wait_for_depth(&desk.lane.queues.dead_letters(), 12).await;
    let sandbox = format!("api.endpoint={}", worker.sandbox.base_url);
    let day = desk.path("day.jsonl");
    a_recording(&day).await;
    let day = day.to_str().unwrap();

    // In this order, each twice: a full disk, and no reader.
    let commands: Vec<(&str, Vec<&str>)> = vec![
        ("config show", vec![]),
        ("schema", vec!["request"]),
        ("schema", vec!["result"]),
        ("schema", vec!["asyncapi"]),
        ("plan template", vec!["--format", "csv"]),
        ("plan draft", vec!["-", "--format", "csv", "--share", "100%", "-o", &sandbox]),
        ("check", vec![plan]),
        ("topology show", vec![]),
        ("topology permissions", vec![]),
        ("topology check", vec!["--json"]),
        ("watch", vec![]),
        ("watch", vec![&batch, "--json"]),
        ("watch", vec![&batch]),
        ("report", vec![plan]),
        ("explain", vec!["SMS.6603"]),
        ("gate status", vec![]),
        ("gate list", vec![]),
        ("gate pause", vec!["--json"]),
        ("gate resume", vec!["--json"]),
        ("gate rate", vec!["configured", "--json"]),
        ("gate priority", vec!["nobody", "5", "--json"]),
        ("batch hold", vec!["nothing", "--unannounced"]),
        ("batch release", vec!["nothing", "--unannounced"]),
        ("batch move", vec!["nothing", "--unannounced", "--priority", "5"]),
        ("batch cancel", vec!["nothing", "--unannounced", "--json"]),
        ("replay", vec![day]),
        ("dead-letters list", vec![]),
        ("dead-letters list", vec!["--json"]),
        ("dead-letters show", vec!["bad-0"]),
        ("dead-letters show", vec!["bad-0", "--body"]),
        ("dead-letters note", vec!["bad-0", "seen"]),
        ("dead-letters edit", vec!["--all", "--set", "name=x", "--dry-run", "--json"]),
        ("dead-letters export", vec![FILE, "--format", "jsonl"]),
        ("dead-letters import", vec![FILE, "--format", "jsonl"]),
        ("dead-letters replay", vec!["--all", "--yes"]),
        ("dead-letters discard", vec!["--all", "--yes"]),
        ("dead-letters restore", vec!["--all", "--yes"]),
        ("dead-letters audit", vec![]),
        ("enqueue", vec![other, "--again"]),
        ("submit", vec![other, "--dry-run", "-o", &sandbox]),
    ];
    let mut tried: BTreeSet<String> = SILENT.iter().map(ToString::to_string).collect();
    for (name, arguments) in &commands {
        tried.insert((*name).to_owned());
        for (what, stdout) in [("full", full()), ("closed", without_a_reader())] {
            // A file that is there is left alone, so each has one of its own.
            let file = desk.path(what).to_str().unwrap().to_owned();
            let arguments = arguments.iter().map(|word| if *word == FILE { &*file } else { *word });
            let words: Vec<&str> = name.split(' ').chain(arguments).collect();
            let mut command = desk.command(&words);
            if ["schema", "plan template", "replay", "explain"].contains(name) {
                command = Command::new(env!("CARGO_BIN_EXE_sluice"));
                command.env_clear().args(&words);
            }
            command.env("SLUICE_API__AUTH__TOKEN", sluicegate::sandbox::TOKEN);
            let (code, said) = ended(command, stdout);
            assert!(code.is_some_and(|code| code != 0), "{words:?}, {what}: {code:?} {said}");
            assert!(
                said.contains("stdout cannot be written"),
                "{words:?}, {what}: {code:?} {said}"
            );
        }
    }
    for words in [
        &["--help"][..],
        &["--version"],
        &["help", "watch"],
        &["config", "show", "--default"],
        &["sandbox", "--listen", "127.0.0.1:0"],
        &["completions", "bash"],
        &["token", "new"],
    ] {
        tried.extend([words[0].to_owned(), words.join(" ")]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().args(words);
        let (code, _) = ended(command, full());
        assert_eq!(code, Some(2), "{words:?}");
    }
    let left: Vec<_> = leaves().difference(&tried).cloned().collect();
    assert!(left.is_empty(), "not tried: {left:?}");
}
