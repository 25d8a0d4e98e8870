//! What goes wrong with this call? Rules are tried in order; the first that fits the call and wins its dice decides.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Kind;
use super::options::{Latency, probability, span};
use crate::core::Moment;

/// One rule: which calls (all parts that are given must fit), how often, and what happens to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Shown in the log; free.
    pub name: String,
    /// Only calls of this kind.
    pub call: Option<Kind>,
    /// Only paths that begin so.
    pub path: Option<String>,
    /// Only calls about this source server.
    pub source: Option<String>,
    /// Only these of the calls that fit, counted from 1 since the rule was set.
    pub nth: Vec<u64>,
    /// Only every so-manieth of the calls that fit; 0: all.
    pub every: u64,
    /// Only from so long after the rule was set ...
    #[serde(with = "span")]
    pub after: Duration,
    /// ... and for so long.
    #[serde(with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// How likely it strikes a call that fits.
    pub probability: f64,
    /// At most so many times; 0: no end.
    pub times: u64,
    /// Waited before the call is processed. It is processed even if the client gives up meanwhile.
    pub delay: Latency,
    /// Waited after the call was processed, before the answer.
    pub answer_delay: Latency,
    #[serde(rename = "do")]
    pub action: Action,
}

impl Default for Fault {
    fn default() -> Self {
        Self {
            name: String::new(),
            call: None,
            path: None,
            source: None,
            nth: Vec::new(),
            every: 0,
            after: Duration::ZERO,
            lasts: None,
            probability: 1.0,
            times: 0,
            delay: Latency::default(),
            answer_delay: Latency::default(),
            action: Action::Nothing,
        }
    }
}

/// What happens instead of the plain answer. `applied`: the call is processed first, as if nothing were wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing but the delays.
    #[default]
    Nothing,
    /// This answer.
    Answer(Canned),
    /// TCP reset.
    Reset(Applied),
    /// The connection is closed without an answer.
    Close(Applied),
    /// No answer, and the connection stays open until the client gives up.
    Hang(Applied),
    /// The connection is closed at once, and the call is processed later.
    Late(Late),
    /// Bytes that are not HTTP.
    Garbage(Applied),
    /// 200 with a page of HTML, as from a proxy.
    NotJson(Applied),
    /// 200 with `{}`.
    NoId(Applied),
    /// The answer's body at this speed.
    Slow(Slow),
    /// The announced length, half of the body, then the connection is closed.
    Truncated,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Canned {
    pub status: u16,
    /// `error_code` and `error_msg` of the body, unless `body` is given.
    pub code: String,
    pub message: String,
    /// The body, byte for byte.
    pub body: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub applied: bool,
}

impl Default for Canned {
    fn default() -> Self {
        Self {
            status: 500,
            code: "SMS.6000".to_owned(),
            message: "Service error.".to_owned(),
            body: None,
            headers: BTreeMap::new(),
            applied: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Applied {
    pub applied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// From the break to the processing.
    #[serde(with = "span")]
    pub by: Duration,
    /// Break with a TCP reset, not a plain close.
    #[serde(default)]
    pub reset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    pub bytes_per_second: u32,
}

impl Action {
    /// Its name in a script.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Answer(_) => "answer",
            Self::Reset(_) => "reset",
            Self::Close(_) => "close",
            Self::Hang(_) => "hang",
            Self::Late(_) => "late",
            Self::Garbage(_) => "garbage",
            Self::NotJson(_) => "not_json",
            Self::NoId(_) => "no_id",
            Self::Slow(_) => "slow",
            Self::Truncated => "truncated",
        }
    }

    /// Whether the call is processed before the action.
    pub(super) fn applies(&self) -> bool {
        match self {
            Self::Nothing | Self::Slow(_) | Self::Truncated => true,
            Self::Answer(canned) => canned.applied,
            Self::Late(_) => false,
            Self::Reset(a)
            | Self::Close(a)
            | Self::Hang(a)
            | Self::Garbage(a)
            | Self::NotJson(a)
            | Self::NoId(a) => a.applied,
        }
    }
}

impl Fault {
    /// A rule for creates; the rest as by default.
    pub fn on_create(action: Action) -> Self {
        Self { call: Some(Kind::Create), action, ..Self::default() }
    }

    pub(super) fn check(&self, index: usize) -> Result<(), String> {
        probability(&format!("faults[{index}].probability"), self.probability)?;
        match &self.action {
            Action::Answer(canned) if !(200..=599).contains(&canned.status) => Err(format!(
                "`faults[{index}].do.answer.status` is {}: it must be between 200 and 599",
                canned.status
            )),
            Action::Slow(Slow { bytes_per_second: 0 }) => Err(format!(
                "`faults[{index}].do.slow.bytes_per_second` is 0: it must be 1 or more"
            )),
            _ => Ok(()),
        }
    }

    fn fits(&self, kind: Kind, path: &str, source: Option<&str>) -> bool {
        self.call.is_none_or(|wanted| wanted == kind)
            && self.path.as_deref().is_none_or(|prefix| path.starts_with(prefix))
            && self.source.as_deref().is_none_or(|wanted| source == Some(wanted))
    }
}

/// The rules in force, and how far each has come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    since: Moment,
}

