//! Is it the time of the week to submit? Windows such as `Mon-Fri 22:00-06:00 Asia/Singapore`, in the words of a clock
//! on the wall there: daylight saving moves them as it moves that clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use super::gate::{Reason, Shut};
use super::time::Now;

/// One window of the week. It begins on its days and may end on the day after.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    text: String,
    days: Vec<Weekday>,
    from: Time,
    /// `None`: 24:00.
    to: Option<Time>,
    zone: TimeZone,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with the words of a window, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what}; a window reads like \"Mon-Fri 22:00-06:00 Asia/Singapore\" or \"Sat,Sun 00:00-24:00 UTC\""
)]
pub struct WindowError {
    what: String,
}

fn wrong(what: impl Into<String>) -> WindowError {
    WindowError { what: what.into() }
}

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [days, times, zone] = words[..] else {
            return Err(wrong(format!(
                "{text:?} has {} words, not 3: days, times, time zone",
                words.len()
            )));
        };
        let (from, to) =
            times.split_once('-').ok_or_else(|| wrong(format!("{times:?} is not from-to")))?;
        let to = if to == "24:00" { None } else { Some(time(to)?) };
        let zone = TimeZone::get(zone)
            .map_err(|_| wrong(format!("{zone:?} is not the name of a time zone")))?;
        Ok(Self { text: words.join(" "), days: days_of(days)?, from: time(from)?, to, zone })
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

fn time(text: &str) -> Result<Time, WindowError> {
    let error = || wrong(format!("{text:?} is not a time such as 22:00"));
    let (hours, minutes) = text.split_once(':').ok_or_else(error)?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return Err(error());
    }
    let (hours, minutes) =
        (hours.parse().map_err(|_| error())?, minutes.parse().map_err(|_| error())?);
    Time::new(hours, minutes, 0, 0).map_err(|_| error())
}

fn days_of(text: &str) -> Result<Vec<Weekday>, WindowError> {
    let place = |name: &str| {
        DAYS.iter().position(|(known, _)| known.eq_ignore_ascii_case(name)).ok_or_else(|| {
            wrong(format!("{name:?} is not a day (Mon, Tue, Wed, Thu, Fri, Sat, Sun)"))
        })
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (place(first)?, place(last)?);
        // Fri-Mon goes over the end of the week.
        let count = (last + 7 - first) % 7;
        days.extend((0..=count).map(|step| DAYS[(first + step) % 7].1));
    }
    Ok(days)
}

impl Window {
    /// The window that begins on this day, if one does.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.contains(&day.weekday()) {
            return None;
        }
        let next = day.checked_add(1.day()).ok()?;
        let end = match self.to {
            Some(to) if to > self.from => day.to_datetime(to),
            Some(to) => next.to_datetime(to),
            None => next.to_datetime(Time::midnight()),
        };
        // A time that the clock skips is taken as the moment it skips to, one that comes twice as the first.
        let start =
            self.zone.to_ambiguous_timestamp(day.to_datetime(self.from)).compatible().ok()?;
        let end = self.zone.to_ambiguous_timestamp(end).compatible().ok()?;
        (start < end).then_some((start, end))
    }

    /// The windows from the one that `now` may be in to those of the next eight days.
    fn around(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let today = self.zone.to_datetime(now).date();
        (-1..=8).filter_map(move |days| self.on(today.checked_add(days.days()).ok()?))
    }
}

/// When requests may be submitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schedule {
    windows: Vec<Window>,
}

/// What the schedule says of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// It always may.
    Always,
    /// It may, until then.
    Open(Timestamp),
    /// It may not, until then (`None`: not within the next week).
    Shut(Option<Timestamp>),
}

impl Schedule {
    /// No windows: always.
    pub fn new(windows: Vec<Window>) -> Self {
        Self { windows }
    }

    /// Windows that touch or overlap count as one.
    pub fn at(&self, now: Timestamp) -> Hours {
        if self.windows.is_empty() {
            return Hours::Always;
        }
        let mut all: Vec<_> = self.windows.iter().flat_map(|window| window.around(now)).collect();
        all.sort_unstable();
        let mut until = None;
        for (start, end) in &all {
            let reached = until.unwrap_or(now);
            if *start <= reached && *end > reached {
                until = Some(*end);
            }
        }
        match until {
            Some(end) => Hours::Open(end),
            None => Hours::Shut(all.iter().map(|(start, _)| *start).find(|start| *start > now)),
        }
    }

    /// The longest time without a break, as of the weeks from `now` on: long enough that a change of the clocks in one of
    /// them does not decide. `None`: always.
    pub fn longest(&self, now: Timestamp) -> Option<Duration> {
        const WEEKS: i64 = 4;
        if self.windows.is_empty() {
            return None;
        }
        let weeks = (0..WEEKS)
            .filter_map(|week| now.checked_add(SignedDuration::from_hours(week * 7 * 24)).ok());
        let mut all: Vec<_> = weeks
            .flat_map(|week| self.windows.iter().flat_map(move |window| window.around(week)))
            .collect();
        all.sort_unstable();
        let mut longest = SignedDuration::ZERO;
        let mut stretch: Option<(Timestamp, Timestamp)> = None;
        for (start, end) in all {
            let (from, to) = match stretch {
                Some((from, to)) if start <= to => (from, to.max(end)),
                _ => (start, end),
            };
            longest = longest.max(to.duration_since(from));
            stretch = Some((from, to));
        }
        Duration::try_from(longest).ok()
    }

