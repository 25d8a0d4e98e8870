//! Why is the next request not going now, at a glance? The gate in a word and a colour of its own, the sentence below it, and
//! Resume beside a pause.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::LaneView;
use super::access::{Viewer, operator};
use super::page::{self, ago, csrf, hidden, whole};
use crate::core::gate::Reason;
use crate::message::status::{SessionStatus, Status};
use crate::report::text::visible;

/// How the gate is, in a word and a colour of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Open,
    Waits,
    Paused,
    Standby,
    Fault,
}

impl Look {
    fn of(status: &Status) -> Self {
        match (&status.session, status.gate.reason) {
            (SessionStatus::Standby { .. }, _) => Self::Standby,
            (SessionStatus::Detached { .. }, _) => Self::Fault,
            (SessionStatus::Active { .. }, _) if status.is_robbed() => Self::Fault,
            // The rate alone shuts nothing: what it holds up goes in a moment.
            (SessionStatus::Active { .. }, _) if status.gate.open => Self::Open,
            (SessionStatus::Active { .. }, Some(reason)) => Self::shut_by(reason),
            (SessionStatus::Active { .. }, None) => Self::Waits,
        }
    }

    fn shut_by(reason: Reason) -> Self {
        match reason {
            Reason::Paused => Self::Paused,
            Reason::NoSession
            | Reason::Blocked
            | Reason::Unpublished
            | Reason::Halted
            | Reason::Token
            | Reason::Breaker
            | Reason::Throttled => Self::Fault,
            Reason::Stopping
            | Reason::Linger
            | Reason::Schedule
            | Reason::Running
            | Reason::InFlight
            | Reason::Rate => Self::Waits,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Open => "The gate is open",
            Self::Waits => "The gate is shut for a moment",
            Self::Paused => "Paused",
            Self::Standby => "Standby",
            Self::Fault => "The gate is shut by a fault",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waits => "waits",
            Self::Paused => "paused",
            Self::Standby => "standby",
            Self::Fault => "fault",
        }
    }
}

/// A loop that has said nothing for so long does not turn, whatever it said last.
const STALE: SignedDuration = SignedDuration::from_secs(15);

/// The sentence, and beside "paused by" the way to end that.
pub(super) fn card(status: &Status, whose: Option<(&LaneView, &Viewer)>) -> Markup {
    let look = Look::of(status);
    let is_stale = Timestamp::now().duration_since(status.at) > STALE;
    let resume = whose
        .filter(|_| look == Look::Paused)
        .and_then(|(place, viewer)| Some((place, operator(viewer)?)));
    html! {
        @if is_stale {
            p.notice.bad role="alert" { strong { "This lane has said nothing" } " since " (page::clock(status.at)) ", " (ago(status.at)) ": what stands below is as it was then. The worker's loop does not turn; its log says why." }
        }
        section class={ "card gate " (look.class()) @if is_stale { " stale" } } {
            p.word { (look.word()) }
            p.sentence { (sentence(&status.why(), status.at)) }
            @if let Some((place, session)) = resume {
                form.actions #resume method="post" action="/gate/resume" { (csrf(session)) (hidden("lane", &place.name)) button type="submit" { "Resume" } }
            }
            p.soft {
                @if let Some(since) = status.gate.since && !status.gate.open { "Since " (page::clock(since)) ". " }
                (attached(&status.session)) " "
                "Worker " (whole(&status.worker)) ", version " (status.version) ", started " (ago(status.started_at)) "."
            }
        }
    }
}

/// The sentence of `sluice gate status`, as one that stands alone; what stands in back quotes is to be typed, and a time
/// is one of the page.
pub(super) fn sentence(text: &str, now: Timestamp) -> Markup {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let text = format!("{first}{}.", chars.as_str());
    html! {
        @for (n, part) in text.split('`').enumerate() {
            @if n % 2 == 1 { code { (visible(part)) } } @else {
                @for (n, word) in part.split(' ').enumerate() {
                    @if n > 0 { " " }
                    @match moment(word, now) {
                        Some((at, rest)) => { (page::clock(at)) (visible(rest)) }
                        None => (visible(word)),
                    }
                }
            }
        }
    }
}

