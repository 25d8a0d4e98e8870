//! What does a planner see in a cell that holds a number? The number as its format shows it.

use std::collections::HashMap;
use std::panic::catch_unwind;

use jiff::civil::{DateTime, Time};
use ssfmt::ast::{DatePart, DatePart as P, FormatPart};
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
        if is_hidden(value, code) {
            return Some(NOTHING.into());
        }
        let shown = rendered(value, self.read(code)?)?;
        (shown != digits(value)).then(|| or_nothing(&shown).into())
    }

    /// What a format makes of a day and a time.
    pub(super) fn date(&mut self, at: DateTime, code: &str) -> Dated {
        if is_plain(code) || code.len() > LONGEST {
            return Dated::Plainly;
        }
        match self.read(code).and_then(|format| format.sections().first()) {
            Some(section) => dated(at, &section.parts),
            None => Dated::Plainly,
        }
    }

    fn read(&mut self, code: &str) -> Option<&NumberFormat> {
        if self.known.len() > MOST {
            self.known.clear();
        }
        if !self.known.contains_key(code) {
            let read = catch_unwind(|| NumberFormat::parse(code).ok()).unwrap_or_default();
            self.known.insert(code.into(), read);
        }
        self.known.get(code)?.as_ref()
    }
}

/// What is shown of a value that its format hides.
pub(super) const NOTHING: &str = "nothing";

/// A text that is shown, by a word where it has no characters.
pub(super) fn or_nothing(shown: &str) -> &str {
    if shown.is_empty() { NOTHING } else { shown }
}

/// How a cell shows a day and a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dated {
    Plainly,
    /// With a time zone, which no cell has.
    Zone(String),
    /// Without a part that is stored.
    Without(&'static str),
}

fn dated(at: DateTime, parts: &[FormatPart]) -> Dated {
    let mut literals = String::new();
    for part in parts {
        match part {
            FormatPart::Literal(text) | FormatPart::EscapedLiteral(text) => literals.push_str(text),
            // the end of a word, as a digit is for what follows a time
            _ => literals.push('0'),
        }
    }
    if let Some(zone) = zone_in(&literals) {
        return Dated::Zone(zone);
    }
    let has = |wanted: fn(DatePart) -> bool| {
        parts.iter().any(|part| matches!(part, FormatPart::DatePart(part) if wanted(*part)))
    };
    let year = has(|part| {
        matches!(
            part,
            P::Year2
                | P::Year3
                | P::Year4
                | P::BuddhistYear2
                | P::BuddhistYear4
                | P::BuddhistYear2Alt
                | P::BuddhistYear4Alt
        )
    });
    let month = has(|part| {
        matches!(part, P::Month | P::Month2 | P::MonthAbbr | P::MonthFull | P::MonthLetter)
    });
    let day = has(|part| matches!(part, P::Day | P::Day2));
    let hour = has(|part| matches!(part, P::Hour | P::Hour2));
    let minute = has(|part| matches!(part, P::Minute | P::Minute2));
    without(at, [year, month, day, hour, minute])
}

/// What is missing where these are shown: the year, the month, the day, the hour, the minute.
fn without(at: DateTime, [year, month, day, hour, minute]: [bool; 5]) -> Dated {
    if !(year || month || day) {
        return Dated::Without("the date");
    }
    if at.time() != Time::midnight() && !hour {
        return Dated::Without("the time of day");
    }
    let parts = [
        (year, "the year"),
        (month, "the month"),
        (day, "the day"),
        (minute || at.minute() == 0, "the minutes"),
    ];
    parts
        .into_iter()
        .find(|(shown, _)| !shown)
        .map_or(Dated::Plainly, |(_, part)| Dated::Without(part))
}

/// How a text shows a day and a time: whether their numbers are in it.
pub(super) fn date_in(at: DateTime, seen: &str) -> Dated {
    if let Some(zone) = zone_in(seen) {
        return Dated::Zone(zone);
    }
    let digits = |char: char| !char.is_ascii_digit();
    let mut numbers: Vec<i16> = seen.split(digits).filter_map(|part| part.parse().ok()).collect();
    let mut take = |wanted: [i16; 2]| {
        let found = numbers.iter().position(|number| wanted.contains(number));
        found.map(|found| numbers.remove(found)).is_some()
    };
    let one = |number: i8| [i16::from(number); 2];
    let year = take([at.year(), at.year() % 100]);
    let month =
        take(one(at.month())) || seen.chars().filter(|char| char.is_alphabetic()).count() > 2;
    let day = take(one(at.day()));
    let hour = take([i16::from(at.hour()), i16::from((at.hour() + 11) % 12) + 1]);
    let minute = take(one(at.minute()));
    without(at, [year, month, day, hour, minute])
}

const ZONES: [&str; 28] = [
    "UTC", "GMT", "Z", "CET", "CEST", "MEZ", "MESZ", "WET", "WEST", "EET", "EEST", "BST", "MSK",
    "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT", "SGT", "HKT", "JST", "KST", "IST",
    "AEST", "SAST",
];

/// A time zone or an offset in what is shown of a time.
fn zone_in(text: &str) -> Option<String> {
    let between = |char: char| !(char.is_alphanumeric() || matches!(char, '+' | '-' | ':' | '/'));
    let digit = |char: char| char.is_ascii_digit();
    let zone = |word: &str| {
        let offset = word.find('+').map_or("", |at| &word[at..]);
        let known = ZONES.contains(&word) || word.starts_with("UTC") || word.starts_with("GMT");
        let before = |zone: char| word.strip_suffix(zone).is_some_and(|rest| rest.ends_with(digit));
        if known || word.strip_prefix('-').is_some_and(|rest| rest.starts_with(digit)) {
            Some(word.to_owned())
        } else if !offset.is_empty() {
            Some(offset.to_owned())
        } else {
            ['Z', 'z'].into_iter().find(|zone| before(*zone)).map(String::from)
        }
    };
    text.split(between).find_map(zone)
}

