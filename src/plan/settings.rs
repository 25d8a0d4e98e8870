//! What does a row say beside the request? The columns `x-sluice-*` of a plan, named like the headers that they become.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{Disambiguation, OffsetConflict, TimeZone};
use serde::Serialize;

use super::cell::{Cell, Refused, boolean};
use super::clean;
use super::shown::says;
use crate::message::headers;

/// What a planner can say of one request that the API is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowSettings {
    /// Not to be submitted before.
    #[serde(rename = "x-sluice-not-before", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Not to be submitted after; it ends as `expired`.
    #[serde(rename = "x-sluice-deadline", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Orders the request in place of the body's `priority`.
    #[serde(rename = "x-sluice-priority", skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// A finished migration is wanted again.
    #[serde(rename = "x-sluice-again", skip_serializing_if = "Option::is_none")]
    pub again: Option<bool>,
}

/// One of the columns, for templates and explanations: its name, what is allowed, what it means.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub allowed: &'static str,
    pub about: &'static str,
}

const TIME: &str = "a time such as 2026-11-28 22:00 or 2026-11-28T22:00:00+08:00";

/// Leaves a row out: a mark of the plan alone, which no message has.
pub const SKIP: &str = "x-sluice-skip";

/// All settings that a plan can have.
pub const SETTINGS: [Setting; 5] = [
    Setting {
        name: headers::NOT_BEFORE,
        allowed: TIME,
        about: "Not submitted before. Without an offset it is the time of this machine; a date alone is its first moment.",
    },
    Setting {
        name: headers::DEADLINE,
        allowed: TIME,
        about: "Not submitted after: the request then ends as expired. Without an offset it is the time of this machine.",
    },
    Setting {
        name: headers::PRIORITY,
        allowed: "a whole number from 0 to 65535",
        about: "Orders the request in place of its priority, which the API still gets as it is.",
    },
    Setting {
        name: headers::AGAIN,
        allowed: "true or false",
        about: "Whether a migration of this server that has succeeded before is wanted again.",
    },
    Setting {
        name: SKIP,
        allowed: "any text, such as why; empty or no: the row is sent",
        about: "Leaves the row out for as long as something stands there.",
    },
];

impl RowSettings {
    /// Takes a setting by its name; an empty cell says nothing.
    pub(super) fn put(&mut self, name: &str, cell: &Cell, zone: &TimeZone) -> Result<(), Refused> {
        if matches!(cell, Cell::Empty | Cell::Blank) {
            return Ok(());
        }
        let fits = match name {
            headers::NOT_BEFORE => instant(cell, zone).map(|at| self.not_before = Some(at)),
            headers::DEADLINE => instant(cell, zone).map(|at| self.deadline = Some(at)),
            headers::PRIORITY => {
                priority(cell).map(|priority| self.priority = Some(priority)).ok_or("")
            }
            headers::AGAIN => again(cell).map(|again| self.again = Some(again)).ok_or(""),
            // A row that it leaves out does not come so far.
            SKIP => Ok(()),
            _ => Err(""),
        };
        fits.map_err(|advice| {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            let allowed = setting.map_or_else(
                || format!("one of {}", SETTINGS.map(|setting| setting.name).join(", ")),
                |setting| setting.allowed.to_owned(),
            );
            let advice = match cell {
                Cell::Bad { advice, .. } => advice.clone(),
                _ => advice.into(),
            };
            Refused { found: cell.shown(), allowed, advice }
        })
    }

