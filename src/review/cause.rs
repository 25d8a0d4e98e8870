//! Which dead letters died of the same? A cause is the outcome, the error's code and status, and its message without
//! what differs from request to request; for invalid bodies the places that are wrong.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::dead_letter::{DeadLetter, Death};
use crate::contract::Violation;
use crate::core::Outcome;
use crate::message::result::ResultData;

/// The longest message of a cause, in characters.
const LONGEST: usize = 160;

/// The most places of an invalid body that make its cause.
const MOST_PLACES: usize = 6;

/// Why dead letters died, in one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cause {
    /// Eight hexadecimal digits, the same for the same cause everywhere: what `--cause` takes.
    pub id: String,
    /// The outcome's word, `broker` for what the broker dead-lettered by itself, or `stranger` for what somebody else has put
    /// into the queue.
    pub outcome: String,
    pub error_code: Option<String>,
    pub status: Option<u16>,
    /// The message with `#` for what differs from request to request, or the places that are wrong.
    pub message: String,
}

impl Cause {
    pub(super) fn of(
        outcome: Option<Outcome>,
        error_code: Option<&str>,
        status: Option<u16>,
        message: &str,
        violations: &[Violation],
        death: Option<&Death>,
    ) -> Self {
        let message = match (violations, death) {
            ([], Some(death)) => format!("{} in {}", death.reason, death.queue),
            ([], None) => normalised(message),
            (violations, _) => places(violations),
        };
        let nobody = if death.is_some() { "broker" } else { "stranger" };
        let outcome = outcome.map_or(nobody, Outcome::as_str).to_owned();
        let error_code = error_code.map(str::to_owned);
        let key =
            format!("{outcome}\n{}\n{status:?}\n{message}", error_code.as_deref().unwrap_or(""));
        let digest = Sha256::digest(key.as_bytes());
        let id = digest.iter().take(4).fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
        Self { id: format!("{id:08x}"), outcome, error_code, status, message }
    }

    /// The cause of the dead letter that goes with a result.
    pub fn of_result(result: &ResultData) -> Self {
        let error = result.error.as_ref();
        let code = error.and_then(|error| error.error_code.as_deref());
        let status = error.and_then(|error| error.status);
        let said = error.map_or(result.reason.as_str(), |error| error.error_msg.as_str());
        Self::of(Some(result.outcome), code, status, said, &result.violations, None)
    }

    /// `rejected SMS.6603 (400): source server # is not found`
    pub fn in_a_line(&self) -> String {
        let code = self.error_code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
        let status = self.status.map(|status| format!(" ({status})")).unwrap_or_default();
        format!("{}{code}{status}: {}", self.outcome, self.message)
    }
}

/// The places that are wrong, indexes left out, each once. The line that says that there are more has none, and must not
/// make another cause of the same mistake.
fn places(violations: &[Violation]) -> String {
    let whole = violations.iter().all(|violation| violation.pointer.is_empty());
    let named = violations.iter().filter(|violation| whole || !violation.pointer.is_empty());
    let places: BTreeSet<String> = named.map(|violation| place(&violation.pointer)).collect();
    let shown: Vec<&str> = places.iter().take(MOST_PLACES).map(String::as_str).collect();
    let more = if places.len() > MOST_PLACES { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() {
        return "the whole body".into();
    }
    let step = |step: &str| {
        if !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit()) {
            "*".to_owned()
        } else {
            step.to_owned()
        }
    };
    let steps: Vec<String> = pointer.split('/').map(step).collect();
    steps.join("/").chars().take(LONGEST).collect()
}

/// The message with `#` in place of every word that has a digit, and `…` in place of what stands in quotes.
fn normalised(message: &str) -> String {
    let mut normal = String::new();
    let mut word = String::new();
    let mut chars = message.chars().take(4 * LONGEST).peekable();
    let end = |word: &mut String, normal: &mut String| {
        normal.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
        word.clear();
    };
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || matches!(c, '-' | '_') {
            word.push(c);
            continue;
        }
        end(&mut word, &mut normal);
        let opens =
            matches!(c, '"' | '`') || (c == '\'' && !normal.ends_with(char::is_alphanumeric));
        if opens {
            normal.push('…');
            while chars.next().is_some_and(|inside| inside != c) {}
        } else if c.is_whitespace() {
            if !normal.ends_with(' ') {
                normal.push(' ');
            }
        } else {
            normal.push(c);
        }
    }
    end(&mut word, &mut normal);
    normal.trim().chars().take(LONGEST).collect()
}

