//! What does a dead letter say? Everything a reviewer asks for, read from the message that lies in the queue.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cause::Cause;
use crate::contract::{Rules, Violation};
use crate::core::request::Run;
use crate::core::{Fault, Outcome, Try};
use crate::message::headers;
use crate::message::intake;
use crate::message::parcel::Parcel;

/// How a request ended before it was replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Past {
    /// The cause in one line.
    pub cause: String,
    #[schemars(with = "Option<String>")]
    pub failed_at: Option<Timestamp>,
    pub attempts: u32,
    /// How often it had been replayed by then.
    pub replay: u32,
}

impl Past {
    pub fn of(letter: &DeadLetter) -> Self {
        Self {
            cause: letter.cause.in_a_line(),
            failed_at: letter.failed_at,
            attempts: letter.attempts,
            replay: letter.replay,
        }
    }
}

/// What is known of a message that is not all in its parcel, for it was too large or could not be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread {
    pub(crate) flaw: Option<String>,
    pub(crate) identity: Option<[u8; 32]>,
    pub(crate) beyond: Option<intake::Beyond>,
    /// Neither a worker, nor a reviewer, nor the broker has put it into the queue.
    pub(crate) stranger: bool,
}

/// A dead letter without its body.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    /// The run: what repeats of a dead letter share (the same body among it), and what it is named by.
    pub id: Uuid,
    pub request_id: String,
    /// None: the broker dead-lettered it by itself, see [`DeadLetter::death`].
    pub outcome: Option<Outcome>,
    pub death: Option<Death>,
    /// It was put into the queue by somebody else: nothing that it said of its past is believed, or kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stranger: bool,
    pub cause: Cause,
    pub reason: String,
    pub error: Option<Fault>,
    pub violations: Vec<Violation>,
    pub attempts: u32,
    pub failed_at: Option<Timestamp>,
    pub history: Vec<Try>,
    /// How it ended before it was replayed, the latest last.
    pub past: Vec<Past>,
    pub batch: Option<String>,
    /// The generation of the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_run: Option<Uuid>,
    pub row: Option<u64>,
    pub name: String,
    pub source_server_id: String,
    pub project_id: String,
    pub region_id: String,
    pub priority: u16,
    pub enqueued_at: Option<Timestamp>,
    pub replay: u32,
    /// The length of the body.
    pub bytes: u32,
    /// How often it lies in the queue.
    pub copies: u32,
}

/// Why the broker dead-lettered a message, from its `x-death` header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// `delivery_limit`, `expired`, `maxlen`, `rejected`
    pub reason: String,
    pub queue: String,
    pub at: Option<Timestamp>,
}

impl DeadLetter {
    /// Reads a dead letter. Never fails: what cannot be read stays empty, and the body is there in any case.
    pub fn read(parcel: &Parcel, death: Option<Death>, rules: &Rules) -> Self {
        Self::read_with(parcel, death, rules, Unread::default())
    }

