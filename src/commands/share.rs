//! Which part of the configured rates does a process take that asks nobody? `--share 10%`.

use std::fmt;
use std::str::FromStr;

use crate::core::Rate;

/// A part of the rates, in thousandths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(u32);

const WHOLE: u32 = 100_000;

impl Share {
    pub(super) const WHOLE: Self = Self(WHOLE);
    /// What is taken where nobody can be asked and nothing was said.
    pub(super) const TENTH: Self = Self(WHOLE / 10);

    /// The rates with as many calls in windows that are longer.
    pub(super) fn of(self, rates: &[Rate]) -> Vec<Rate> {
        let longer = |rate: &Rate| {
            let window = rate.window().saturating_mul(WHOLE) / self.0;
            Rate::new(rate.count(), window.min(Rate::LONGEST)).unwrap_or(*rate)
        };
        rates.iter().map(longer).collect()
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or_default().trim();
        let percent = number.parse::<f64>().ok().filter(|percent| (0.1..=100.0).contains(percent));
        let percent = percent.ok_or_else(|| {
            format!("`{text}` is no share of the rates: write a percentage from 0.1% to 100%, such as 10%")
        })?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 100 and 100,000"
        )]
        Ok(Self((percent * 1_000.0).round() as u32))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_makes_the_windows_longer_and_keeps_the_calls_even() {
        let rates: Vec<Rate> = ["2/s", "60/min"].iter().map(|rate| rate.parse().unwrap()).collect();
        let of = |share: &str| share.parse::<Share>().unwrap().of(&rates);
        assert_eq!(of("10%"), ["2/10s".parse().unwrap(), "60/10min".parse().unwrap()]);
        assert_eq!(of("100%"), rates);
        assert_eq!(of("12.5 %")[0], "2/8s".parse().unwrap());
        assert_eq!("12.5%".parse::<Share>().unwrap().to_string(), "12.5%");
        for wrong in ["10", "0%", "101%", "-1%", "ten%", "NaN%", ""] {
            assert!(wrong.parse::<Share>().unwrap_err().contains("10%"), "{wrong}");
        }
    }
}
