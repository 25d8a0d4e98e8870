//! How long does a 429 want us to wait, and which quota does it name?

use std::time::Duration;

use jiff::Timestamp;

/// No answer holds the gate longer than this; a probe then finds out.
const LONGEST: Duration = Duration::from_secs(3600);

/// Reads `Retry-After`: seconds, or a date, which is compared with the server's own `Date` where there is one.
pub(super) fn retry_after(header: &str, server_now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    let wait = match header.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) => LONGEST,
        Err(_) => {
            let at = Timestamp::try_from(httpdate::parse_http_date(header).ok()?).ok()?;
            Duration::try_from(at.duration_since(server_now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST))
}

/// Reads the quota that the gateway's text names: `... policy user over ratelimit,limit:60,time:1 minute` is 60 calls
/// in one minute.
pub(super) fn quota(text: &str) -> Option<(u32, Duration)> {
    // Upper case may not be folded away by byte length, so only ASCII is folded: the positions stay the same.
    let text = text.to_ascii_lowercase();
    let (calls, after) = number_after(&text, "limit:")?;
    let (count, unit) = number_after(after, "time:")?;
    let unit: String = unit.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    let seconds = match unit.as_str() {
        "ms" | "millisecond" | "milliseconds" => {
            return window(calls, Duration::from_millis(count));
        }
        "" | "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        _ => return None,
    };
    window(calls, Duration::from_secs(count.checked_mul(seconds)?))
}

/// One whole window is what has to pass before the quota is there again.
pub(super) fn wait_for(quota: Option<(u32, Duration)>) -> Option<Duration> {
    quota.map(|(_, window)| window.min(LONGEST))
}

fn window(calls: u64, window: Duration) -> Option<(u32, Duration)> {
    let calls = u32::try_from(calls).ok()?;
    // A window of a year is a misreading, and arithmetic with it overflows further on.
    (calls > 0 && !window.is_zero() && window <= Duration::from_secs(366 * 86_400))
        .then_some((calls, window))
}

fn number_after<'a>(text: &'a str, label: &str) -> Option<(u64, &'a str)> {
    let (_, rest) = text.split_once(label)?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((rest[..end].parse().ok()?, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_is_read_from_the_texts_that_were_seen() {
        let minute = Duration::from_secs(60);
        let cases = [
            (
                "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute",
                60,
                minute,
            ),
            ("policy api over ratelimit,limit:2000,time:1 minute", 2000, minute),
            ("policy ip over ratelimit,limit:5,time:5 second", 5, Duration::from_secs(5)),
            ("remain:9,limit:10,time:10 second", 10, Duration::from_secs(10)),
            ("Limit: 3, Time: 2 Hours", 3, Duration::from_secs(7200)),
            ("limit:100000,time:1 day", 100_000, Duration::from_secs(86_400)),
        ];
        for (text, calls, window) in cases {
            assert_eq!(quota(text), Some((calls, window)), "{text}");
        }
    }

    #[test]
    fn a_text_that_names_no_quota_names_none() {
        let cases = [
            "",
            "too many requests",
            "limit:60",
            "limit:,time:1 minute",
            "limit:60,time:1 fortnight",
            "limit:0,time:1 minute",
            "limit:60,time:0 minute",
            "limit:99999999999,time:1 minute",
            "limit:60,time:99999999999999999999 minute",
            "limit:60,time:18446744073709551615 day",
            "limit:60,time:9999999 day",
            "İlimit:x",
        ];
        for text in cases {
            assert_eq!(quota(text), None, "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_too_long() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let cases = [
            ("17", Some(17)),
            (" 0 ", Some(0)),
            ("999999", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Mon, 23 Nov 2026 12:00:40 GMT", Some(40)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", Some(0)),
            ("Tue, 23 Nov 2027 12:00:00 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ];
        for (header, seconds) in cases {
            assert_eq!(retry_after(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_or_wait_too_long(text: String, header: String, calls: u64, count: u64, unit in "[a-z]{0,8}") {
            let _ = quota(&text);
            let named = quota(&format!("{text}limit:{calls},time:{count} {unit}{text}"));
            proptest::prop_assert!(wait_for(named).is_none_or(|wait| wait <= LONGEST));
            let wait = retry_after(&header, Timestamp::UNIX_EPOCH);
            proptest::prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }
    }
}