    /// The same, with what is known of it beside the parcel.
    pub(crate) fn read_with(
        parcel: &Parcel,
        death: Option<Death>,
        rules: &Rules,
        unread: Unread,
    ) -> Self {
        let flaw = unread.flaw.clone();
        let stranger =
            unread.stranger || parcel.header(headers::STRANGER).is_some_and(|text| text == "true");
        let intake = read_request(parcel, rules, unread);
        let request = intake.request;
        let outcome = parcel.header(headers::OUTCOME).and_then(|word| Outcome::named(&word));
        // What the worker has dead-lettered may have passed the broker's own dead-lettering before.
        let death = if outcome.is_some() { None } else { death };
        let error = json::<Fault>(parcel, headers::ERROR);
        let code = parcel.header(headers::ERROR_CODE);
        let status = parcel.header(headers::STATUS).and_then(|text| text.parse().ok());
        let violations: Vec<Violation> = json(parcel, headers::VIOLATIONS).unwrap_or_default();
        let reason = match (&death, parcel.header(headers::REASON)) {
            (Some(death), _) => death.explained(),
            (None, _) if stranger => STRANGER.into(),
            (None, Some(reason)) => reason,
            (None, None) => "nothing says why it is here: it was put into the queue by hand".into(),
        };
        let reason = match flaw {
            Some(flaw) => format!("{reason} (not all of it can be read: {flaw})"),
            None => reason,
        };
        let said = error.as_ref().map_or(reason.as_str(), |error| error.error_msg.as_str());
        let cause = Cause::of(outcome, code.as_deref(), status, said, &violations, death.as_ref());
        let failed_at = parcel.header(headers::FAILED_AT).and_then(|text| text.parse().ok());
        let id = match (outcome, &parcel.message_id) {
            (Some(_), Some(id)) => id.parse().map_or(request.run.0, |id| named(id, request.run)),
            _ => request.run.0,
        };
        Self {
            id,
            request_id: parcel
                .header(headers::REQUEST_ID)
                .unwrap_or_else(|| request.id.to_string()),
            outcome,
            failed_at: failed_at.or_else(|| death.as_ref().and_then(|death| death.at)),
            death,
            stranger,
            cause,
            reason,
            error,
            violations,
            attempts: parcel
                .header(headers::ATTEMPTS)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            history: json(parcel, headers::HISTORY).unwrap_or_default(),
            past: json(parcel, headers::PAST).unwrap_or_default(),
            batch: request.batch().map(str::to_owned),
            batch_run: request.batch_run(),
            row: request.row.get(),
            name: request.name.to_string(),
            source_server_id: request.source_server_id.to_string(),
            project_id: request.shared.project_id.to_string(),
            region_id: request.shared.region_id.to_string(),
            priority: request.priority,
            enqueued_at: request.enqueued_at.get(),
            replay: request.rare.replay,
            bytes: request.bytes,
            copies: 1,
        }
    }
}

/// Why it is here, as far as anybody knows.
const STRANGER: &str =
    "it was put here by somebody else, not by Sluicegate: what it says of its past is not believed";

impl Death {
    fn explained(&self) -> String {
        let Self { reason, queue, .. } = self;
        match reason.as_str() {
            "delivery_limit" => format!(
                "the broker dead-lettered it from {queue} because it was returned too often (x-delivery-limit), tried or not"
            ),
            "expired" => {
                format!("it expired in {queue}: the message or the queue has a time to live")
            }
            "maxlen" => format!("{queue} was full (x-max-length)"),
            "rejected" => format!("a consumer of {queue} rejected it"),
            other => format!("the broker dead-lettered it from {queue}: {other}"),
        }
    }
}

/// The worker names a dead letter by its run, which is told by the body among other things. Under a name that is not that of
/// its run (somebody put a fixed copy beside the original, say) it is a dead letter of its own: one body must never pass for
/// a repeat of another.
fn named(id: Uuid, run: Run) -> Uuid {
    if id == run.0 { id } else { Uuid::new_v5(&id, run.0.as_bytes()) }
}

/// Reads the request of a message, as the worker would.
pub(crate) fn read_request(parcel: &Parcel, rules: &Rules, unread: Unread) -> intake::Intake {
    let message = intake::Message {
        message_id: parcel
            .header(headers::REQUEST_ID)
            .or_else(|| parcel.message_id.clone())
            .map(Into::into),
        timestamp: parcel
            .timestamp
            .and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok()),
        priority: None,
        // Not those that say how it ended: they are long, and no part of the request.
        headers: parcel
            .headers
            .keys()
            .filter(|name| !headers::OF_A_DEAD_LETTER.contains(&name.as_str()))
            .filter_map(|name| Some((name.into(), parcel.header(name)?.into())))
            .collect(),
        body: parcel.body.clone(),
        content_encoding: parcel.content_encoding.as_deref().map(Into::into),
        flaw: unread.flaw.map(Into::into),
        identity: unread.identity,
        beyond: unread.beyond,
    };
    intake::read(&message, rules)
}

