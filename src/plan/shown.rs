//! What does a planner see in a cell that holds a number? The number as its format shows it.

use std::collections::HashMap;
use std::panic::catch_unwind;

use ssfmt::{FormatOptions, NumberFormat};

/// The longest format code that is tried.
const LONGEST: usize = 255;
/// As many different formats are kept: a workbook has some dozens.
const MOST: usize = 4096;

/// The formats of a workbook, read once each.
#[derive(Default)]
pub(super) struct Formats {
    known: HashMap<Box<str>, Option<NumberFormat>>,
}

impl Formats {
    /// The number as shown; `None` where the format shows it as it is.
    pub(super) fn show(&mut self, value: f64, code: &str) -> Option<Box<str>> {
        if is_plain(code) || code.len() > LONGEST {
            return None;
        }
        if self.known.len() > MOST {
            self.known.clear();
        }
        let format = if let Some(format) = self.known.get(code) {
            format
        } else {
            let read = catch_unwind(|| NumberFormat::parse(code).ok()).unwrap_or_default();
            self.known.entry(code.into()).or_insert(read)
        };
        let shown = rendered(value, format.as_ref()?)?;
        (shown != digits(value)).then(|| shown.into())
    }
}

/// `General` and `@` leave a number as it is.
fn is_plain(code: &str) -> bool {
    code.eq_ignore_ascii_case("general") || code == "@" || code.is_empty()
}

/// A format is anybody's text: one that the library stumbles over shows nothing.
fn rendered(value: f64, format: &NumberFormat) -> Option<String> {
    let shown = catch_unwind(|| format.try_format(value, &FormatOptions::default()).ok());
    shown.ok().flatten().map(|text| super::clean::trim(&text).to_owned())
}

/// What Excel shows of a number without a format: eleven characters.
pub(super) fn general(value: f64) -> String {
    let shown = catch_unwind(|| ssfmt::format_default(value, "General").ok());
    shown.ok().flatten().unwrap_or_else(|| digits(value))
}

/// All digits of a number that is stored as a float.
pub(super) fn digits(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e20 {
        format!("{value:.0}")
    } else {
        value.to_string()
    }
}

/// Whether what is shown says the same number to a reader.
pub(super) fn says(shown: &str, value: f64) -> bool {
    let bare: String =
        shown.chars().filter(|char| !matches!(char, ',' | ' ' | '\u{a0}' | '\u{202f}')).collect();
    let Ok(said) = bare.parse::<f64>() else { return false };
    // a number with an exponent is plainly not all of it
    let allowed = if bare.contains(['E', 'e']) { 0.05 } else { 1e-12 };
    (said - value).abs() <= value.abs() * allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shown_as_its_format_has_it() {
        let mut formats = Formats::default();
        let mut show = |value, code| formats.show(value, code).map(String::from);
        for (value, code, expected) in [
            (12.0, "000000", Some("000012")),
            (0.5, "0%", Some("50%")),
            (12.0, "General", None),
            (12.0, "0", None),
            (4.6, "0", Some("5")),
            (12000.0, "#,##0", Some("12,000")),
            (40.0, "0\" GB\"", Some("40 GB")),
            (12.0, "[[[;;;\"", None),
        ] {
            assert_eq!(show(value, code).as_deref(), expected, "{value} {code}");
        }
        assert_eq!(general(582_520_512_002.0), "5.82521E+11");
        assert_eq!(general(42_949_672_960.0), "42949672960");
        assert!(says("12,000", 12_000.0) && says("1.23E+10", 12_345_678_901.0));
        assert!(!says("50%", 0.5) && !says("5", 4.6) && !says("40 GB", 40.0));
    }
}
