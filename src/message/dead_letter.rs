//! What does a dead letter say of its end? The headers that it has beyond those of the request, each of them bounded.

use std::collections::BTreeMap;

use serde::Serialize;

use super::result::MOST_VIOLATIONS;
use crate::core::verdict::Fault;
use crate::core::{Ending, Try};
use crate::message::headers;

/// The longest header of a dead letter in bytes, for the same reason.
const LONGEST_HEADER: usize = 16 * 1024;

/// The headers that a dead letter has beyond those of the request, each of them bounded.
pub fn dead_letter_headers(ending: &Ending) -> BTreeMap<&'static str, String> {
    let mut headers = BTreeMap::new();
    headers.insert(headers::OUTCOME, ending.outcome.as_str().to_owned());
    headers.insert(headers::REASON, shortened(&ending.reason));
    headers.insert(headers::ATTEMPTS, ending.attempts.to_string());
    // Always, so that what an earlier dead letter said of the request is not believed of this one.
    headers.insert(headers::NEVER_SENT, ending.never_sent.to_string());
    headers.insert(headers::FAILED_AT, format!("{:.3}", ending.settled_at));
    if let Some(fault) = &ending.fault {
        if let Some(status) = fault.status {
            headers.insert(headers::STATUS, status.to_string());
        }
        if let Some(code) = &fault.error_code {
            headers.insert(headers::ERROR_CODE, shortened(code));
        }
        headers.insert(headers::ERROR, fault_json(fault));
    }
    if !ending.violations.is_empty() {
        headers.insert(
            headers::VIOLATIONS,
            array_json(ending.violations.iter().take(MOST_VIOLATIONS)),
        );
    }
    if !ending.history.is_empty() {
        // The latest tries matter most, and the array is cut at its end.
        let latest: Vec<&Try> = ending.history.iter().rev().take(MOST_VIOLATIONS).collect();
        headers.insert(headers::HISTORY, array_json(latest.into_iter().rev()));
    }
    headers
}

/// The fault without its details where those are too long.
fn fault_json(fault: &Fault) -> String {
    let whole = serde_json::to_string(fault).unwrap_or_default();
    if whole.len() <= LONGEST_HEADER {
        return whole;
    }
    let short = Fault {
        error_msg: shortened(&fault.error_msg).chars().take(2_000).collect(),
        error_code: fault.error_code.as_deref().map(|code| code.chars().take(100).collect()),
        status: fault.status,
        request_id: fault.request_id.as_deref().map(|id| id.chars().take(100).collect()),
        ..Fault::default()
    };
    serde_json::to_string(&short).unwrap_or_default()
}

/// A JSON array of as many items as fit.
fn array_json<'a, T: Serialize + 'a>(items: impl Iterator<Item = &'a T>) -> String {
    let mut json = String::from("[");
    for item in items {
        let item = serde_json::to_string(item).unwrap_or_default();
        if json.len() + item.len() + 2 > LONGEST_HEADER {
            break;
        }
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&item);
    }
    json.push(']');
    json
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(4_000) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Violation;
    use crate::core::Outcome;
    use crate::message::result::tests::{ending, violation};

    #[test]
    fn a_dead_letter_says_why_in_its_headers() {
        let mut end = ending(Outcome::Rejected);
        end.reason = "the API refused it".into();
        end.fault = Some(Fault {
            status: Some(400),
            error_code: Some("SMS.6603".into()),
            error_msg: "no such server".into(),
            ..Fault::default()
        });
        end.history = vec![Try {
            at: end.settled_at,
            what: "post".into(),
            verdict: "rejected".into(),
            status: Some(400),
            error_code: None,
        }];
        let headers = dead_letter_headers(&end);
        assert_eq!(headers[headers::OUTCOME], "rejected");
        assert_eq!(headers[headers::ERROR_CODE], "SMS.6603");
        assert_eq!(headers[headers::STATUS], "400");
        assert_eq!(headers[headers::REASON], "the API refused it");
        assert_eq!(headers[headers::ATTEMPTS], "1");
        assert_eq!(headers[headers::FAILED_AT], "2026-01-31T12:00:00.500Z");
        assert_eq!(
            serde_json::from_str::<Vec<Try>>(&headers[headers::HISTORY]).unwrap(),
            end.history
        );
        assert_eq!(
            Some(serde_json::from_str::<Fault>(&headers[headers::ERROR]).unwrap()),
            end.fault
        );
        let own =
            |name: &&str| headers::OF_A_DEAD_LETTER.contains(name) || *name == headers::NEVER_SENT;
        assert!(headers.keys().all(own));
        assert_eq!(headers[headers::NEVER_SENT], "false");
    }

    #[test]
    fn headers_stay_within_a_frame_whatever_was_wrong() {
        let mut end = ending(Outcome::Invalid);
        end.violations = (0..60_000).map(|_| violation(&"ü".repeat(500))).collect();
        end.reason = "x".repeat(1_000_000);
        end.fault = Some(Fault {
            error_msg: "y".repeat(1_000_000),
            error_param: vec!["z".repeat(90_000)],
            ..Fault::default()
        });
        end.history = (0..5_000)
            .map(|_| Try {
                at: end.settled_at,
                what: "post".into(),
                verdict: "transient".into(),
                status: None,
                error_code: None,
            })
            .collect();
        let headers = dead_letter_headers(&end);
        assert!(headers.values().map(String::len).sum::<usize>() < 64 * 1024);
        let told: Vec<Violation> = serde_json::from_str(&headers[headers::VIOLATIONS]).unwrap();
        assert!(!told.is_empty());
        assert!(serde_json::from_str::<Fault>(&headers[headers::ERROR]).is_ok());
    }
}
