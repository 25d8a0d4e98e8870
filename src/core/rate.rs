//! How is a limit written? `60/min`: so many calls in any window of that length.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// At most [`count`](Self::count) calls in any window of length [`window`](Self::window). Written `2/s`, `60/min`,
/// `100/5s`, `500/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: u32,
    window: Duration,
}

/// Why a text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a rate: {why}; write calls/time, such as \"2/s\", \"60/min\" or \"100/5s\" (ms, s, min, h, d)"
)]
pub struct RateError {
    text: String,
    why: &'static str,
}

/// Longest first, so that [`Rate`]'s `Display` takes the longest unit that fits.
const UNITS: [(&[&str], Duration); 5] = [
    (&["d", "day"], Duration::from_secs(86_400)),
    (&["h", "hour"], Duration::from_secs(3_600)),
    (&["min", "m", "minute"], Duration::from_secs(60)),
    (&["s", "sec", "second"], Duration::from_secs(1)),
    (&["ms"], Duration::from_millis(1)),
];

impl Rate {
    /// The longest window that is accepted.
    pub const LONGEST: Duration = Duration::from_secs(31 * 86_400);

    /// `None` if nothing could ever go (no calls), or the window is shorter than a millisecond or longer than
    /// [`Rate::LONGEST`].
    pub fn new(count: u32, window: Duration) -> Option<Self> {
        let fits = (Duration::from_millis(1)..=Self::LONGEST).contains(&window);
        (count > 0 && fits).then_some(Self { count, window })
    }

    pub fn count(self) -> u32 {
        self.count
    }

    pub fn window(self) -> Duration {
        self.window
    }

    /// Calls per second, sustained.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.window.as_secs_f64()
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = |why| RateError { text: text.chars().take(40).collect(), why };
        let (count, window) =
            text.split_once('/').ok_or_else(|| wrong("there is no slash in it"))?;
        let count = count
            .trim()
            .parse()
            .map_err(|_| wrong("what stands before the slash is not a whole number"))?;
        let window = window.trim();
        let unit_at = window.find(|c: char| !c.is_ascii_digit()).unwrap_or(window.len());
        let (times, unit) = window.split_at(unit_at);
        let times: u32 = match times {
            "" => 1,
            digits => digits.parse().map_err(|_| wrong("the time is too long"))?,
        };
        let (_, unit) = UNITS
            .iter()
            .find(|(names, _)| names.contains(&unit.trim()))
            .ok_or_else(|| wrong("the time has no unit that is known"))?;
        let window = unit.checked_mul(times).ok_or_else(|| wrong("the time is too long"))?;
        if count == 0 {
            return Err(wrong("it lets no call through; to hold everything back pause the gate"));
        }
        Self::new(count, window).ok_or_else(|| wrong("the time must be between 1ms and 31d"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.window.as_nanos();
        let fits = |unit: &Duration| nanos.is_multiple_of(unit.as_nanos());
        // A window given in code may hold part of a millisecond; only then is the text shorter than the truth.
        let (names, unit) =
            UNITS.iter().find(|(_, unit)| fits(unit)).unwrap_or(&UNITS[UNITS.len() - 1]);
        match nanos / unit.as_nanos() {
            1 => write!(f, "{}/{}", self.count, names[0]),
            times => write!(f, "{}/{times}{}", self.count, names[0]),
        }
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}