    /// Each as a cell has it, by its name.
    pub(super) fn texts(&self) -> BTreeMap<&'static str, String> {
        let settings = serde_json::to_value(self).unwrap_or_default();
        let text = |name: &'static str| match &settings[name] {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some((name, text.clone())),
            other => Some((name, other.to_string())),
        };
        SETTINGS.iter().filter_map(|setting| text(setting.name)).collect()
    }

    /// A deadline that comes before the first moment can never be met.
    pub(super) fn check(&self) -> Result<(), Refused> {
        match (self.not_before, self.deadline) {
            (Some(not_before), Some(deadline)) if deadline <= not_before => Err(Refused {
                found: deadline.to_string(),
                allowed: format!("a time after {} ({not_before})", headers::NOT_BEFORE),
                advice: "".into(),
            }),
            _ => Ok(()),
        }
    }

    /// What there is to say of a setting that was taken.
    pub(super) fn doubt(name: &str, cell: &Cell) -> Option<Refused> {
        let Cell::Date { unseen: Some(part), .. } = cell else { return None };
        let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
        Some(Refused {
            found: format!("{}, of which the cell does not show {part}", cell.shown()),
            allowed: setting.allowed.to_owned(),
            advice: "what is stored counts: format the cell as yyyy-mm-dd hh:mm to see it".into(),
        })
    }

    /// Whether a field's name that is none of the settings was meant to be one.
    pub(super) fn is_meant(name: &str) -> bool {
        let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '_', ' ', '.'], "");
        let name = plain(name);
        let bare = |setting: &Setting| plain(&setting.name[headers::PREFIX.len()..]);
        // the API has a priority of its own
        let others = SETTINGS.iter().filter(|setting| setting.name != headers::PRIORITY);
        name.starts_with("xsluice")
            || name.starts_with("sluice")
            || others.map(bare).any(|bare| name == bare)
    }

    pub(super) fn is_known(name: &str) -> bool {
        SETTINGS.iter().any(|setting| setting.name == name)
    }
}

/// A time that a person typed, as a plan has it too. Without an offset it is in `zone`: on the command line and in plans
/// that of this machine, in the console that of the reader's browser, as the times that each of them shows.
///
/// # Errors
/// What was found, and what is allowed.
pub fn time(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    instant(&Cell::typed(text), zone).map_err(|advice| match advice {
        "" => format!("`{text}` is not {TIME}"),
        advice => format!("`{text}` is not {TIME}; {advice}"),
    })
}

/// The first year that a plan can mean: an earlier one is a mistake of the sheet.
const FIRST_YEAR: i16 = 2000;

/// The instant that a cell means, else what to do (which may be plain from what is allowed).
fn instant(cell: &Cell, zone: &TimeZone) -> Result<Timestamp, &'static str> {
    let at = match cell {
        Cell::Text(text) => {
            let clean = clean::clean(text, false).map_err(|_| "")?;
            if clean.text.contains('[') {
                zoned(&clean.text)?
            } else if let Ok(instant) = clean.text.parse() {
                instant
            } else {
                local(civil(&clean.text).ok_or("")?, zone)?
            }
        }
        Cell::Date { at, .. } => local(*at, zone)?,
        _ => return Err(""),
    };
    if zone.to_datetime(at).year() < FIRST_YEAR {
        return Err(
            "a day before 2000 is what a spreadsheet makes of a time without a day, or of 0: write the day too",
        );
    }
    Ok(at)
}

/// A time with a zone by its name, where it is one instant.
fn zoned(text: &str) -> Result<Timestamp, &'static str> {
    const PARSER: DateTimeParser = DateTimeParser::new()
        .offset_conflict(OffsetConflict::Reject)
        .disambiguation(Disambiguation::Reject);
    PARSER.parse_zoned_datetime(text).map(|zoned| zoned.timestamp()).map_err(|_| {
        "the zone is unknown, its offset is another one, or its clocks change then: write the offset alone, as in 2026-10-25T02:30:00+02:00"
    })
}

fn civil(text: &str) -> Option<DateTime> {
    let midnight = jiff::civil::Time::midnight();
    text.parse().ok().or_else(|| Some(text.parse::<Date>().ok()?.to_datetime(midnight)))
}

/// A time without an offset, where it is one instant.
fn local(at: DateTime, zone: &TimeZone) -> Result<Timestamp, &'static str> {
    let instant = zone.to_ambiguous_timestamp(at);
    instant.unambiguous().map_err(|_| {
        "the clocks change then, so it is no time or two: write the offset, as in 2026-10-25T02:30:00+02:00"
    })
}

/// Whether a cell of the column [`SKIP`] leaves its row out.
pub(super) fn is_skip(cell: &Cell) -> bool {
    !matches!(cell, Cell::Empty | Cell::Blank) && again(cell) != Some(false)
}

