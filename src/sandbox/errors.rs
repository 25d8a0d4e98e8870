//! How does the API say no? The documented error bodies of the service, the gateway and IAM.

use std::time::Duration;

use serde_json::json;

use super::call::Answer;
use crate::contract::Violation;
use crate::core::Rate;

/// The service: 400 for nearly everything.
pub(super) fn sms(code: &str, message: &str) -> Answer {
    coded(400, &json!({"error_code": code, "error_msg": message}), code)
}

/// Two bodies of one text: 403 SMS.9004, as the contract page shows it.
pub(super) fn no_permission(action: &str) -> Answer {
    let resource = format!("You do not have permission to perform action {action} on resource *.");
    let body = json!({
        "error_code": "SMS.9004",
        "error_msg": format!("The current account does not have the permission to execute policy. {resource}"),
        "encoded_authorization_message": "XXXXXX",
        "error_param": [resource],
        "details": [{"error_code": "SMS.9004", "error_msg": resource}],
    });
    coded(403, &body, "SMS.9004")
}

/// A body that breaks the contract. The first violation gives the code; `details` has up to 20, as documented.
pub(super) fn invalid(violations: &[Violation], body: &[u8], max_body: usize) -> Answer {
    let (code, message) = match violations.first() {
        _ if body.iter().all(u8::is_ascii_whitespace) => ("SMS.6012", "The request body is empty."),
        _ if body.len() > max_body => ("SMS.6014", "The request body is too long."),
        _ if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() => {
            ("SMS.6010", "The request body is not in JSON format.")
        }
        Some(violation) => code_of(&violation.pointer),
        None => ("SMS.6011", "The JSON body does not meet the specification."),
    };
    let shown = violations.iter().take(20);
    let details: Vec<_> = shown
        .map(|v| {
            let told = format!("{}: found {}, allowed: {}", v.pointer, v.found, v.allowed);
            json!({"error_code": code_of(&v.pointer).0, "error_msg": shorten(&told)})
        })
        .collect();
    let params: Vec<_> = violations.iter().take(20).map(|v| v.pointer.as_str()).collect();
    let mut answer = json!({"error_code": code, "error_msg": message});
    if !details.is_empty() {
        answer["error_param"] = json!(params);
        answer["details"] = json!(details);
    }
    coded(400, &answer, code)
}

/// Documented messages have 255 characters at most.
fn shorten(text: &str) -> String {
    text.chars().take(255).collect()
}

/// The code for a violation at this place. The API's own choice is not documented; these are the codes whose
/// meaning fits.
fn code_of(pointer: &str) -> (&'static str, &'static str) {
    match pointer {
        "/name" => ("SMS.7711", "The task name is invalid."),
        "/type" => ("SMS.7712", "The task type is invalid."),
        "/os_type" => ("SMS.6601", "The OS type is invalid."),
        "/migration_ip" => ("SMS.6602", "The migration IP address is invalid."),
        "/source_server" | "/source_server/id" => ("SMS.6030", "The source server ID is invalid."),
        "/target_server" | "/target_server/name" => {
            ("SMS.6031", "The target server information is missing.")
        }
        "/target_server/vm_id" => ("SMS.6032", "The parameter vm_id is missing."),
        "/region_id" | "/region_name" => ("SMS.6034", "The region name is invalid."),
        "/project_id" | "/project_name" => ("SMS.6013", "The request parameters are incomplete."),
        _ => ("SMS.6011", "The JSON body does not meet the specification."),
    }
}

/// The gateway: `APIGW.0308` and its like, with a request id.
pub(super) fn gateway(
    status: u16,
    prefix: &str,
    number: &str,
    message: &str,
    request_id: &str,
) -> Answer {
    let code = format!("{prefix}.{number}");
    coded(
        status,
        &json!({"error_msg": message, "error_code": code, "request_id": request_id}),
        &code,
    )
}

/// 429, in the words that clients parse: `policy user over ratelimit,limit:20,time:1 second`.
pub(super) fn throttled(quota: Rate, prefix: &str, request_id: &str) -> Answer {
    let message = format!(
        "The throttling threshold has been reached: policy user over ratelimit,limit:{},time:{}",
        quota.count(),
        in_words(quota.window())
    );
    gateway(429, prefix, "0308", &message, request_id)
}

fn in_words(window: Duration) -> String {
    let (number, unit) = match (window.as_secs(), window.subsec_nanos()) {
        (seconds, 0) if seconds > 0 && seconds.is_multiple_of(3600) => (seconds / 3600, "hour"),
        (seconds, 0) if seconds > 0 && seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        (seconds, 0) => (seconds, "second"),
        _ => return format!("{} millisecond", window.as_millis()),
    };
    format!("{number} {unit}")
}

/// IAM: the code is a number, and stands inside.
pub(super) fn iam(status: u16, message: &str) -> Answer {
    let title = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        _ => "Forbidden",
    };
    let body = json!({"error": {"code": status, "message": message, "title": title}});
    Answer { error_code: Some(format!("IAM {status}")), ..Answer::json(status, &body) }
}

fn coded(status: u16, body: &serde_json::Value, code: &str) -> Answer {
    Answer { error_code: Some(code.to_owned()), ..Answer::json(status, body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_told_as_the_gateway_tells_them() {
        for (window, words) in [
            (1_000, "1 second"),
            (5_000, "5 second"),
            (60_000, "1 minute"),
            (3_600_000, "1 hour"),
            (90_000, "90 second"),
            (1_500, "1500 millisecond"),
        ] {
            assert_eq!(in_words(Duration::from_millis(window)), words);
        }
    }
}
