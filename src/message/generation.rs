//! Which generation of a batch is meant? An id that is used again is another batch: its requests carry a UUID of its own.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Enough characters for any UUID: the beginning of a time-ordered one is its time, which ends in milliseconds here.
const SHORT: usize = 13;

/// A generation in a few characters: enough of its UUID to tell it from others of the batch; `-` where it has none.
pub fn short(run: Option<Uuid>) -> String {
    run.map_or_else(|| "-".to_owned(), |run| run.to_string()[..SHORT].to_owned())
}

/// Whether a text means this generation: its UUID, the beginning of that, or `-` for the one without.
pub fn is_meant(text: &str, run: Option<Uuid>) -> bool {
    match run {
        None => text == "-",
        Some(run) => run.to_string().starts_with(&text.to_ascii_lowercase()),
    }
}

/// A generation as a person names it, see [`is_meant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPrefix(String);

impl RunPrefix {
    pub fn matches(&self, run: Option<Uuid>) -> bool {
        is_meant(&self.0, run)
    }
}

impl FromStr for RunPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let is_of_uuid = |c: char| c.is_ascii_hexdigit() || c == '-';
        if text.is_empty() || text.len() > 36 || !text.chars().all(is_of_uuid) {
            let cure = "give the UUID, or the beginning of it, as `sluice watch` lists it; - is the one without";
            return Err(format!("`{text}` is no generation of a batch: {cure}"));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for RunPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_named_by_its_beginning() {
        let run: Uuid = "019ab0d0-0000-7000-8000-000000000000".parse().unwrap();
        for text in ["019ab0d0-0000-7000-8000-000000000000", "019AB0D0", &short(Some(run))] {
            assert!(text.parse::<RunPrefix>().unwrap().matches(Some(run)), "{text}");
        }
        assert!("-".parse::<RunPrefix>().unwrap().matches(None));
        assert!(!"-".parse::<RunPrefix>().unwrap().matches(Some(run)));
        for wrong in ["", "latest", "019ab0d0-0000-7000-8000-0000000000000"] {
            assert!(wrong.parse::<RunPrefix>().is_err(), "{wrong}");
        }
    }
}
