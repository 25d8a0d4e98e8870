//! Why is the next request not going now, and when will it? One sentence, the same for `/readyz`, the console and
//! `sluice gate status`.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::{Running, SessionStatus, Status};
use crate::core::gate::Reason;
use crate::message::words;

impl Status {
    /// Why the next request does not go now, and when it will, in one sentence.
    pub fn why(&self) -> String {
        if self.stopping {
            return "the worker is stopping: what is in flight ends, the rest stays in the queue"
                .to_owned();
        }
        match &self.session {
            SessionStatus::Detached { why, .. } => format!(
                "there is no session with the broker ({why}); the next request goes as soon as there is one"
            ),
            SessionStatus::Standby { .. } if self.foreign => "no worker is the active one: something that is no worker consumes the queue that says who is; the next request goes when it is gone (`rabbitmqctl list_consumers` names it)".to_owned(),
            SessionStatus::Standby { .. } => {
                "another worker is the active one; this one takes over when that one goes"
                    .to_owned()
            }
            SessionStatus::Active { .. } if self.is_robbed() => self.robbed(),
            SessionStatus::Active { .. } => {
                let mut why =
                    self.gate.reason.map_or_else(|| self.open(), |reason| self.shut(reason));
                let unpublished = self.window.unpublished;
                if unpublished > 0 && self.gate.reason != Some(Reason::Unpublished) {
                    let _ = write!(
                        why,
                        "; {unpublished} that have ended wait, because the broker refuses their dead letter or result (is a queue full?)"
                    );
                }
                if self.short_sessions > 1 {
                    let _ = write!(
                        why,
                        "; what is in doubt cannot be looked up a second time, for the last {} sessions with the broker were shorter than api.look_again",
                        self.short_sessions
                    );
                }
                why
            }
        }
    }

    fn robbed(&self) -> String {
        let others = self.others.map_or(0, |others| others.consumers);
        let waiting = self.queues.map(|queues| format!(", and {} wait in it", queues.requests));
        format!(
            "{others} other consumers were on the queue of requests before this worker, which is given nothing{}; requests go to it when they are gone (`rabbitmqctl list_consumers` names them)",
            waiting.unwrap_or_default()
        )
    }

    fn open(&self) -> String {
        let window = &self.window;
        if window.ready > 0 {
            return "the gate is open; the next request goes now".to_owned();
        }
        match (window.waiting, window.in_flight + window.settling) {
            (0, 0) => "nothing waits; the next request goes as soon as it comes".to_owned(),
            (0, busy) => format!("all {busy} requests held are in flight; a new one goes at once"),
            (waiting, busy) => {
                let first = self.next_wait.map(|at| format!(", the first {}", moment(at, self.at)));
                let first = first.unwrap_or_default();
                if self.window_size > 0 && waiting + busy >= self.window_size {
                    return format!(
                        "the window is full ({} of window.size {}), and all {waiting} requests that wait in it have a time of their own (a retry, a look-up, a not-before){first}; new ones stay in the queue until there is room",
                        waiting + busy,
                        self.window_size
                    );
                }
                format!(
                    "all {waiting} requests that wait have a time of their own (a retry, a look-up, a not-before){first}; a new one goes at once"
                )
            }
        }
    }

    fn shut(&self, reason: Reason) -> String {
        let detail = self.gate.detail.as_deref();
        let because = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        let when = self.when();
        match reason {
            Reason::Stopping => "the worker is stopping; the rest stays in the queue".to_owned(),
            Reason::NoSession => {
                "there is no session with the broker; the next request goes as soon as there is one".to_owned()
            }
            Reason::Linger => format!("the first requests wait for more urgent company; the next one goes {when}"),
            Reason::Blocked => "the broker has raised a resource alarm and takes no results; the next request goes when that ends".to_owned(),
            Reason::Unpublished => format!(
                "the broker refuses the dead letter or result of {} requests that have ended (is the queue of dead letters full, or one that somebody has bound to the results?); they are offered again {when}, and the rest goes when they are taken",
                self.window.unpublished
            ),
            Reason::Halted => format!("the account refuses{because}; it is asked again {when}, or at once after `sluice gate resume`"),
            Reason::Token => "a fresh token is being fetched; the next request goes when it is there".to_owned(),
            Reason::Breaker => format!("many calls in a row have failed{because}; a single one is tried {when}, and the rest goes when it succeeds"),
            Reason::Throttled => {
                let said = detail.unwrap_or("429");
                format!("the API throttles ({said}); the next request goes {when}")
            }
            Reason::Paused => match detail {
                Some(detail) => format!("paused by {detail}; the next request goes after `sluice gate resume`"),
                None => "paused; the next request goes after `sluice gate resume`".to_owned(),
            },
            Reason::Schedule if self.gate.until.is_none() => {
                "no window of the schedule is open, and none opens within a week".to_owned()
            }
            Reason::Schedule => format!("no window of the schedule is open; the next request goes {when}"),
            Reason::Running => self.full(&when),
            Reason::InFlight => format!(
                "{} requests are in flight, which is limits.max_in_flight; the next one goes when one of them ends",
                self.limits.max_in_flight
            ),
            Reason::Rate => format!("the rate of {} is used up; the next request goes {when}", self.rates()),
        }
    }

