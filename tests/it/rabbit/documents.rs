//! The commands of the documents, run as they stand there.

use std::path::Path;
use std::process::{Command, Stdio};

use sluicegate::broker::settings::QueueType;

use super::monitoring::free_address;
use crate::support::rabbit::{Lane, Node};

/// The blocks of a page that are marked as a shell's.
fn shell(page: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    script
}

#[test]
fn the_commands_of_getting_started_do_what_the_page_says() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    let page = shell(include_str!("../../../docs/getting-started.md"));
    // As on the page, but for what other tests use at the same time.
    let script = page
        .replace("amqp://guest:guest@127.0.0.1:5672/%2f", &node.url)
        .replace("127.0.0.1:9465", &free_address());
    assert_ne!(script, page);
    let listen = free_address();
    let script = script.replace("127.0.0.1:9464", &listen);
    let dir = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_sluice")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut shell = Command::new("timeout")
        .args(["240", "bash", "-euo", "pipefail", "-c", &format!("set -m\n{script}wait\n")])
        .current_dir(dir.path())
        .env("PATH", path)
        .env("SLUICE_QUEUES__PREFIX", &lane.queues.prefix)
        .env("SLUICE_HTTP__LISTEN", &listen)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    let status = shell.wait().unwrap();
    let (out, err) = (std::fs::read_to_string(out).unwrap(), std::fs::read_to_string(err).unwrap());
    assert!(status.success(), "{status} after {:?}\n{out}\n{err}", start.elapsed());
    assert!(out.contains("713 requests, 713 valid"), "{out}\n{err}");
    assert!(out.contains("\"created\":713") || out.contains("\"created\": 713"), "{out}\n{err}");
    assert!(out.contains("\"max_calls\"") || out.contains("created_twice"), "{out}\n{err}");
}

/// The words after `rabbitmqctl` in every page.
fn broker_commands() -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = std::fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let mut words = Vec::new();
    for page in pages {
        let page = std::fs::read_to_string(page).unwrap();
        for piece in page.split("rabbitmqctl ").skip(1) {
            let word = piece.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap();
            words.extend(Some(word.to_owned()).filter(|word| !word.is_empty() && word != "is"));
        }
    }
    assert!(words.len() > 5, "{words:?}");
    words
}

#[test]
fn every_command_of_rabbitmqctl_that_a_document_names_exists() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq");
    let help =
        Command::new(script).arg("ctl").arg(&Node::shared().dir).arg("help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let known: Vec<&str> = help.split_whitespace().collect();
    assert!(known.contains(&"list_queues"), "{help}");
    for word in broker_commands() {
        assert!(known.contains(&&*word), "rabbitmqctl {word} is no command");
    }
}
