//! Are the rights that are printed, documented and given in the composed stack the same? And does no role reach further
//! than it says?

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use sluicegate::broker::settings::{QueueType, Queues};
use sluicegate::broker::topology::Role;

fn queues(prefix: &str) -> Queues {
    Queues {
        prefix: prefix.into(),
        kind: QueueType::Quorum,
        max_priority: 10,
        declare: true,
        results_retention: "30D".into(),
        audit_retention: "365D".into(),
    }
}

/// Whether the test is to write what it compares.
fn compare(file: &str, is: &str, should: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(is), "{file} has no such part");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text.replace(is, should)).unwrap();
        return;
    }
    assert_eq!(is, should, "{file}: run the tests with UPDATE_DOCS=1");
}

#[test]
fn the_table_of_roles_is_of_this_code() {
    let mut page = String::from(
        "<!-- roles -->\n| role | does | configure | write | read | routing keys that it may write |\n|---|---|---|---|---|---|\n",
    );
    // A bar would end the cell, even in code.
    let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
    for role in Role::ALL {
        let rights = role.rights(&queues("sluice"));
        let topics: Vec<_> = rights
            .topics
            .iter()
            .map(|topic| format!("`{}`: {}", topic.exchange, code(&topic.write)))
            .collect();
        let topics = if topics.is_empty() { "all".to_owned() } else { topics.join("; ") };
        let [configure, write, read] =
            [&rights.configure, &rights.write, &rights.read].map(|text| code(text));
        let _ = writeln!(
            page,
            "| {} | {} | {configure} | {write} | {read} | {topics} |",
            role.as_str(),
            role.does()
        );
    }
    page += "<!-- /roles -->\n";
    let text = include_str!("../../docs/security.md");
    let (from, to) =
        (text.find("<!-- roles -->").unwrap(), text.find("<!-- /roles -->\n").unwrap());
    compare("docs/security.md", &text[from..to + "<!-- /roles -->\n".len()], &page);
}

#[test]
fn the_composed_stack_gives_its_user_the_workers_role() {
    let text = include_str!("../../config/compose/rabbitmq.conf");
    let start = "# The one user is the worker";
    let from = text.find(start).unwrap();
    let line = text[from..].lines().next().unwrap();
    let should = format!("{line}\n{}", Role::Worker.rights(&queues("sluice")).conf());
    compare("config/compose/rabbitmq.conf", &text[from..], &should);
}

#[test]
fn a_prefix_is_meant_letter_by_letter_and_no_role_has_the_default_exchange() {
    for role in Role::ALL {
        let rights = role.rights(&queues("a.b"));
        for pattern in [&rights.configure, &rights.write, &rights.read] {
            assert!(pattern.starts_with(r"^a\.b\.") && pattern.ends_with('$'), "{pattern}");
            assert!(!pattern.contains("amq"), "{pattern}");
        }
    }
    // Another prefix that begins the same is another one's.
    assert!(!Role::Worker.rights(&queues("sluice")).write.contains(".*"));
}

fn printed(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .env_clear()
        .args(["topology", "permissions", "-o", "queues.prefix=sluice"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn permissions_are_printed_as_commands_as_definitions_and_as_configuration() {
    let (code, lines, _) = printed(&["-o", "broker.url=amqp://127.0.0.1/team"]);
    assert_eq!(code, Some(0));
    assert_eq!(lines.matches("rabbitmqctl set_permissions -p 'team' ").count(), 4);
    assert!(
        lines.contains("'sluice-planner' '^sluice\\.(leasing|control\\.[0-9a-f]{32})$'"),
        "{lines}"
    );

    let (_, one, _) = printed(&["--role", "operator", "--user", "o'brien"]);
    assert!(one.contains(r"'o'\''brien'") && !one.contains("planner"), "{one}");

    let (_, definitions, _) = printed(&["--json"]);
    let definitions: serde_json::Value = serde_json::from_str(&definitions).unwrap();
    assert_eq!(definitions["permissions"].as_array().unwrap().len(), 4);
    assert_eq!(definitions["permissions"][0]["vhost"], "/");
    assert_eq!(definitions["topic_permissions"][0]["exchange"], "sluice.control");

    let (_, conf, _) = printed(&["--role", "worker", "--conf"]);
    assert!(conf.starts_with("default_permissions.configure = ^sluice\\."), "{conf}");
    let (code, _, why) = printed(&["--role", "planner", "--conf"]);
    assert!(code == Some(2) && why.contains("--json"), "{why}");
    let (code, _, why) = printed(&["--user", "ada"]);
    assert!(code == Some(2) && why.contains("--role"), "{why}");
}
