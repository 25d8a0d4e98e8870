//! What was wrong, and where? Collects violations and warnings with their JSON pointers, bounded in number and length.

use std::fmt::Write as _;

use super::Violation;

/// As many violations, and as many warnings, are reported of one body; the last line says how many more there are.
const MAX_REPORTED: usize = 100;
/// The longest text that is shown of a value, in characters.
const MAX_SHOWN: usize = 60;
/// The longest pointer, in bytes: the names of unknown fields are the sender's.
const MAX_POINTER: usize = 512;

/// What is found where a field is not there; what is allowed then begins with `required`.
pub const ABSENT: &str = "absent";

/// One step from the body to a value.
pub(super) enum Step {
    Known(&'static str),
    Unknown(Box<str>),
    Index(usize),
}

#[derive(Default)]
pub(super) struct Report {
    strict: bool,
    /// The way to the value that is being read.
    pub(super) path: Vec<Step>,
    violations: Listed,
    warnings: Listed,
}

#[derive(Default)]
struct Listed {
    list: Vec<Violation>,
    /// Those beyond [`MAX_REPORTED`].
    more: usize,
}

impl Report {
    pub(super) fn new(strict: bool) -> Self {
        Self { strict, path: Vec::with_capacity(16), ..Self::default() }
    }

    /// A rule is broken by the value that is being read. `what` says what was found and what is allowed.
    pub(super) fn refuse(&mut self, what: impl FnOnce() -> (String, String)) {
        self.violations.add(&self.path, None, what);
    }

    /// A rule is broken by a field of the object that is being read.
    pub(super) fn refuse_field(&mut self, name: &str, what: impl FnOnce() -> (String, String)) {
        self.violations.add(&self.path, Some(name), what);
    }

    /// A rule of the page is broken in a way that real use does without harm.
    pub(super) fn question(&mut self, what: impl FnOnce() -> (String, String)) {
        let listed = if self.strict { &mut self.violations } else { &mut self.warnings };
        listed.add(&self.path, None, what);
    }

    /// (violations, warnings)
    pub(super) fn finish(self) -> (Vec<Violation>, Vec<Violation>) {
        (self.violations.finish("violations"), self.warnings.finish("warnings"))
    }
}

impl Listed {
    fn add(&mut self, path: &[Step], field: Option<&str>, what: impl FnOnce() -> (String, String)) {
        if self.list.len() >= MAX_REPORTED {
            self.more += 1;
            return;
        }
        let (found, allowed) = what();
        self.list.push(Violation { pointer: pointer(path, field), found, allowed });
    }

    fn finish(mut self, what: &str) -> Vec<Violation> {
        if self.more > 0 {
            let allowed = format!("fix the first {MAX_REPORTED}, then check again");
            self.list.push(Violation {
                pointer: String::new(),
                found: format!("{} more {what}", self.more),
                allowed,
            });
        }
        self.list
    }
}

/// The JSON pointer (RFC 6901) of a path, and of a field below it.
fn pointer(path: &[Step], field: Option<&str>) -> String {
    let mut pointer = String::with_capacity(64);
    for step in path {
        pointer.push('/');
        match step {
            Step::Known(name) => pointer.push_str(name),
            Step::Unknown(name) => escape(name, &mut pointer),
            Step::Index(index) => {
                let _ = write!(pointer, "{index}");
            }
        }
    }
    if let Some(field) = field {
        pointer.push('/');
        escape(field, &mut pointer);
    }
    if pointer.len() > MAX_POINTER {
        let end = (0..=MAX_POINTER).rev().find(|&end| pointer.is_char_boundary(end)).unwrap_or(0);
        pointer.truncate(end);
        pointer.push('…');
    }
    pointer
}

fn escape(name: &str, pointer: &mut String) {
    for char in name.chars().take(MAX_POINTER) {
        match char {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            // a name with control characters must not play tricks on a terminal
            '"' | '\'' | '\\' => pointer.push(char),
            char => pointer.extend(char.escape_debug()),
        }
    }
}

/// A text as it is shown to people: quoted, without control characters or other tricks, shortened.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(MAX_SHOWN + 8);
    shown.push('"');
    let mut chars = text.chars();
    for char in chars.by_ref().take(MAX_SHOWN) {
        match char {
            '\'' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    let cut = chars.next().is_some();
    shown.push_str(if cut { "…\"" } else { "\"" });
    if cut {
        let _ = write!(shown, " ({} characters)", text.chars().count());
    }
    shown
}

/// What was found and what is allowed, as people say it: `found "x"; allowed: true or false`, `is missing; it is required: ...`.
pub fn says(found: &str, allowed: &str) -> String {
    if found == ABSENT {
        format!("is missing; it is {allowed}")
    } else {
        format!("found {found}; allowed: {allowed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_what_rfc_6901_says() {
        let path = [Step::Known("target_server"), Step::Unknown("a/b~c".into()), Step::Index(3)];
        assert_eq!(pointer(&path, Some("x")), "/target_server/a~1b~0c/3/x");
        assert_eq!(pointer(&[], None), "");
    }

    #[test]
    fn what_is_shown_is_short_and_plays_no_tricks() {
        assert_eq!(shown("a\u{202e}\n\"b'"), r#""a\u{202e}\n\"b'""#);
        let long = shown(&"x".repeat(70));
        assert_eq!(long, format!("\"{}…\" (70 characters)", "x".repeat(60)));
    }
}
