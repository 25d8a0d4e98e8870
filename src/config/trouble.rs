//! What stopped the reading of a value, in words for people.

use std::fmt;

use serde::de;
use strsim::osa_distance;

use super::problem::Problem;
use super::tree::Origin;

/// What stopped the reading, and where.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) path: String,
    pub(crate) origin: Option<Origin>,
    pub(crate) message: String,
}

impl Trouble {
    pub(crate) fn at(mut self, path: &str, origin: &Origin) -> Self {
        if self.origin.is_none() {
            path.clone_into(&mut self.path);
            self.origin = Some(origin.clone());
        }
        self
    }

    pub(crate) fn into_problem(self) -> Problem {
        // `limits.rates.0` is an index for `fix`; people read the key and the place.
        let key = self.path.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned();
        Problem::new(
            self.origin.unwrap_or(Origin::Default),
            Some(key).filter(|k| !k.is_empty()),
            self.message,
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

/// What a whole number of each width is for people.
fn in_words(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text in quotes".to_owned(),
        "a sequence" => "a list in brackets".to_owned(),
        other => other.to_owned(),
    }
}

impl de::Error for Trouble {
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("found {found}, expected {}", in_words(expected)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("found `{found}`, expected one of {}", expected.join(", ")))
    }

    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: String::new(), origin: None, message: message.to_string() }
    }
}

/// Names the keys that there are; the nearest one first if it is a slip of the keyboard.
pub(crate) fn unknown(key: &str, section: &str, fields: &[&str]) -> String {
    let (what, place) = if section.is_empty() {
        ("section", String::new())
    } else {
        ("key", format!(" in [{section}]"))
    };
    let slip = 1 + key.len() / 4;
    match fields.iter().min_by_key(|field| osa_distance(key, field)) {
        Some(near) if osa_distance(key, near) <= slip => {
            format!("no such {what}{place}: did you mean `{near}`?")
        }
        _ => format!("no such {what}{place}: there are {}", fields.join(", ")),
    }
}