    /// Whether a call that is answered within `time` may start now; `Err`: the next instant at which one may.
    pub fn admits(
        &self,
        now: Timestamp,
        time: Duration,
    ) -> Result<Option<Timestamp>, Option<Timestamp>> {
        match self.at(now) {
            Hours::Always => Ok(None),
            Hours::Open(end) if now.saturating_add(time).is_ok_and(|answered| answered <= end) => {
                Ok(Some(end))
            }
            Hours::Open(end) => match self.at(end) {
                Hours::Shut(next) => Err(next),
                _ => Err(Some(end)),
            },
            Hours::Shut(next) => Err(next),
        }
    }
}

/// The schedule's latest word, asked anew only when it may have changed: time zones are costly to work out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch(Option<Word>);

#[derive(Clone, Copy, Debug)]
struct Word {
    said: Timestamp,
    admits: Result<Option<Timestamp>, Option<Timestamp>>,
}

impl Watch {
    /// Whether a call that is answered within `time` may start now.
    pub fn check(&mut self, schedule: &Schedule, now: Now, time: Duration) -> Result<(), Shut> {
        if schedule.windows.is_empty() {
            return Ok(());
        }
        let word = match self.0 {
            Some(word) if word.holds(now.wall, time) => word,
            _ => Word { said: now.wall, admits: schedule.admits(now.wall, time) },
        };
        self.0 = Some(word);
        let at = |next: Timestamp| {
            now.at + Duration::try_from(next.duration_since(now.wall)).unwrap_or_default()
        };
        word.admits
            .map(|_| ())
            .map_err(|next| Shut { reason: Reason::Schedule, until: next.map(at) })
    }
}

impl Word {
    fn holds(self, now: Timestamp, time: Duration) -> bool {
        self.said <= now
            && match self.admits {
                Ok(None) => true,
                Ok(Some(end)) => now.saturating_add(time).is_ok_and(|answered| answered <= end),
                Err(Some(next)) => now < next,
                Err(None) => now.duration_since(self.said).as_hours() < 24,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(windows: &[&str]) -> Schedule {
        Schedule::new(windows.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let nights = schedule(&["Mon-Fri 22:00-06:00 Asia/Singapore"]);
        // Friday 2026-11-27 23:00 in Singapore is 15:00 UTC; the window ends on Saturday at 06:00.
        assert_eq!(nights.at(at("2026-11-27T15:00:00Z")), Hours::Open(at("2026-11-27T22:00:00Z")));
        assert_eq!(
            nights.at(at("2026-11-27T22:00:00Z")),
            Hours::Shut(Some(at("2026-11-30T14:00:00Z")))
        );
    }

    #[test]
    fn windows_that_touch_are_one() {
        let days = schedule(&["Sat,Sun 00:00-24:00 UTC"]);
        assert_eq!(days.at(at("2026-11-28T12:00:00Z")), Hours::Open(at("2026-11-30T00:00:00Z")));
    }

    #[test]
    fn nothing_starts_that_cannot_be_answered_before_the_end() {
        let days = schedule(&["Mon 08:00-09:00 UTC"]);
        let minute = Duration::from_secs(60);
        assert!(days.admits(at("2026-11-23T08:58:59Z"), minute).is_ok());
        assert_eq!(
            days.admits(at("2026-11-23T08:59:01Z"), minute),
            Err(Some(at("2026-11-30T08:00:00Z")))
        );
    }

    #[test]
    fn the_longest_time_is_of_windows_that_touch_and_of_an_ordinary_week() {
        let now = at("2026-03-24T12:00:00Z");
        let minutes =
            |windows: &[&str]| schedule(windows).longest(now).map(|time| time.as_secs() / 60);
        assert_eq!(minutes(&[]), None);
        assert_eq!(minutes(&["Mon 08:00-08:01 UTC", "Tue 09:00-09:03 UTC"]), Some(3));
        assert_eq!(minutes(&["Mon 08:00-08:01 UTC", "Mon 09:01-09:03 Europe/Berlin"]), Some(3));
        assert_eq!(minutes(&["Mon 22:00-00:00 UTC", "Tue 00:00-01:00 UTC"]), Some(180));
        // The hour is skipped on the Sunday that comes next.
        assert_eq!(minutes(&["Sun 02:00-03:00 Europe/Berlin"]), Some(60));
    }

    #[test]
    fn daylight_saving_moves_a_window_with_the_clock_on_the_wall() {
        let nights = schedule(&["Mon-Sun 01:00-05:00 Europe/Berlin"]);
        let length = |day: &str| match nights.at(at(day)) {
            Hours::Open(end) => end.duration_since(at(day)).as_hours(),
            other => panic!("{other:?}"),
        };
        assert_eq!(length("2026-03-28T00:00:00Z"), 4, "an ordinary night");
        assert_eq!(length("2026-03-29T00:00:00Z"), 3, "the hour from 2 to 3 is skipped");
        assert_eq!(length("2026-10-24T23:00:00Z"), 5, "the hour from 2 to 3 comes twice");
    }

    #[test]
    fn wrong_words_are_told_with_an_example() {
        for (text, word) in [
            ("Mon-Fri 22:00-06:00", "2 words"),
            ("Mun 22:00-06:00 UTC", "\"Mun\""),
            ("Mon 25:00-06:00 UTC", "\"25:00\""),
            ("Mon 22-06 UTC", "\"06\""),
            ("Mon 2200 UTC", "from-to"),
            ("Mon 22:00-06:00 Asia/Nowhere", "\"Asia/Nowhere\""),
        ] {
            let error = text.parse::<Window>().unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("Asia/Singapore"), "{text}: {error}");
        }
    }
}