/// A time of ours that a word begins with, and what follows it: `12:00:05Z` is the next one, `2026-11-25T14:00Z` says it all.
fn moment(word: &str, now: Timestamp) -> Option<(Timestamp, &str)> {
    let (time, rest) = word.split_once('Z')?;
    if let Ok(at) = format!("{time}:00Z").parse() {
        return Some((at, rest));
    }
    let is_clock =
        time.len() == 8 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let at =
        |day: Timestamp| format!("{}T{time}Z", day.strftime("%Y-%m-%d")).parse::<Timestamp>().ok();
    let today = is_clock.then(|| at(now)).flatten()?;
    let half = SignedDuration::from_hours(12);
    let day = SignedDuration::from_hours(24);
    let off = today.duration_since(now);
    // The nearest of its kind: yesterday's, today's or tomorrow's.
    let at = if off > half {
        today - day
    } else if off < -half {
        today + day
    } else {
        today
    };
    Some((at, rest))
}

fn attached(session: &SessionStatus) -> Markup {
    match session {
        SessionStatus::Active { server, .. } => {
            html! { "Active on RabbitMQ " (visible(server)) "." }
        }
        SessionStatus::Standby { since } => html! { "Standby since " (page::clock(*since)) "." },
        SessionStatus::Detached { since, .. } => {
            html! { strong.bad { "Without the broker" } " since " (page::clock(*since)) "." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_stands_alone_and_what_is_to_be_typed_is_code() {
        let now = "2026-11-23T23:59:00Z".parse().unwrap();
        let told = sentence("paused by <b>; after `sluice gate resume`", now).into_string();
        assert_eq!(told, "Paused by &lt;b&gt;; after <code>sluice gate resume</code>.");
    }

    #[test]
    fn a_time_in_a_sentence_is_a_time_of_the_page() {
        let now: Timestamp = "2026-11-23T23:59:00Z".parse().unwrap();
        let of = |word| moment(word, now).map(|(at, rest)| (at.to_string(), rest));
        assert_eq!(of("00:00:05Z;"), Some(("2026-11-24T00:00:05Z".into(), ";")));
        assert_eq!(of("23:58:05Z"), Some(("2026-11-23T23:58:05Z".into(), "")));
        assert_eq!(of("2026-11-25T14:00Z"), Some(("2026-11-25T14:00:00Z".into(), "")));
        for word in ["Zebra", "Z", "web-1Z", "12:00", "99:99:99Z"] {
            assert_eq!(of(word), None, "{word}");
        }
        let told = sentence("the next request goes at 00:00:05Z (in 65 s)", now).into_string();
        assert!(told.contains("<time datetime=\"2026-11-24T00:00:05Z\""), "{told}");
    }

    #[test]
    fn each_trouble_has_its_own_word_and_colour() {
        let now = Timestamp::UNIX_EPOCH;
        let mut status = Status::starting("lane", "worker", now);
        assert_eq!(Look::of(&status), Look::Fault);
        status.session = SessionStatus::Standby { since: now };
        assert_eq!(Look::of(&status), Look::Standby);
        status.session =
            SessionStatus::Active { since: now, server: "4".into(), unchecked: Vec::new() };
        for (reason, look) in [
            (None, Look::Open),
            (Some(Reason::Paused), Look::Paused),
            (Some(Reason::Rate), Look::Waits),
            (Some(Reason::Halted), Look::Fault),
        ] {
            (status.gate.open, status.gate.reason) = (reason.is_none(), reason);
            assert_eq!(Look::of(&status), look);
        }
        let all = [Look::Open, Look::Waits, Look::Paused, Look::Standby, Look::Fault];
        let words: std::collections::BTreeSet<_> =
            all.map(|look| (look.word(), look.class())).into();
        assert_eq!(words.len(), all.len());
    }
}
