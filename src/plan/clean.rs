//! What did a person mean to type? Takes off what nobody means (blanks around a text, the marks by which spreadsheets
//! keep a text), and refuses what nobody can see or tell apart.

use std::borrow::Cow;

/// A text without what nobody means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clean<'a> {
    pub text: Cow<'a, str>,
    /// What was taken off beside blanks: worth a word.
    pub taken: Option<&'static str>,
}

/// Why a text is not sent: what was found (beside the text), what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclear {
    pub found: String,
    pub advice: Cow<'static, str>,
}

/// Characters without a width or a picture.
fn invisible(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Blanks, and what is no more than one around a text.
fn unmeant(char: char) -> bool {
    char.is_whitespace() || invisible(char)
}

/// The text without what nobody sees around it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(unmeant)
}

/// Whether things are told from others by a field of this name.
pub(super) fn is_id(name: &str) -> bool {
    matches!(name, "id" | "uuid") || name.ends_with("_id")
}

/// Whether somebody can see any of it.
pub(super) fn is_visible(text: &str) -> bool {
    text.chars().any(|char| !unmeant(char))
}

/// A text as it is to be sent. `id`: of something that is told from others by it.
pub(super) fn clean(text: &str, id: bool) -> Result<Clean<'_>, Unclear> {
    let trimmed = trim(text);
    let clean = without_mark(trimmed);
    if let Some(error) = any_error_of(&clean.text) {
        return Err(unclear(format!("the error {error}"), FIX));
    }
    if clean.text.starts_with('=') {
        return Err(unclear(
            "a formula as text".to_owned(),
            "put the formula's result in its place",
        ));
    }
    if let Some(hidden) = clean.text.chars().find(|char| is_hidden(*char)) {
        let found = format!("{}, {}", in_words(hidden), position(&clean.text, hidden));
        return Err(unclear(found, "nobody can see it: type the value again"));
    }
    if id && let Some(wrong) = clean.text.chars().find(|char| !char.is_ascii()) {
        let found = format!("{}, {}", in_words(wrong), position(&clean.text, wrong));
        let advice = match plain(wrong) {
            Some(right) => format!("it only looks like {right:?}: type the value again").into(),
            None => "ids are of ASCII letters: type the value again".into(),
        };
        return Err(Unclear { found, advice });
    }
    if is_rounded(&clean.text) {
        let found = "a number that a spreadsheet has cut short".to_owned();
        return Err(unclear(
            found,
            "its digits are lost: format the column as Text, type the value again",
        ));
    }
    Ok(clean)
}

pub(super) const FIX: &str = "correct the formula, or put the value in its place";

fn unclear(found: String, advice: &'static str) -> Unclear {
    Unclear { found, advice: advice.into() }
}

/// `="0012"` and `'0012` are how spreadsheets and their exports keep a text a text.
fn without_mark(text: &str) -> Clean<'_> {
    if let Some(inner) = text.strip_prefix("=\"").and_then(|rest| rest.strip_suffix('"'))
        && inner.matches('"').count() == 2 * inner.matches("\"\"").count()
    {
        let text = trim(inner).replace("\"\"", "\"").into();
        return Clean { text, taken: Some("=\"...\" around a text") };
    }
    match text.strip_prefix(['\'', '\u{2019}']) {
        Some(rest) => {
            Clean { text: trim(rest).into(), taken: Some("an apostrophe in front of a text") }
        }
        None => Clean { text: text.into(), taken: None },
    }
}

/// A character within a text that cannot be seen, or not be told from another.
fn is_hidden(char: char) -> bool {
    invisible(char)
        || char == '\u{fffd}'
        || (char.is_whitespace() && char != ' ' && char != '\u{3000}')
}

/// What a look-alike of an ASCII character is taken for.
fn plain(char: char) -> Option<char> {
    match char {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2043}' | '\u{fe58}' | '\u{fe63}' => Some('-'),
        // the wide forms
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(char) - 0xfee0),
        // Cyrillic and Greek
        '\u{430}' => Some('a'),
        '\u{435}' => Some('e'),
        '\u{441}' => Some('c'),
        '\u{410}' | '\u{391}' => Some('A'),
        '\u{412}' | '\u{392}' => Some('B'),
        '\u{415}' | '\u{395}' => Some('E'),
        '\u{421}' => Some('C'),
        '\u{43e}' | '\u{3bf}' => Some('o'),
        '\u{41e}' | '\u{39f}' => Some('O'),
        _ => None,
    }
}

fn in_words(char: char) -> String {
    let name = match char {
        '\n' | '\r' | '\u{2028}' | '\u{2029}' => "a line end",
        '\t' => "a tab",
        '\u{a0}' | '\u{202f}' | '\u{2007}' => "a no-break space",
        '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{feff}' => "a zero-width character",
        '\u{fffd}' => "a character that could not be read",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "a dash",
        char if char.is_control() => "a control character",
        char if invisible(char) => "an invisible character",
        _ => "a character that is not ASCII",
    };
    format!("{name} (U+{:04X})", u32::from(char))
}

fn position(text: &str, wanted: char) -> String {
    let at = text.chars().position(|char| char == wanted).unwrap_or(0) + 1;
    format!("character {at} of it")
}

