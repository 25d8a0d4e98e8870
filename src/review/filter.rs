//! Which dead letters are meant? All conditions that are given must hold.

use std::collections::HashSet;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dead_letter::DeadLetter;
use crate::message::generation::is_meant;

/// Conditions; the default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Dead letters by id, by the beginning of it (8 characters at least), or by message id; empty: any.
    pub ids: Vec<String>,
    /// The id of a cause, or its outcome, or its error code.
    pub cause: Option<String>,
    pub batch: Option<String>,
    /// The generation of the batch: its UUID, the beginning of that, or `-` for none.
    pub batch_run: Option<String>,
    pub source_server: Option<String>,
    /// A part of the task's name, in any case.
    pub name: Option<String>,
    pub region: Option<String>,
    pub project: Option<String>,
    /// Failed at this time or later, and before that one.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// A text in the body, byte for byte.
    pub text: Option<String>,
}

impl Filter {
    /// These dead letters.
    pub fn ids(ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { ids: ids.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Whether the dead letter is meant; `body` is only asked for where a text is looked for.
    pub fn matches(&self, letter: &DeadLetter, body: impl FnOnce() -> Option<Bytes>) -> bool {
        self.ready().matches(letter, body)
    }

    /// For many dead letters: thousands of ids are not gone through for each.
    pub fn ready(&self) -> Ready<'_> {
        let ids: HashSet<String> = self.ids.iter().map(|id| id.to_lowercase()).collect();
        let starts = ids.iter().filter(|id| (SHORTEST..WHOLE).contains(&id.len())).cloned();
        let names = self.ids.iter().map(String::as_str).collect();
        Ready { filter: self, starts: starts.collect(), names, ids }
    }
}

/// The beginning of an id that says enough, and a whole one, in characters.
const SHORTEST: usize = 8;
const WHOLE: usize = 36;

/// A filter that is ready for many dead letters.
#[derive(Debug)]
pub struct Ready<'a> {
    filter: &'a Filter,
    /// In lower case.
    ids: HashSet<String>,
    /// As they were given: message ids.
    names: HashSet<&'a str>,
    /// Those that may be the beginning of an id.
    starts: Vec<String>,
}

impl Ready<'_> {
    /// See [`Filter::matches`].
    pub fn matches(&self, letter: &DeadLetter, body: impl FnOnce() -> Option<Bytes>) -> bool {
        let filter = self.filter;
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        self.is_one_of(letter)
            && filter.cause.as_deref().is_none_or(|cause| is_cause(cause, letter))
            && filter.batch.as_deref().is_none_or(|batch| letter.batch.as_deref() == Some(batch))
            && filter.batch_run.as_deref().is_none_or(|run| is_meant(run, letter.batch_run))
            && is(&filter.source_server, &letter.source_server_id)
            && is(&filter.region, &letter.region_id)
            && is(&filter.project, &letter.project_id)
            && filter
                .name
                .as_deref()
                .is_none_or(|name| letter.name.to_lowercase().contains(&name.to_lowercase()))
            && filter.from.is_none_or(|from| letter.failed_at.is_some_and(|at| at >= from))
            && filter.to.is_none_or(|to| letter.failed_at.is_some_and(|at| at < to))
            && filter
                .text
                .as_deref()
                .is_none_or(|text| body().is_some_and(|body| contains(&body, text.as_bytes())))
    }

    fn is_one_of(&self, letter: &DeadLetter) -> bool {
        if self.ids.is_empty() {
            return true;
        }
        let id = letter.id.to_string();
        self.ids.contains(&id)
            || self.names.contains(letter.request_id.as_str())
            || self.starts.iter().any(|start| id.starts_with(start))
    }
}

fn is_cause(wanted: &str, letter: &DeadLetter) -> bool {
    let cause = &letter.cause;
    wanted == cause.id || wanted == cause.outcome || cause.error_code.as_deref() == Some(wanted)
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Rules;
    use crate::message::parcel::Parcel;

    fn letter() -> DeadLetter {
        let headers = [
            ("x-sluice-outcome", "rejected"),
            ("x-sluice-error-code", "SMS.6603"),
            ("x-sluice-failed-at", "2026-01-31T12:00:00Z"),
            ("x-sluice-batch", "wave-1"),
            ("x-sluice-batch-run", "019ab0d0-0000-7000-8000-000000000000"),
        ];
        let parcel = Parcel {
            headers: headers
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).into()))
                .collect(),
            body: "{}".into(),
            ..Parcel::default()
        };
        let mut letter = DeadLetter::read(&parcel, None, &Rules::default());
        letter.id = "0d6c3a5e-55aa-4b7e-9d5b-51c1ce6a7e00".parse().unwrap();
        letter.name = "Web Server".into();
        letter.region_id = "r".into();
        letter
    }

    #[test]
    fn each_condition_selects_and_all_must_hold() {
        let letter = letter();
        let some = |text: &str| Some(text.to_owned());
        let at = |text: &str| Some(text.parse().unwrap());
        let yes = [
            Filter::default(),
            Filter::ids(["0D6C3A5E"]),
            Filter::ids(["other", "0d6c3a5e-55aa-4b7e-9d5b-51c1ce6a7e00"]),
            Filter { cause: some("rejected"), ..Filter::default() },
            Filter { cause: some("SMS.6603"), batch: some("wave-1"), ..Filter::default() },
            Filter { cause: Some(letter.cause.id.clone()), ..Filter::default() },
            Filter { batch_run: some("019ab0d0"), ..Filter::default() },
            Filter { name: some("web s"), region: some("r"), ..Filter::default() },
            Filter {
                from: at("2026-01-31T12:00:00Z"),
                to: at("2026-01-31T12:00:01Z"),
                ..Filter::default()
            },
            Filter { text: some("}"), ..Filter::default() },
        ];
        for filter in yes {
            assert!(filter.matches(&letter, || Some("{}".into())), "{filter:?}");
        }
        let no = [
            Filter::ids(["0d6c"]),
            Filter { cause: some("rejected"), batch: some("wave-2"), ..Filter::default() },
            Filter { batch_run: some("019ab0d1"), ..Filter::default() },
            Filter { batch_run: some("-"), ..Filter::default() },
            Filter { source_server: some("x"), ..Filter::default() },
            Filter { project: some("x"), ..Filter::default() },
            Filter { to: at("2026-01-31T12:00:00Z"), ..Filter::default() },
            Filter { text: some("{ }"), ..Filter::default() },
        ];
        for filter in no {
            assert!(!filter.matches(&letter, || Some("{}".into())), "{filter:?}");
        }
    }
}
