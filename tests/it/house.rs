//! The rooms of the crate and the arrows between them: each room uses only what stands before it in the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the ground floor up. `docs/architecture.md` says what each is for.
const ROOMS: [&str; 16] = [
    "contract", "config", "core", "message", "worker", "plan", "api", "review", "report",
    "sandbox", "broker", "planner", "observe", "lane", "web", "commands",
];

/// The same within the largest of them.
const BROKER: [&str; 14] = [
    "settings",
    "version",
    "sizes",
    "transport",
    "connection",
    "convert",
    "doors",
    "publish",
    "streams",
    "topology",
    "control",
    "consume",
    "session",
    "dead_letters",
];

/// Every source file below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => found.extend(files(&path)),
            Some(end) if end == "rs" => found.push(path),
            _ => {}
        }
    }
    found
}

/// Lines of code with their numbers; what documentation links to is no arrow, nor what the tests in a file use.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim().to_owned()));
    numbered.filter(|(_, line)| !line.starts_with("//")).collect()
}

/// The name of the room or folder that a file belongs to, below `root`.
fn room(root: &Path, path: &Path) -> String {
    let first = path.strip_prefix(root).unwrap().iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The names that follow `prefix` in a line: `crate::core::…`, `crate::{api, plan}`.
fn named(line: &str, prefix: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let rest = &line[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(list.split([',', '}']).map(name)),
            None => names.push(name(rest)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Arrows between rooms that lead to one that comes later in the list, and what is in neither list.
fn arrows_up(root: &Path, prefix: &str, rooms: &[&str], ignored: &[&str]) -> Vec<String> {
    let floor = |name: &str| rooms.iter().position(|room| *room == name);
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for path in files(root) {
        let from = room(root, &path);
        if ignored.contains(&&*from) {
            continue;
        }
        let Some(own) = floor(&from) else {
            wrong.push(format!("{}: a room that is not in the list", path.display()));
            continue;
        };
        for (number, line) in code(&path) {
            for to in named(&line, prefix) {
                match floor(&to) {
                    Some(other) if other > own => {
                        wrong.push(format!("{}:{number}: {from} uses {to}", path.display()));
                    }
                    Some(_) => arrows += 1,
                    None => {}
                }
            }
        }
    }
    assert!(arrows > 100, "only {arrows} arrows were found: they are written in another way");
    wrong
}

#[test]
fn no_room_uses_one_above_it() {
    let wrong = arrows_up(Path::new("src"), "crate::", &ROOMS, &["main", "lib"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let wrong = arrows_up(Path::new("src/broker"), "crate::broker::", &BROKER, &["mod"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rooms_are_those_that_the_architecture_names() {
    let lib = std::fs::read_to_string("src/lib.rs").unwrap();
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, BTreeSet::from(ROOMS));
    let page = std::fs::read_to_string("docs/architecture.md").unwrap();
    let missing: Vec<_> =
        ROOMS.iter().filter(|room| !page.contains(&format!("| `{room}` |"))).collect();
    assert!(missing.is_empty(), "docs/architecture.md says nothing of {missing:?}");
}

/// What only some rooms may know: the purity of the core, and where each library stands.
#[test]
fn libraries_stay_in_their_rooms() {
    let only: [(&str, &[&str]); 6] = [
        ("lapin::", &["broker"]),
        ("reqwest::", &["api", "commands"]),
        ("axum::", &["web", "sandbox"]),
        ("backoff::", &["core"]),
        ("governor::", &["core", "web"]),
        ("prometheus::", &["observe", "web"]),
    ];
    let root = Path::new("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files(root) {
        let own = room(root, &path);
        for (number, line) in code(&path) {
            let place = || format!("{}:{number}: {line}", path.display());
            for (library, rooms) in only {
                let named = line.match_indices(library).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                });
                if named {
                    seen.insert(library);
                    if !rooms.contains(&&*own) {
                        wrong.push(place());
                    }
                }
            }
            let pure = own == "core" || own == "contract";
            let impure = ["tokio", "async fn", "SystemTime", "Instant::now", "Timestamp::now"];
            if pure && impure.iter().any(|word| line.contains(word)) {
                wrong.push(place());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), only.len(), "a library that nobody names: {seen:?}");
}