#[derive(Debug)]
struct Armed {
    rule: Fault,
    dice: fastrand::Rng,
    fitted: u64,
    struck: u64,
}

/// What was drawn for one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Strike {
    pub(super) name: Option<String>,
    pub(super) delay: Duration,
    pub(super) answer_delay: Duration,
    pub(super) action: Action,
}

/// A rule and how often it fitted and struck.
#[derive(Clone, Debug, Serialize)]
pub struct FaultCount {
    pub fault: Fault,
    pub fitted: u64,
    pub struck: u64,
}

impl Faults {
    /// Each rule has dice of its own, so that one more rule does not change what the others do.
    pub(super) fn new(rules: &[Fault], seed: u64, now: Moment) -> Self {
        let armed = rules
            .iter()
            .zip(1u64..)
            .map(|(rule, n)| Armed {
                rule: rule.clone(),
                dice: fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9).wrapping_add(n)),
                fitted: 0,
                struck: 0,
            })
            .collect();
        Self { armed, since: now }
    }

    pub(super) fn draw(
        &mut self,
        kind: Kind,
        path: &str,
        source: Option<&str>,
        now: Moment,
    ) -> Strike {
        let age = now - self.since;
        self.armed
            .iter_mut()
            .find_map(|armed| armed.draw(kind, path, source, age))
            .unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Vec<FaultCount> {
        self.armed
            .iter()
            .map(|a| FaultCount { fault: a.rule.clone(), fitted: a.fitted, struck: a.struck })
            .collect()
    }
}

impl Armed {
    fn draw(
        &mut self,
        kind: Kind,
        path: &str,
        source: Option<&str>,
        age: Duration,
    ) -> Option<Strike> {
        let rule = &self.rule;
        let in_time = age >= rule.after
            && rule.lasts.is_none_or(|lasts| age < rule.after.saturating_add(lasts));
        if !in_time || !rule.fits(kind, path, source) {
            return None;
        }
        self.fitted += 1;
        let turn = (rule.nth.is_empty() || rule.nth.contains(&self.fitted))
            && (rule.every == 0 || self.fitted.is_multiple_of(rule.every))
            && (rule.times == 0 || self.struck < rule.times);
        if !turn || self.dice.f64() >= rule.probability {
            return None;
        }
        self.struck += 1;
        Some(Strike {
            name: Some(if rule.name.is_empty() {
                rule.action.word().to_owned()
            } else {
                rule.name.clone()
            }),
            delay: rule.delay.draw(&mut self.dice),
            answer_delay: rule.answer_delay.draw(&mut self.dice),
            action: rule.action.clone(),
        })
    }
}

mod optional_span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::span;

    #[derive(Deserialize)]
    struct Span(#[serde(with = "span")] Duration);

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        to_write: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match to_write {
            Some(duration) => span::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Span>::deserialize(from)?.map(|Span(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(rule: Fault, calls: u64) -> Vec<u64> {
        let mut faults = Faults::new(&[rule], 7, Moment::START);
        (1..=calls)
            .filter(|n| {
                let now = Moment::START + Duration::from_secs(*n);
                faults.draw(Kind::Create, "/v3/tasks", Some("s1"), now).name.is_some()
            })
            .collect()
    }

    #[test]
    fn a_rule_strikes_the_calls_it_names() {
        let rule = || Fault::on_create(Action::Truncated);
        assert_eq!(struck(Fault { nth: vec![2, 5], ..rule() }, 6), [2, 5]);
        assert_eq!(struck(Fault { every: 3, ..rule() }, 7), [3, 6]);
        assert_eq!(struck(Fault { times: 2, ..rule() }, 7), [1, 2]);
        let period =
            Fault { after: Duration::from_secs(3), lasts: Some(Duration::from_secs(2)), ..rule() };
        assert_eq!(struck(period, 9), [3, 4]);
        assert!(struck(Fault { source: Some("s2".into()), ..rule() }, 5).is_empty());
        assert!(struck(Fault { call: Some(Kind::List), ..rule() }, 5).is_empty());
    }

    #[test]
    fn dice_are_seeded_and_fair() {
        let rule = || Fault { probability: 0.2, ..Fault::on_create(Action::Truncated) };
        let first = struck(rule(), 2000);
        assert_eq!(first, struck(rule(), 2000));
        assert!((300..500).contains(&first.len()), "{} of 2000", first.len());
    }

    #[test]
    fn a_script_reads_as_the_manual_writes_it() {
        let script = r#"[
            {"call": "create", "probability": 0.05, "do": {"answer": {"status": 503}}},
            {"source": "s1", "nth": [1], "do": {"late": {"by": "3s", "reset": true}}},
            {"every": 10, "delay": {"fixed": "1s"}, "do": "nothing"},
            {"lasts": "2s", "do": {"close": {"applied": true}}},
            {"do": "truncated"}
        ]"#;
        let faults: Vec<Fault> = serde_json::from_str(script).unwrap();
        assert_eq!(
            faults[1].action,
            Action::Late(Late { by: Duration::from_secs(3), reset: true })
        );
        let again: Vec<Fault> =
            serde_json::from_str(&serde_json::to_string(&faults).unwrap()).unwrap();
        assert_eq!(again, faults);
    }
}