    fn full(&self, when: &str) -> String {
        match self.running {
            Some(Running { migrations: Some(migrations), most }) if migrations >= most => format!(
                "the account runs {migrations} migrations, and limits.max_running is {most}; the next request goes when one of them ends, which is looked for again {when}"
            ),
            Some(Running { migrations: Some(migrations), most }) => format!(
                "the account runs {migrations} of {most} migrations, but a worker before this one may have started some that the API does not show yet; they are counted again {when}"
            ),
            _ => format!(
                "it is not known how many migrations the account runs; they are counted again {when}"
            ),
        }
    }

    fn rates(&self) -> String {
        let given = self.limits.rates.join(" and ");
        match self.limits.allowed_per_second {
            // What was learned from a 429 is less than what was given.
            Some(allowed) => match self.limits.lowered_since {
                Some(since) => format!(
                    "{given} ({allowed:.2}/s since the API said 429 at {}; `sluice gate rate configured` forgets that)",
                    since.strftime("%H:%M:%SZ")
                ),
                None => format!("{given} ({allowed:.2}/s just now)"),
            },
            None => given,
        }
    }

    fn when(&self) -> String {
        self.gate
            .until
            .map_or_else(|| "as soon as that ends".to_owned(), |until| moment(until, self.at))
    }
}

/// `at 12:00:05Z (in 5 s)`
fn moment(until: Timestamp, now: Timestamp) -> String {
    if until.duration_since(now) < SignedDuration::from_secs(1) {
        return "within a second".to_owned();
    }
    let until = up(until, 1);
    let left = until.duration_since(now);
    let seconds = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    let left = words::span(seconds.unsigned_abs());
    if seconds < 12 * 3600 {
        format!("at {} (in {left})", until.strftime("%H:%M:%SZ"))
    } else {
        format!("at {} (in {left})", up(until, 60).strftime("%Y-%m-%dT%H:%MZ"))
    }
}

