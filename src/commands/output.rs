//! How does what a command says reach its reader? As text or as JSON that cannot move a cursor, turn a line round or hide a
//! thing, whoever wrote what is in it: everything goes through here, so no command can forget it. And what if it cannot
//! be written? A full disk or a reader that has gone away must not look like
//! success: what was written so may be the only copy of something. The command goes on where it does more than tell (a
//! plan is enqueued whether or not anybody reads of it), and ends with an error.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::OnceLock;

use super::Failure;
use crate::report::text::{json_text, terminal};

/// Why stdout could not be written the first time. There is one stdout a process.
static FAILED: OnceLock<String> = OnceLock::new();

/// Prints a text to stdout; [`written`] says whether all of it could be.
pub(super) fn print(text: &str) {
    write(terminal(text).as_bytes());
}

/// Prints JSON to stdout, the same to whoever reads it: what hides is written as escapes.
pub(super) fn print_json(text: &str) {
    write(json_text(text).as_bytes());
}

/// Tells something on stderr. There is nobody to be told that it cannot be written, and no reason to end for it.
pub(super) fn tell(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(terminal(&text.to_string()).as_bytes());
}

/// Prints what the command line's reader has to say: help, or what is wrong with an argument, which may be the text of a
/// stranger (a script passes on what it was given).
///
/// # Errors
/// It cannot be written.
pub fn print_usage(told: &clap::Error) -> std::io::Result<()> {
    let plain = told.render().to_string();
    match terminal(&plain) {
        Cow::Owned(safe) if told.use_stderr() => std::io::stderr().write_all(safe.as_bytes()),
        // Nothing hides in it; the library knows colours.
        _ => told.print(),
    }
}

/// Writes a file to stdout, byte for byte.
pub(super) fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        let _ = FAILED.set(error.to_string());
    }
}

/// Whether all that was printed has been written.
///
/// # Errors
/// Says why not.
pub(super) fn written() -> Result<(), Failure> {
    let what = |error| {
        Failure::usage(format!(
            "stdout cannot be written, so what stands there is not whole: {error}; give it a place with room, and a reader that stays"
        ))
    };
    FAILED.get().map_or(Ok(()), |error| Err(what(error)))
}
