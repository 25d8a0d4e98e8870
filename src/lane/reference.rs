//! What does every key mean? The page `docs/configuration.md`: from the comments and values of the embedded default, and
//! from what the structs of the sections take.

use std::fmt::Write as _;

use super::{Config, DEFAULT, HOT, variable};
use crate::config::read::{self, Learned};
use crate::config::{Problems, tree};

const INTRO: &str = "\
# Configuration: every key

Written by the tests from `config/sluice.toml` and from the types that read it: change those, not this page.

A configuration is one TOML file for each lane; `sluice config show --default` prints the commented default, from which the
program itself starts, so a file needs only what differs. A variable of the environment goes before the file, and a flag
(`-o limits.rates=5/s`) before both. `sluice config check -c FILE` tells all mistakes at once, with line and column, and
`sluice config show -c FILE` what holds and where each value comes from. Where no file is named (`-c`, `SLUICE_CONFIG`),
`./sluice.toml` is used if it is there, and that is said; `run` and `config check` take no file that is not named.

| type | is written |
|---|---|
| duration | `\"250ms\"`, `\"1.5s\"`, `\"20m\"`, `\"24h\"`, `\"1h 30m\"` |
| size | `\"64KiB\"`, `\"256MiB\"`, `\"1GB\"`, or a number of bytes |
| list | `[\"2/s\", \"60/min\"]`; in the environment `2/s, 60/min` |
| secret | a text that is never shown; better is its key that ends in `_file` |
| file | a path |

**live**: read again on SIGHUP (`systemctl reload sluice`), in every lane, if all files hold; a mistake changes nothing, and
the log says what it is. All other keys hold until a restart; the log names those that have changed. Rates that an
operator has set (`sluice gate rate`) go before the file until `sluice gate rate configured`.
";

/// A key as it stands in the default file.
struct Key {
    path: String,
    /// As it is written there; `None`: it has no default.
    default: Option<String>,
    /// Empty: it shares the comment of the key above.
    meaning: String,
}

/// The page.
///
/// # Errors
/// The embedded default cannot be read: this is a bug.
pub fn reference() -> Result<String, Problems> {
    let learned = learned()?;
    let mut page = INTRO.to_owned();
    let mut section = String::new();
    let mut said_by = String::new();
    for key in keys(DEFAULT, &learned) {
        let (of, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        if of != section {
            of.clone_into(&mut section);
            let _ = write!(
                page,
                "\n## `[{of}]`\n\n| key | type | default | from the environment | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let default = key.default.map(|value| format!("`{value}`")).unwrap_or_default();
        let mut meaning = if key.meaning.is_empty() {
            format!("See `{said_by}`.")
        } else {
            name.clone_into(&mut said_by);
            key.meaning.replace('|', "\\|")
        };
        if HOT.contains(&key.path.as_str()) {
            meaning.push_str(" **live**");
        }
        let kind = kind(&key.path, &learned);
        let _ = writeln!(
            page,
            "| `{name}` | {kind} | {default} | `{}` | {meaning} |",
            variable(&key.path)
        );
    }
    Ok(page)
}

/// What the structs say when every key is given a value: the commented ones too.
fn learned() -> Result<Learned, Problems> {
    let all: Vec<&str> =
        DEFAULT.lines().map(|line| setting(line).map_or("", |_| uncommented(line))).collect();
    let sections =
        DEFAULT.lines().zip(all).map(|(line, key)| if is_section(line) { line } else { key });
    let text = sections.collect::<Vec<_>>().join("\n");
    let tree = tree::parse(&text, None).map_err(Problems::new)?;
    let defaults = tree::parse(DEFAULT, None).map_err(Problems::new)?;
    let (config, learned, problems) = read::read::<Config>(tree, &defaults);
    if config.is_some() && problems.is_empty() { Ok(learned) } else { Err(Problems::new(problems)) }
}

/// Every key, with the comment above it.
fn keys(text: &str, learned: &Learned) -> Vec<Key> {
    let (mut keys, mut section, mut comment) = (Vec::new(), "", Vec::new());
    for line in text.lines() {
        if is_section(line) {
            section = line.trim_matches(['[', ']']);
            comment.clear();
        } else if let Some((name, value)) = setting(line) {
            let path = format!("{section}.{name}");
            let value = value.split(" # ").next().unwrap_or(value).trim();
            let default = learned.keys.contains(&path) && !line.starts_with('#');
            let meaning = comment.join(" ");
            comment.clear();
            keys.push(Key { path, default: default.then(|| value.to_owned()), meaning });
        } else {
            comment.extend(line.strip_prefix("# "));
        }
    }
    keys
}

fn is_section(line: &str) -> bool {
    line.starts_with('[')
}

/// `key = value`, commented or not.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (name, value) = uncommented(line).split_once(" = ")?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_name.then_some((name, value))
}

fn uncommented(line: &str) -> &str {
    line.strip_prefix("# ").unwrap_or(line)
}

/// The type of a key's value, in the words of the page.
fn kind(path: &str, learned: &Learned) -> String {
    let is_url = |url: &String| url == path || url.starts_with(&format!("{path}."));
    let read_as = learned.kinds.get(path).map_or("", String::as_str);
    match read_as {
        _ if learned.secrets.contains(path) => "secret".to_owned(),
        _ if learned.urls.iter().any(is_url) => "url, or a list".to_owned(),
        "a string" | "a borrowed string" => "text".to_owned(),
        "path string" => "file".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "list".to_owned(),
        "f64" => "number".to_owned(),
        "u8" | "u16" | "u32" | "u64" => "whole number".to_owned(),
        other if other.starts_with("a duration") => "duration".to_owned(),
        other if other.starts_with("a size") => "size".to_owned(),
        other => match other.strip_prefix("one of ") {
            Some(words) => {
                words.split(", ").map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            None => other.to_owned(),
        },
    }
}