/// Digits with an exponent, as a spreadsheet shows a long number: `1.23E+15`.
pub(super) fn is_rounded(text: &str) -> bool {
    let Some((digits, exponent)) = text.split_once(['E', 'e']) else { return false };
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    let figures = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| match text.split_once(['.', ',']) {
        Some((whole, rest)) => figures(whole) && figures(rest),
        None => figures(text),
    };
    exponent.strip_prefix('+').is_some_and(figures) && number(digits)
}

/// The error that a spreadsheet shows in place of a value, in any language: `#N/A`, `#BEZUG!`, `#NOM?`, `Err:502`,
/// `#####`.
pub(super) fn error_of(text: &str) -> Option<&str> {
    const OTHERS: [&str; 14] = [
        "#N/A",
        "#NV",
        "#N/D",
        "#N/V",
        "#N/B",
        "#I/T",
        "#YOK",
        "#Н/Д",
        "#ND",
        "#NA",
        "#GETTING_DATA",
        "#HIÁNYZIK",
        "#TALAŞMA",
        "#VALUE",
    ];
    let rest = text.strip_prefix('#')?;
    let word =
        !rest.is_empty() && rest.chars().count() <= 24 && !rest.contains(char::is_whitespace);
    let error = OTHERS.iter().any(|error| text.eq_ignore_ascii_case(error))
        || rest.chars().all(|char| char == '#')
        || (rest.ends_with(['!', '?', '！', '？'])
            && rest.trim_start_matches(['¡', '¿']).starts_with(char::is_alphabetic));
    (word && error).then_some(text)
}

/// What no text of a field is but an error: also one that has lost its mark, and what a spreadsheet on the web shows until
/// it has calculated.
fn any_error_of(text: &str) -> Option<&str> {
    const OTHERS: [&str; 14] = [
        "#REF",
        "#NAME",
        "#NUM",
        "#DIV/0",
        "#NULL",
        "#ERROR",
        "#SPILL",
        "#CALC",
        "#BUSY",
        "#BEZUG",
        "#WERT",
        "#ZAHL",
        "Loading...",
        "Loading\u{2026}",
    ];
    let other = || OTHERS.contains(&text).then_some(text);
    error_of(text).or_else(|| office_error_of(text)).or_else(other)
}

/// `Err:502`: `LibreOffice`'s.
pub(super) fn office_error_of(text: &str) -> Option<&str> {
    let number = text.strip_prefix("Err:")?;
    (number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// What two ids have in common that people would take for the same: a UUID in any case, with or without hyphens.
pub(super) fn same(id: &str) -> Cow<'_, str> {
    match uuid::Uuid::try_parse(id.trim()) {
        Ok(id) => id.simple().to_string().into(),
        Err(_) if id.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            id.to_ascii_lowercase().into()
        }
        Err(_) => id.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match clean(text, true) {
            Ok(Clean { text, taken: None }) => format!("{text:?}"),
            Ok(Clean { text, taken: Some(taken) }) => format!("{text:?} without {taken}"),
            Err(unclear) => unclear.found,
        }
    }

    #[test]
    fn what_nobody_means_is_taken_off_and_what_nobody_sees_is_refused() {
        for (text, expected) in [
            ("  a b\u{a0}\r\n", "\"a b\""),
            ("\u{feff}\u{200b}x\u{2060}", "\"x\""),
            ("=\"0012\"", "\"0012\" without =\"...\" around a text"),
            ("=\"a\"\"b\"", "\"a\\\"b\" without =\"...\" around a text"),
            ("'0012", "\"0012\" without an apostrophe in front of a text"),
            ("=\"a\"&\"b\"", "a formula as text"),
            ("=A1", "a formula as text"),
            ("a\u{200b}b", "a zero-width character (U+200B), character 2 of it"),
            ("a\u{a0}b", "a no-break space (U+00A0), character 2 of it"),
            ("a\nb", "a line end (U+000A), character 2 of it"),
            ("a\u{fffd}", "a character that could not be read (U+FFFD), character 2 of it"),
            ("9a\u{2013}1", "a dash (U+2013), character 3 of it"),
            ("\u{430}1", "a character that is not ASCII (U+0430), character 1 of it"),
            ("1.23E+15", "a number that a spreadsheet has cut short"),
            ("12E5", "\"12E5\""),
            ("#REF!", "the error #REF!"),
            ("#NV", "the error #NV"),
            ("#ИМЯ?", "the error #ИМЯ?"),
            ("#####", "the error #####"),
            ("#REF", "the error #REF"),
            ("Err:502", "the error Err:502"),
            ("Loading...", "the error Loading..."),
            ("#ref", "\"#ref\""),
            ("#1042", "\"#1042\""),
        ] {
            assert_eq!(told(text), expected, "{text:?}");
        }
        assert!(clean("North\u{2013}East", false).is_ok(), "a dash may be meant where it is no id");
        assert!(!is_visible("\u{200b} \u{a0}") && is_visible(" x"));
    }

    #[test]
    fn ids_are_the_same_as_people_would_say() {
        let id = "9a01cb97-3eec-440e-8000-abcdefabcdef";
        assert_eq!(same(id), same(&id.to_uppercase()));
        assert_eq!(same(id), same(&id.replace('-', "")));
        assert_eq!(same("VM-1"), same("vm-1"));
        assert_ne!(same("0012"), same("12"));
    }
}