/// The dead letters of one cause.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    pub cause: Cause,
    /// How many requests, repeats counted once.
    pub count: usize,
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    /// How many of them each batch has; those without one under `-`.
    pub batches: BTreeMap<String, usize>,
    /// How many of them each generation of a batch has, by its UUID.
    pub batch_runs: BTreeMap<String, usize>,
    /// One of them, with its reason as it was written.
    pub example: String,
    pub reason: String,
}

/// The dead letters by cause, the most frequent first.
pub fn groups<'a>(letters: impl IntoIterator<Item = &'a DeadLetter>) -> Vec<Group> {
    let mut by_cause: BTreeMap<&str, Group> = BTreeMap::new();
    for letter in letters {
        let group = by_cause.entry(&letter.cause.id).or_insert_with(|| Group {
            cause: letter.cause.clone(),
            count: 0,
            oldest: letter.failed_at,
            newest: letter.failed_at,
            batches: BTreeMap::new(),
            batch_runs: BTreeMap::new(),
            example: letter.id.to_string(),
            reason: letter.reason.clone(),
        });
        group.count += 1;
        if letter.failed_at.is_some() {
            group.oldest = group.oldest.min(letter.failed_at).or(letter.failed_at);
            group.newest = group.newest.max(letter.failed_at);
        }
        if let Some(run) = letter.batch_run {
            *group.batch_runs.entry(run.to_string()).or_default() += 1;
        }
        *group.batches.entry(letter.batch.clone().unwrap_or_else(|| "-".into())).or_default() += 1;
    }
    let mut groups: Vec<Group> = by_cause.into_values().collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cause.cmp(&b.cause)));
    groups
}

/// Results of requests that have failed, by cause, the largest group first.
pub fn groups_of_results<'a>(
    results: impl IntoIterator<Item = &'a ResultData>,
) -> Vec<(Cause, Vec<&'a ResultData>)> {
    let mut by_cause: BTreeMap<Cause, Vec<&ResultData>> = BTreeMap::new();
    for result in results.into_iter().filter(|result| result.outcome.is_dead_letter()) {
        by_cause.entry(Cause::of_result(result)).or_default().push(result);
    }
    let mut groups: Vec<_> = by_cause.into_iter().collect();
    // Stable: equal ones stay in the order of their causes.
    groups.sort_by_key(|(_, results)| std::cmp::Reverse(results.len()));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_what_differs_from_request_to_request() {
        for (message, normal) in [
            (
                "source server 0d6c3a5e-55aa-4b7e-9d5b-51c1ce6a7e00 is not found",
                "source server # is not found",
            ),
            ("server \"web 17\" has 3 disks", "server … has # disks"),
            ("the server's disk is full", "the server's disk is full"),
            ("  spaces \n and\tlines ", "spaces and lines"),
            ("10.1.2.3:443 refused", "#.#.#.#:# refused"),
            ("源端 42 不存在", "源端 # 不存在"),
            ("", ""),
        ] {
            assert_eq!(normalised(message), normal);
        }
        assert_eq!(normalised(&"x ".repeat(10_000)).chars().count(), LONGEST);
    }

    #[test]
    fn the_cause_of_an_invalid_body_is_where_it_is_wrong() {
        let violation = |pointer: &str| Violation {
            pointer: pointer.into(),
            found: "?".into(),
            allowed: "!".into(),
        };
        let of = |pointers: &[&str]| {
            let violations: Vec<_> = pointers.iter().map(|pointer| violation(pointer)).collect();
            Cause::of(Some(Outcome::Invalid), None, None, "ignored", &violations, None)
        };
        let one = of(&["/target_server/disks/0/name", "/target_server/disks/17/name", "/name"]);
        assert_eq!(one.message, "/name, /target_server/disks/*/name");
        assert_eq!(one, of(&["/name", "/target_server/disks/3/name"]));
        assert_ne!(one.id, of(&["/name"]).id);
        assert_eq!(of(&[""]).message, "the whole body");
        assert_eq!(of(&["/name", ""]), of(&["/name"]), "that there are more is no place");
    }

    #[test]
    fn the_code_the_status_and_the_outcome_each_make_another_cause() {
        let of = |outcome, code, status| Cause::of(outcome, code, status, "m", &[], None).id;
        let ids = BTreeSet::from([
            of(Some(Outcome::Rejected), Some("SMS.1"), Some(400)),
            of(Some(Outcome::Rejected), Some("SMS.2"), Some(400)),
            of(Some(Outcome::Rejected), Some("SMS.1"), Some(404)),
            of(Some(Outcome::Conflict), Some("SMS.1"), Some(400)),
            of(None, Some("SMS.1"), Some(400)),
        ]);
        assert_eq!(ids.len(), 5);
    }
}