fn priority(cell: &Cell) -> Option<u16> {
    match cell {
        Cell::Text(text) => text.parse().ok(),
        Cell::Shown { value, shown } if says(shown, *value) => priority(&Cell::Number(*value)),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked before
        Cell::Number(number) if number.fract() == 0.0 && (0.0..=65_535.0).contains(number) => {
            Some(*number as u16)
        }
        _ => None,
    }
}

fn again(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Boolean(again) => Some(*again),
        Cell::Text(text) => boolean(text),
        Cell::Number(number) => boolean(&number.to_string()),
        Cell::Shown { value, shown } if says(shown, *value) => boolean(&value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_way_that_people_write_them() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let at = |text: &str| instant(&Cell::typed(text), &zone).ok().map(|at| at.to_string());
        for text in [
            "2026-11-28T14:00:00Z",
            "2026-11-28T22:00:00+08:00",
            "2026-11-28T22:00:00",
            "2026-11-28 22:00",
            "2026-11-28T23:00[Asia/Tokyo]",
        ] {
            assert_eq!(at(text).as_deref(), Some("2026-11-28T14:00:00Z"), "{text}");
        }
        assert_eq!(at("2026-11-28").as_deref(), Some("2026-11-27T16:00:00Z"));
        assert_eq!(
            instant(
                &Cell::Date {
                    at: jiff::civil::datetime(2026, 11, 28, 22, 0, 0, 0),
                    stored: None,
                    unseen: None
                },
                &zone
            )
            .unwrap()
            .to_string(),
            "2026-11-28T14:00:00Z"
        );
        for text in ["", "tomorrow", "22:00", "28.11.2026", "2026-13-01", "1899-12-31"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_or_pass_twice_is_refused() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for text in ["2026-03-29 02:30", "2026-10-25 02:30"] {
            assert!(instant(&Cell::typed(text), &berlin).unwrap_err().contains("offset"), "{text}");
        }
        assert!(instant(&Cell::typed("2026-10-25T02:30:00+02:00"), &berlin).is_ok());
        for text in [
            "2026-12-24T22:00[Nowhere/City]",
            "2026-12-24T22:00+08:00[Europe/Berlin]",
            "2026-03-29T02:30[Europe/Berlin]",
            "2026-10-25T02:30[Europe/Berlin]",
            "2026-12-24T22:00[u-ca=buddhist]",
        ] {
            assert!(
                instant(&Cell::typed(text), &berlin).unwrap_err().contains("offset alone"),
                "{text}"
            );
        }
        for text in [
            "2026-10-25T02:30+02:00[Europe/Berlin]",
            "2026-12-24T22:00[+08:00]",
            "2026-12-24T22:00Z[Asia/Tokyo]",
        ] {
            assert!(instant(&Cell::typed(text), &berlin).is_ok(), "{text}");
        }
    }

    #[test]
    fn other_spellings_of_a_setting_are_known() {
        for name in
            ["X-Sluice-Not-Before", "not_before", "notBefore", "x_sluice_priority", "deadline"]
        {
            assert!(RowSettings::is_meant(name), "{name}");
        }
        for name in ["priority", "name", "not", "start_network_check"] {
            assert!(!RowSettings::is_meant(name), "{name}");
        }
    }

    #[test]
    fn settings_say_what_is_wrong_with_them() {
        let mut settings = RowSettings::default();
        let zone = TimeZone::UTC;
        settings.put(headers::PRIORITY, &Cell::Number(7.0), &zone).unwrap();
        settings.put(headers::AGAIN, &Cell::typed("TRUE"), &zone).unwrap();
        settings.put(headers::DEADLINE, &Cell::Empty, &zone).unwrap();
        assert_eq!(
            (settings.priority, settings.again, settings.deadline),
            (Some(7), Some(true), None)
        );
        let refused = settings.put(headers::PRIORITY, &Cell::Number(65_536.0), &zone).unwrap_err();
        assert_eq!(refused.allowed, "a whole number from 0 to 65535");
        assert!(
            settings
                .put("x-sluice-prio", &Cell::typed("1"), &zone)
                .unwrap_err()
                .allowed
                .contains(headers::PRIORITY)
        );

        settings.put(headers::NOT_BEFORE, &Cell::typed("2026-11-28"), &zone).unwrap();
        settings.put(headers::DEADLINE, &Cell::typed("2026-11-28"), &zone).unwrap();
        assert!(settings.check().is_err());
    }
}
