//! What if what a command has to say cannot be written? A full disk or a reader that has gone away must not look like
//! success: what was written so may be the only copy of something. The command goes on where it does more than tell (a
//! plan is enqueued whether or not anybody reads of it), and ends with an error.

use std::io::Write as _;
use std::sync::OnceLock;

use super::Failure;

/// Why stdout could not be written the first time. There is one stdout a process.
static FAILED: OnceLock<String> = OnceLock::new();

/// Prints to stdout; [`written`] says whether all of it could be.
pub(super) fn print(text: &str) {
    write(text.as_bytes());
}

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
