//! How is a text of somebody else shown so that it cannot deceive? Escaping of HTML is the templates' part.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest body that a page shows, in bytes.
pub(crate) const LONGEST: usize = 64 * 1024;

/// The longest text that stands in one line, in characters: what somebody calls a thing is shorter.
const LONGEST_LINE: usize = 4096;

/// Control characters, marks that turn the direction of a text and what cannot be seen at all become visible.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !is_white(c))
}

/// The same in one line, for a cell of a table: its beginning, and how much more there is of a very long one.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(LONGEST_LINE) else {
        return escaped(text, is_hidden);
    };
    let (start, rest) = text.split_at(end);
    format!("{}… ({} more characters)", escaped(start, is_hidden), rest.chars().count()).into()
}

/// What a terminal is given: [`visible`], and no line of more than [`LONGEST`] bytes.
pub(crate) fn terminal(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if text.len() <= LONGEST || text.lines().all(|line| line.len() <= LONGEST) {
        return text;
    }
    let lines =
        text.split_inclusive('\n').map(|line| match beginning(line.trim_end_matches('\n')) {
            (_, true) => Cow::Borrowed(line),
            (start, false) => {
                format!("{start}… ({} more bytes)\n", line.len() - start.len()).into()
            }
        });
    lines.collect::<String>().into()
}

/// A text as a log has it: in one line, escaped as in Rust, and not longer than [`LONGEST`] bytes.
pub(crate) fn log_line(text: &str) -> Cow<'_, str> {
    let (start, whole) = beginning(text);
    if whole && !text.contains(is_hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(start.len());
    for c in start.chars() {
        match c {
            c if is_hidden(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    if !whole {
        let _ = write!(shown, "… ({} more bytes)", text.len() - start.len());
    }
    shown.into()
}

/// What breaks lines and sets columns: white space that everybody sees.
fn is_white(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            // Writing to a text cannot fail.
            let _ = write!(shown, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// A JSON text in one line whose hidden characters are written as escapes: it stays the same to whoever reads it.
pub(crate) fn json_line(text: &str) -> String {
    json_escaped(text, is_hidden)
}

/// The same of a JSON text that may have lines of its own: within its texts white space is escaped already.
pub(crate) fn json_text(text: &str) -> String {
    json_escaped(text, |c| is_hidden(c) && !is_white(c))
}

fn json_escaped(text: &str, hidden: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A JSON text without the white space between its tokens.
pub(crate) fn squeezed(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let kept = text.chars().filter(|&c| {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            return true;
        }
        quoted = c == '"';
        !c.is_ascii_whitespace()
    });
    kept.collect()
}

/// A JSON text with lines and indents of its own; every token stays as it is. What is no JSON stays whole.
pub(crate) fn indented(text: &str) -> Cow<'_, str> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.into();
    }
    let mut lines = String::with_capacity(text.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            lines.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            _ if c.is_ascii_whitespace() => {}
            '{' | '[' => {
                lines.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    lines.push(end);
                } else {
                    depth += 1;
                    line(&mut lines, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut lines, depth);
                lines.push(c);
            }
            ',' => {
                lines.push(c);
                line(&mut lines, depth);
            }
            ':' => lines.push_str(": "),
            c => {
                quoted = c == '"';
                lines.push(c);
            }
        }
    }
    lines.into()
}

fn line(lines: &mut String, depth: usize) {
    lines.push('\n');
    lines.extend(std::iter::repeat_n("  ", depth));
}

/// `12,345`
pub(crate) fn grouped(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The beginning of a text, at most [`LONGEST`] bytes, and whether that is all.
pub(crate) fn beginning(text: &str) -> (&str, bool) {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (&text[..end], end == text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_shown() {
        assert_eq!(visible("a\u{202e}b\u{0}\r\n\tü"), "a⟨U+202E⟩b⟨U+0000⟩⟨U+000D⟩\n\tü");
        assert_eq!(visible("plain"), "plain");
        assert_eq!(one_line("a\n\u{1b}[2Jb\u{e0041}"), "a⟨U+000A⟩⟨U+001B⟩[2Jb⟨U+E0041⟩");
    }

    #[test]
    fn a_very_long_text_is_shown_by_its_beginning_and_the_length_of_its_rest() {
        let long = "x".repeat(LONGEST_LINE + 17);
        assert!(one_line(&long).ends_with("x… (17 more characters)"));
        let lines = format!("first\n{}\nlast\n", "x".repeat(LONGEST + 9));
        let shown = terminal(&lines);
        assert!(
            shown.starts_with("first\nx") && shown.ends_with("x… (10 more bytes)\nlast\n"),
            "{}",
            &shown[LONGEST..]
        );
        assert!(log_line(&lines).starts_with("first\\nx") && !log_line(&lines).contains('\n'));
        assert_eq!(log_line("a\u{202e}b\u{1b}[2J\"\\"), "a\\u{202e}b\\u{1b}[2J\"\\");
    }

    #[test]
    fn json_with_what_hides_reads_the_same() {
        let value = serde_json::json!("a\u{202e}\u{9b}\u{1b}\n\u{e0041}ü");
        let shown = json_line(&value.to_string());
        assert!(!shown.contains(is_hidden), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn indented_json_has_the_same_tokens() {
        let text = r#"{"a" :[1.50,{ },[ ]],"b\"{":"x, y:z\\","a":null}"#;
        let shown = indented(text);
        assert_eq!(
            shown,
            "{\n  \"a\": [\n    1.50,\n    {},\n    []\n  ],\n  \"b\\\"{\": \"x, y:z\\\\\",\n  \"a\": null\n}"
        );
        assert_eq!(indented("{no json"), "{no json");
        let bare = r#"{"a":[1.50,{},[]],"b\"{":"x, y:z\\","a":null}"#;
        assert_eq!(squeezed(&shown), bare);
    }

    #[test]
    fn long_numbers_are_grouped() {
        let told = [0_u64, 999, 1_000, 65_535, 1_234_567].map(grouped);
        assert_eq!(told, ["0", "999", "1,000", "65,535", "1,234,567"]);
    }

    #[test]
    fn a_beginning_ends_between_characters() {
        let text = "ü".repeat(LONGEST);
        let (start, whole) = beginning(&text);
        assert!(!whole && start.len() <= LONGEST && start.ends_with('ü'));
    }
}