fn json<T: for<'de> Deserialize<'de>>(parcel: &Parcel, name: &str) -> Option<T> {
    serde_json::from_str(&parcel.header(name)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(headers: &[(&str, &str)]) -> Parcel {
        Parcel {
            message_id: Some("17".into()),
            headers: headers
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).into()))
                .collect(),
            body: "{}".into(),
            ..Parcel::default()
        }
    }

    #[test]
    fn a_letter_of_the_worker_says_all_that_its_headers_say() {
        let mut parcel = parcel(&[
            (headers::OUTCOME, "rejected"),
            (headers::REASON, "the API refused it"),
            (headers::ERROR_CODE, "SMS.6603"),
            (headers::STATUS, "400"),
            (headers::ATTEMPTS, "3"),
            (headers::FAILED_AT, "2026-01-31T12:00:00.000Z"),
            (headers::ERROR, r#"{"status":400,"error_msg":"server 42 not found"}"#),
            (
                headers::HISTORY,
                r#"[{"at":"2026-01-31T12:00:00Z","what":"post","verdict":"rejected"}]"#,
            ),
            (headers::REQUEST_ID, "row 17"),
            ("x-sluice-batch", "wave-1"),
        ]);
        let id = read_request(&parcel, &Rules::default(), Unread::default()).request.run.0;
        parcel.message_id = Some(id.to_string());
        let letter = DeadLetter::read(&parcel, None, &Rules::default());
        assert_eq!((letter.id, letter.request_id.as_str()), (id, "row 17"));
        assert_eq!((letter.outcome, letter.attempts), (Some(Outcome::Rejected), 3));
        assert_eq!(letter.cause.message, "server # not found");
        assert_eq!(
            (letter.cause.error_code.as_deref(), letter.cause.status),
            (Some("SMS.6603"), Some(400))
        );
        assert_eq!((letter.batch.as_deref(), letter.history.len()), (Some("wave-1"), 1));
    }

    #[test]
    fn another_body_or_another_replay_under_the_same_name_is_another_letter() {
        let one = Parcel {
            message_id: Some(Uuid::new_v4().to_string()),
            ..parcel(&[(headers::OUTCOME, "rejected"), (headers::REQUEST_ID, "17")])
        };
        let mut replayed = one.clone();
        replayed.headers.insert(headers::REPLAY.into(), "1".into());
        let fixed = Parcel { body: "{ }".into(), ..one.clone() };
        let ids = [&one, &one, &replayed, &fixed]
            .map(|parcel| DeadLetter::read(parcel, None, &Rules::default()).id);
        assert_eq!(ids[0], ids[1]);
        assert_eq!(std::collections::HashSet::from(ids).len(), 3);
    }

    #[test]
    fn what_the_broker_dead_lettered_has_the_brokers_reason() {
        let death =
            Death { reason: "delivery_limit".into(), queue: "sluice.requests".into(), at: None };
        let letter = DeadLetter::read(&parcel(&[]), Some(death.clone()), &Rules::default());
        assert_eq!((letter.outcome, letter.cause.outcome.as_str()), (None, "broker"));
        assert!(letter.reason.contains("returned too often"));
        assert_eq!(letter.request_id, "17");
        // The same message twice is the same dead letter.
        assert_eq!(letter.id, DeadLetter::read(&parcel(&[]), Some(death), &Rules::default()).id);
    }

    #[test]
    fn broken_headers_cost_what_they_say_and_nothing_else() {
        let parcel = parcel(&[
            (headers::OUTCOME, "nonsense"),
            (headers::VIOLATIONS, "{"),
            (headers::ATTEMPTS, "-1"),
            (headers::FAILED_AT, "yesterday"),
        ]);
        let letter = DeadLetter::read(&parcel, None, &Rules::default());
        assert_eq!((letter.outcome, letter.attempts, letter.failed_at), (None, 0, None));
    }
}