/// The next full step of so many seconds: nothing is announced for earlier than it is. A time that was worked out from two
/// clocks misses its second by a little, which is no step.
fn up(at: Timestamp, step: i64) -> Timestamp {
    let tenths = (at.as_millisecond() + 50).div_euclid(100);
    let seconds = (tenths + 9).div_euclid(10);
    Timestamp::from_second((seconds + step - 1).div_euclid(step) * step).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(reason: Option<Reason>) -> Status {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let mut status = Status::starting("lane", "worker", now);
        status.session =
            SessionStatus::Active { since: now, server: "4.0".into(), unchecked: Vec::new() };
        status.gate.reason = reason;
        status.limits.rates = vec!["2/s".into(), "60/min".into()];
        status.limits.allowed_per_second = Some(1.0);
        status
    }

    #[test]
    fn every_reason_has_one_sentence_with_what_ends_it() {
        for reason in Reason::ALL {
            for until in [None, Some(5)] {
                let mut status = active(Some(reason));
                status.gate.until = until.map(|s| status.at + SignedDuration::from_secs(s));
                let why = status.why();
                assert!(why.len() > 20 && !why.contains(". ") && !why.ends_with('.'), "{why}");
                let has_time = matches!(
                    reason,
                    Reason::Linger
                        | Reason::Unpublished
                        | Reason::Halted
                        | Reason::Breaker
                        | Reason::Throttled
                        | Reason::Schedule
                        | Reason::Running
                        | Reason::Rate
                );
                assert_eq!(
                    why.contains("at 12:00:05Z (in 5 s)"),
                    has_time && until.is_some(),
                    "{why}"
                );
            }
        }
    }

    #[test]
    fn others_that_take_the_requests_are_said_and_those_that_only_wait_are_not() {
        let mut status = active(None);
        status.queues = Some(super::super::Queues { requests: 15, dead_letters: 0 });
        let others = |receives| Some(super::super::Others { consumers: 1, receives });
        status.others = others(false);
        assert!(!status.is_ready());
        let why = status.why();
        assert!(
            why.starts_with("1 other consumers were") && why.contains("15 wait in it"),
            "{why}"
        );
        status.others = others(true);
        assert!(status.is_ready());
        assert!(status.why().starts_with("nothing waits"), "{}", status.why());
    }

    #[test]
    fn what_the_api_said_is_in_the_sentence_of_every_reason_that_it_has_given() {
        for reason in [Reason::Halted, Reason::Breaker, Reason::Throttled] {
            let mut status = active(Some(reason));
            status.gate.detail = Some("APIGW.0308 (429): limit:60,time:1 minute".into());
            let why = status.why();
            assert!(why.contains("(APIGW.0308 (429): limit:60,time:1 minute)"), "{why}");
        }
        assert!(active(Some(Reason::Throttled)).why().starts_with("the API throttles (429);"));
    }

    #[test]
    fn the_sentence_says_who_paused_and_how_many_run() {
        let mut status = active(Some(Reason::Paused));
        status.gate.detail = Some("anna@ops: maintenance".into());
        assert_eq!(
            status.why(),
            "paused by anna@ops: maintenance; the next request goes after `sluice gate resume`"
        );
        let mut status = active(Some(Reason::Running));
        status.running = Some(Running { migrations: Some(100), most: 100 });
        assert!(status.why().starts_with("the account runs 100 migrations"), "{}", status.why());
        let mut status = active(Some(Reason::Rate));
        status.gate.until = Some(status.at + SignedDuration::from_millis(300));
        assert_eq!(
            status.why(),
            "the rate of 2/s and 60/min (1.00/s just now) is used up; the next request goes within a second"
        );
    }

    #[test]
    fn an_open_gate_says_what_is_waited_for() {
        let mut status = active(None);
        assert_eq!(status.why(), "nothing waits; the next request goes as soon as it comes");
        status.window.waiting = 3;
        assert!(status.why().starts_with("all 3 requests that wait"), "{}", status.why());
        status.window.ready = 1;
        assert_eq!(status.why(), "the gate is open; the next request goes now");
        status.session = SessionStatus::Standby { since: status.at };
        assert!(status.why().starts_with("another worker"), "{}", status.why());
    }

    #[test]
    fn requests_that_wait_for_their_time_say_when_the_first_goes_and_whether_a_new_one_would() {
        let mut status = active(None);
        (status.window.waiting, status.window_size) = (3, 4);
        status.next_wait = Some(status.at + SignedDuration::from_secs(125));
        assert_eq!(
            status.why(),
            "all 3 requests that wait have a time of their own (a retry, a look-up, a not-before), the first at 12:02:05Z (in 2 min 5 s); a new one goes at once"
        );
        status.window.in_flight = 1;
        let why = status.why();
        assert!(why.starts_with("the window is full (4 of window.size 4)"), "{why}");
        assert!(
            why.contains("the first at 12:02:05Z") && why.contains("stay in the queue"),
            "{why}"
        );
        assert!(!why.contains("at once"), "{why}");
    }

    #[test]
    fn a_time_is_never_announced_for_earlier_than_it_is() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let told = |millis| moment(now + SignedDuration::from_millis(millis), now);
        let day = 24 * 3_600_000;
        assert_eq!(
            told(day - 1),
            "at 2026-11-24T12:00Z (in 1 d 0 h)",
            "two clocks differ by a little"
        );
        assert_eq!(told(day + 1), "at 2026-11-24T12:00Z (in 1 d 0 h)");
        assert_eq!(told(day + 500), "at 2026-11-24T12:01Z (in 1 d 0 h)");
        assert_eq!(told(60_000 - 1), "at 12:01:00Z (in 1 min 0 s)");
        assert_eq!(told(60_300), "at 12:01:01Z (in 1 min 1 s)");
    }

    #[test]
    fn long_waits_are_told_in_days_and_with_the_date() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let told = |seconds| moment(now + SignedDuration::from_secs(seconds), now);
        assert_eq!(told(125), "at 12:02:05Z (in 2 min 5 s)");
        assert_eq!(told(3 * 3600), "at 15:00:00Z (in 3 h 0 min)");
        assert_eq!(told(50 * 3600), "at 2026-11-25T14:00Z (in 2 d 2 h)");
        assert_eq!(told(-5), "within a second");
    }
}
