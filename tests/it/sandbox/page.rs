//! Is `docs/sandbox.md` true? Its JSON is read, its commands are run.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluicegate::sandbox::{Fault, NewTask, Options, Sandbox};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sandbox.md");
    std::fs::read_to_string(path).unwrap()
}

/// The fenced blocks of this kind.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let opening = format!("```{kind}\n");
    let rest = page.split(&opening).skip(1);
    rest.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_page_shows_every_option_with_its_default() {
    let shown: Value = serde_json::from_str(&blocks(&page(), "json options")[0]).unwrap();
    let read: Options = serde_json::from_value(shown.clone()).unwrap();
    assert_eq!(read, Options::default());
    let all = serde_json::to_value(Options::default()).unwrap();
    let keys = |value: &Value| -> Vec<String> {
        let sections = value.as_object().unwrap().iter();
        sections
            .flat_map(|(name, section)| {
                let inner = section.as_object().map(|keys| keys.keys().cloned().collect());
                let inner: Vec<String> = inner.unwrap_or_default();
                inner.into_iter().map(move |key| format!("{name}.{key}")).chain([name.clone()])
            })
            .collect()
    };
    assert_eq!(keys(&shown), keys(&all));
}

#[test]
fn the_fault_scripts_of_the_page_show_every_action() {
    let mut words = String::new();
    for script in blocks(&page(), "json faults") {
        let faults: Vec<Fault> = serde_json::from_str(&script).unwrap();
        words += &serde_json::to_string(&faults).unwrap();
    }
    let actions = [
        "nothing",
        "answer",
        "reset",
        "close",
        "hang",
        "late",
        "garbage",
        "not_json",
        "no_id",
        "slow",
        "truncated",
    ];
    for action in actions {
        assert!(words.contains(&format!("\"{action}\"")), "{action} has no example");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_work_as_they_stand() {
    let page = page();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("faults.json", &blocks(&page, "json faults")[0]);
    let tasks = &blocks(&page, "json tasks")[0];
    assert_eq!(serde_json::from_str::<Vec<NewTask>>(tasks).unwrap().len(), 3);
    write("tasks.json", tasks);
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let commands = blocks(&page, "sh").concat().replace("http://127.0.0.1:9465", &sandbox.base_url);
    // An HTTP error is an error here, though curl alone would not say so.
    let script = format!("set -e\ncurl() {{ command curl -fsS \"$@\"; }}\n{commands}");
    let ran = tokio::task::spawn_blocking(move || {
        Command::new("sh").args(["-c", &script]).current_dir(directory.path()).output().unwrap()
    });
    let ran = ran.await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let options = sandbox.options();
    assert_eq!(options.quota.limits.len(), 2, "the last command patched the options");
    assert!(sandbox.tasks().is_empty(), "all tasks were dropped by the reset");
}
