//! What is a task called that is drafted? As its server, in the characters that the API takes, and each once.

use std::collections::HashSet;

/// The longest name, in characters.
const LONGEST: usize = 64;

/// A name for each server, by its own name and its id.
pub(super) fn names<'a>(servers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut taken = HashSet::new();
    servers
        .map(|(name, id)| {
            let name = valid(name, id);
            let mut unique = name.clone();
            let mut number = 1_u32;
            while !taken.insert(unique.clone()) {
                number += 1;
                let end = format!("-{number}");
                unique = format!("{}{end}", cut(&name, LONGEST - end.len()));
            }
            unique
        })
        .collect()
}

/// Letters, digits, `_` and `-`; what is between them becomes one `-`.
fn valid(name: &str, id: &str) -> String {
    let plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let words: Vec<String> = name
        .split(|char: char| !plain(&char))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let name = words.join("-");
    if name.is_empty() {
        let id: String = id.chars().filter(plain).take(8).collect();
        return format!("server-{id}");
    }
    cut(&name, LONGEST).to_owned()
}

/// Of a text in ASCII.
fn cut(name: &str, length: usize) -> &str {
    name.get(..length).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_each_is_there_once() {
        let long = "x".repeat(80);
        let given = [
            ("web 1 (old)", "a"),
            ("web-1-old", "b"),
            ("数据库", "0123456789ab"),
            ("", "0123456789ab"),
            (&long, "c"),
            (&long, "d"),
            ("=cmd|' /C'", "e"),
        ];
        let names = names(given.into_iter());
        assert_eq!(
            names[..4],
            ["web-1-old", "web-1-old-2", "server-01234567", "server-01234567-2"]
        );
        assert_eq!((names[4].len(), names[5].len()), (64, 64));
        assert!(names[5].ends_with("x-2"));
        assert_eq!(names[6], "cmd-C");
    }
}
