//! The words that people read, in code, messages and documents alike: those of `docs/architecture.md`, and none of the
//! ones that they replace.

use std::fs;
use std::path::{Path, PathBuf};

/// What is gone, and what is said in its place.
const GONE: [(&str, &str); 14] = [
    ("out of reach", "unreachable"),
    ("trying on", "retrying"),
    ("give back", "requeue"),
    ("gives back", "requeues"),
    ("giving back", "requeuing"),
    ("given back", "requeued"),
    ("gave back", "requeued"),
    ("mend", "fix"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("mending", "fixing"),
    ("a look", "a look-up"),
    ("it is too much", "throttled"),
    ("tasks are in place", "tasks were created"),
];

/// This file says them all.
const SELF: &str = "words.rs";

/// Everything that a person reads: sources, tests, documents, the configuration that is shipped.
fn texts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> =
        ["src", "tests", "benches", "docs", "config", "scripts", "examples"]
            .map(|dir| root.join(dir))
            .into();
    let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
            if path.is_dir() && !path.ends_with("assets") && !path.ends_with("data") {
                open.push(path);
            } else if ["rs", "md", "toml", "yml", "tsv", "py", "sh", "js", ""].contains(&kind)
                && path.is_file()
            {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 300, "too few texts: {}", found.len());
    found
}

/// Whether `words` stand in `line` as words of their own.
fn says(line: &str, words: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-' || c == '_');
    line.match_indices(words).any(|(at, _)| {
        !part(line[..at].chars().next_back()) && !part(line[at + words.len()..].chars().next())
    })
}

#[test]
fn words_that_are_gone_stay_gone() {
    let mut wrong = Vec::new();
    for path in texts().iter().filter(|path| !path.ends_with(SELF)) {
        let Ok(text) = fs::read_to_string(path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            for (gone, now) in GONE {
                // Names are read, too; but there a look-up is one word.
                let in_a_name = gone != "a look" && says(&line.replace('_', " "), gone);
                if in_a_name || says(&line.replace("a look at", ""), gone) {
                    wrong.push(format!("{}:{}: `{gone}`; say `{now}`", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A delivery is requeued, whatever stands between the two old words.
#[test]
fn nothing_is_given_back() {
    let mut wrong = Vec::new();
    for path in texts().iter().filter(|path| !path.ends_with(SELF)) {
        let Ok(text) = fs::read_to_string(path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let words: Vec<String> = line.to_lowercase().split_whitespace().map(bare).collect();
            let gives = ["give", "gives", "giving", "gave", "given"];
            let back = |at: usize| words[at + 1..].iter().take(4).any(|word| word == "back");
            // The definition says what the word means.
            let defines = line.starts_with("| requeue |");
            if !defines && (0..words.len()).any(|at| gives.contains(&&*words[at]) && back(at)) {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A word without the marks around it.
fn bare(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
}

/// In the documents, in what commands say of themselves and in comments, a dead letter is never just a letter.
#[test]
fn a_dead_letter_is_never_just_a_letter() {
    let alphabet = [
        "letters, digits",
        "drive letter",
        "letters and digits",
        "small letters",
        "ascii letters",
        "its letters",
        "letters of ascii",
        "letters of a column",
    ];
    let mut wrong = Vec::new();
    let is = |path: &Path, ending: &str| path.extension().is_some_and(|end| end == ending);
    let source =
        |path: &Path| is(path, "rs") && path.components().any(|part| part.as_os_str() == "src");
    for path in texts().iter().filter(|path| is(path, "md") || source(path)) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if source(path) && !line.trim_start().starts_with("//") {
                continue;
            }
            // A flag of that name lists each.
            let line = line.to_lowercase().replace("--letters", "");
            let bare = line.match_indices("letter").any(|(at, _)| {
                let before = &line[..at];
                let word = !before.ends_with(|c: char| c.is_alphanumeric() || "-_/.`".contains(c));
                word && !before.ends_with("dead ")
            });
            if bare && !alphabet.iter().any(|words| line.contains(words)) {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