/// The parts of a format: for positive numbers, negative ones, 0, and texts.
fn sections(code: &str) -> Vec<&str> {
    let (mut sections, mut start) = (Vec::new(), 0);
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    for (at, char) in code.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '"' if !bracketed => quoted = !quoted,
            _ if quoted => {}
            '\\' | '_' | '*' if !bracketed => escaped = true,
            '[' => bracketed = true,
            ']' => bracketed = false,
            ';' if !bracketed => {
                sections.push(&code[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    sections.push(&code[start..]);
    sections
}

/// Whether a format has an empty part for such a number.
fn is_hidden(value: f64, code: &str) -> bool {
    if !code.contains(';') {
        return false;
    }
    let sections = sections(code);
    let conditional = sections.iter().any(|section| section.contains(['<', '>', '=']));
    let at = if value > 0.0 {
        0
    } else if value < 0.0 {
        1
    } else {
        2
    };
    !conditional && sections.get(at).is_some_and(|section| section.is_empty())
}

/// A text as its format shows it; `None` where that is the text itself.
pub(super) fn text(text: &str, code: &str) -> Option<String> {
    if is_plain(code) || code.len() > LONGEST {
        return None;
    }
    let sections = sections(code);
    let last = *sections.get(3).or(sections.last())?;
    let (mut shown, mut placed) = (String::new(), sections.len() > 3);
    let mut rest = last.chars();
    while let Some(char) = rest.next() {
        match char {
            '@' => {
                placed = true;
                shown.push_str(text);
            }
            '"' => shown.extend(rest.by_ref().take_while(|char| *char != '"')),
            '\\' => shown.extend(rest.next()),
            // a blank as wide as a character, a character up to the end of the cell
            '_' | '*' => drop(rest.next()),
            '[' => drop(rest.by_ref().find(|char| *char == ']')),
            other => shown.push(other),
        }
    }
    let general = shown.trim().eq_ignore_ascii_case("general");
    (placed && !general && super::clean::trim(&shown) != text)
        .then(|| or_nothing(shown.trim()).to_owned())
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
        assert_eq!(show(20.0, ";;;").as_deref(), Some(NOTHING));
        assert_eq!(show(20.0, "0;;;@"), None);
        assert_eq!(general(582_520_512_002.0), "5.82521E+11");
        assert_eq!(general(42_949_672_960.0), "42949672960");
        assert!(says("12,000", 12_000.0) && says("1.23E+10", 12_345_678_901.0));
        assert!(!says("50%", 0.5) && !says("5", 4.6) && !says("40 GB", 40.0));
    }

    #[test]
    fn a_text_is_shown_as_its_format_has_it() {
        for (code, expected) in [
            ("@", None),
            ("General;General;General;@", None),
            ("_(* #,##0_);_(* (#,##0);_(* \"-\"_);_(@_)", None),
            ("0;\"a;@\"0", None),
            ("\"eu-\"@", Some("eu-x")),
            ("@\\-3", Some("x-3")),
            (";;;", Some(NOTHING)),
            ("0;0;0;\"none\"", Some("none")),
        ] {
            assert_eq!(text("x", code).as_deref(), expected, "{code}");
        }
    }

    #[test]
    fn what_a_date_does_not_show_is_known() {
        let at = jiff::civil::datetime(2026, 12, 24, 22, 0, 0, 0);
        let mut formats = Formats::default();
        let zone = |zone: &str| Dated::Zone(zone.to_owned());
        for (code, seen, expected) in [
            ("yyyy-mm-dd hh:mm", "2026-12-24 22:00", Dated::Plainly),
            ("dd.mm.yy h:mm AM/PM", "24.12.26 10:00 PM", Dated::Plainly),
            ("[$-407]d. mmmm yyyy hh:mm \"Uhr\"", "24. Dezember 2026 22:00 Uhr", Dated::Plainly),
            ("yyyy-mm-dd\"T\"hh:mm:ss", "2026-12-24T22:00:00", Dated::Plainly),
            ("yyyy-mm-dd", "2026-12-24", Dated::Without("the time of day")),
            ("hh:mm", "22:00", Dated::Without("the date")),
            ("dd/mm hh:mm", "24/12 22:00", Dated::Without("the year")),
            ("mmm yyyy hh:mm", "Dec 2026 22:00", Dated::Without("the day")),
            ("yyyy-mm-dd hh:mm \"UTC\"", "2026-12-24 22:00 UTC", zone("UTC")),
            ("yyyy-mm-dd hh:mm \"GMT+8\"", "2026-12-24 22:00 GMT+8", zone("GMT+8")),
            ("yyyy-mm-dd hh:mm\" -05:00\"", "2026-12-24 22:00 -05:00", zone("-05:00")),
        ] {
            assert_eq!(formats.date(at, code), expected, "{code}");
            assert_eq!(date_in(at, seen), expected, "{seen}");
        }
        for code in
            ["yyyy-mm-dd hh:mm\\Z", "yyyy-mm-dd hh:mm\" +08:00\"", "yyyy-mm-dd\"T\"hh:mm\"Z\""]
        {
            assert!(matches!(formats.date(at, code), Dated::Zone(_)), "{code}");
        }
        assert!(matches!(date_in(at, "2026-12-24T22:00:00Z"), Dated::Zone(_)));
        assert!(matches!(date_in(at, "2026-12-24 22:00+08:00"), Dated::Zone(_)));
    }
}
