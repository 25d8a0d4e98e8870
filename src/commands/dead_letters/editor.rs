//! How does a person fix a body? In their own editor, what is wrong with it in comments above it.

use std::fmt::Write as _;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;

use bytes::Bytes;

use super::super::{Failure, World};
use super::moving::Yes;
use super::{local, show};
use crate::contract::{self, Rules, Violation};
use crate::report::text::{indented, one_line, squeezed};
use crate::review::DeadLetter;
use crate::review::edit::differences;

/// Lines above the body that begin so are not of it.
const COMMENT: &str = "//";

/// The fixed body, valid; `None` if it was left as it is.
///
/// # Errors
/// There is no editor, it failed, or the body is still invalid and nobody wants to go on.
pub(super) fn edit(
    letter: &DeadLetter,
    body: &[u8],
    rules: &Rules,
    once: bool,
    world: &World,
) -> Result<Option<Bytes>, Failure> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(Failure::usage(
            "the body is not UTF-8, so no editor can keep it: export it, fix the file, discard the dead letter and import it",
        ));
    };
    let start = indented(text).into_owned();
    let mut head = head(letter);
    let mut shown = start.clone();
    loop {
        let edited = in_editor(&format!("{head}{shown}\n"), world)?;
        let fixed = without_comments(&edited).trim();
        if fixed == start.trim() || differences(body, fixed.as_bytes()).is_empty() {
            return Ok(None);
        }
        // In one line if it came in one.
        let new = if text.contains('\n') { fixed.to_owned() } else { squeezed(fixed) };
        let new = Bytes::from(new);
        let Err(invalid) = contract::read(&new, rules) else { return Ok(Some(new)) };
        invalid.violations.iter().for_each(|one| eprintln!("  {}", show::violation(one)));
        let question = "it is not valid like this. edit it again?";
        if once || !world.stdin_is_terminal || !again(question) {
            let why = "the body would still be invalid; nothing was done";
            return Err(Failure::invalid_plan(why));
        }
        head = wrong(&invalid.violations);
        fixed.clone_into(&mut shown);
    }
}

fn again(question: &str) -> bool {
    Yes::ask().confirmed(question)
}

/// What is known about the dead letter, as comments.
fn head(letter: &DeadLetter) -> String {
    let mut head = format!("{COMMENT} {}\n", one_line(&letter.reason));
    for one in &letter.violations {
        let _ = writeln!(head, "{COMMENT}   {}", show::violation(one));
    }
    let failed = letter.failed_at.map(local).unwrap_or_default();
    let _ = writeln!(head, "{COMMENT} dead letter {}, failed {failed}", letter.id);
    let _ =
        writeln!(head, "{COMMENT} Fix the body below, save and leave. Unchanged: nothing is done.");
    head
}

fn wrong(violations: &[Violation]) -> String {
    let mut head = format!("{COMMENT} It is not valid yet:\n");
    for one in violations {
        let _ = writeln!(head, "{COMMENT}   {}", show::violation(one));
    }
    head
}

/// The text below the comments on top. JSON has none, so nothing of a body is lost.
fn without_comments(text: &str) -> &str {
    let mut rest = text.trim_start_matches('\u{feff}');
    while let Some(line) = rest.lines().next()
        && (line.trim().is_empty() || line.trim_start().starts_with(COMMENT))
    {
        rest = rest.get(line.len()..).unwrap_or("").trim_start_matches(['\r', '\n']);
        if rest.is_empty() {
            break;
        }
    }
    rest
}

/// The text as the editor left it. The file is nobody else's to read.
fn in_editor(text: &str, world: &World) -> Result<String, Failure> {
    let wrong = |e: std::io::Error| Failure::usage(format!("cannot write a temporary file: {e}"));
    let mut file = tempfile::Builder::new()
        .prefix("dead-letter-")
        .suffix(".jsonc")
        .tempfile()
        .map_err(wrong)?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(wrong)?;
    start(file.path(), world)?;
    // Some editors write another file in its place, so it is read by its name.
    let _ = file.as_file_mut().rewind();
    std::fs::read_to_string(file.path())
        .map_err(|e| Failure::usage(format!("cannot read what the editor left: {e}")))
}

fn start(file: &Path, world: &World) -> Result<(), Failure> {
    let named = |name: &str| world.env.get(name).filter(|value| !value.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).map_or("vi", String::as_str);
    // As git does it: the editor may have arguments of its own.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status()
        .map_err(|e| Failure::usage(format!("cannot start the editor `{editor}`: {e}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the editor `{editor}` ended with {status}, so nothing was done; set VISUAL or EDITOR, or give --set"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_on_top_go_and_nothing_else_does() {
        for (text, body) in [
            ("// a\n//b\r\n\n{\"u\": \"// x\"}\n", "{\"u\": \"// x\"}\n"),
            ("{\n// inside\n}", "{\n// inside\n}"),
            ("\u{feff}// a\n[]", "[]"),
            ("// only", ""),
            ("", ""),
            ("\n\n", ""),
        ] {
            assert_eq!(without_comments(text), body, "{text:?}");
        }
    }
}
