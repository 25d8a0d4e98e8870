//! Times on the command line, typed and shown: where no offset is written, they are of this machine's zone.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::values::parse_duration;
use crate::plan;

/// A time that a person typed.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    plan::time(text, &TimeZone::system())
}

/// The same, or how long ago: `2h`, `7d`.
pub(super) fn past(text: &str) -> Result<Timestamp, String> {
    let ago = || Timestamp::now().checked_sub(parse_duration(text).ok()?).ok();
    time(text).or_else(|why| ago().ok_or_else(|| format!("{why}, nor 2h or 7d (ago)")))
}

/// A time as it is shown.
pub(super) fn local(at: Timestamp) -> String {
    at.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(past("2026-01-31T12:00:00Z").unwrap(), noon);
        assert_eq!(past("2026-01-31T20:00:00+08:00").unwrap(), noon);
        for text in ["2026-01-31 12:00", "2026-01-31", "0", "36h", "2m", "7d"] {
            assert!(past(text).is_ok(), "{text}");
        }
        let ago = past("2h").unwrap();
        assert!((Timestamp::now().as_second() - ago.as_second() - 7200).abs() < 60);
        for text in ["yesterday", "", "2026-13-01", "-2h"] {
            assert!(past(text).unwrap_err().contains("is not a time such as"), "{text}");
        }
        assert!(time("2h").is_err());
    }
}
