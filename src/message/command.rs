//! What may an operator tell a running worker, and what does it say back?
//!
//! An [`IssuedCommand`] comes over HTTP or over the control exchange. What it changes is the lane's [`Steering`], which outlives
//! the worker: the broker keeps the latest one, and the next active worker takes it over before it starts anything.

use std::time::Duration;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::core::engine::{Load, Obeyed, Upcoming};
use crate::core::gate::Pause;
use crate::core::{Change, Rate, Target};
use crate::message::audit::{Act, Action, By};
use crate::message::status::Status;

/// Longer than this nobody waits for a change to be written down.
pub const RECORD: Duration = Duration::from_secs(5);

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Say how it is; changes nothing.
    Status,
    /// Start no request until somebody resumes.
    Pause,
    /// Lift a pause, and ask again now whatever an error has shut.
    Resume,
    /// Other limits; `None`: those of the configuration again, for which a command says `configured`.
    Rate {
        #[serde(with = "wanted")]
        #[schemars(with = "Wanted")]
        rates: Option<Vec<Rate>>,
    },
    /// Keep an order about requests that wait, and obey it.
    Order { of: Target, change: Change },
    /// Say what an order has done that was kept by somebody else; changes nothing.
    Obeyed {
        #[schemars(with = "String")]
        order: Uuid,
    },
    /// Say which requests come next; changes nothing.
    Window {
        #[serde(default)]
        first: Option<usize>,
        /// This one alone, wherever it stands.
        #[serde(default)]
        #[schemars(with = "Option<String>")]
        run: Option<Uuid>,
        /// Without so many that come before.
        #[serde(default)]
        from: Option<usize>,
        /// Those that have this in their name, source server, message id or batch, what is in flight among them.
        #[serde(default)]
        find: Option<String>,
        /// Those of this batch alone.
        #[serde(default)]
        batch: Option<String>,
    },
    /// Say how much is held of a batch, or of all, and how fast it may go; changes nothing.
    Load {
        #[serde(default)]
        batch: Option<String>,
        /// This generation of it alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        run: Option<Uuid>,
    },
    /// Let whoever asks make up to so many calls to the API, out of the worker's own limits.
    Lease {
        #[schemars(range(min = 1))]
        calls: u32,
    },
}

/// Calls that are lent: what the worker's limits leave out meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Lease {
    /// So many at most ...
    pub calls: u32,
    /// ... in so many seconds, counted from when they were asked for, ...
    pub seconds: f64,
    /// ... and never faster than all of these, which start used up; none: as fast as wanted.
    pub rates: Vec<Rate>,
    /// `limits.margin`, in milliseconds.
    pub margin_ms: u64,
}

/// The rates as a command writes them: nothing at all is neither, so that nobody lifts a limit by leaving a word out.
#[derive(schemars::JsonSchema)]
#[schemars(untagged, rename_all = "snake_case")]
#[allow(dead_code)] // only described
enum Wanted {
    These(#[schemars(length(min = 1))] Vec<Rate>),
    Word(Configured),
}

#[derive(schemars::JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code)] // only described
enum Configured {
    Configured,
}

mod wanted {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::Value;

    use crate::core::Rate;

    const WORD: &str = "configured";

    #[allow(clippy::ref_option)] // serde's shape
    pub(super) fn serialize<S: Serializer>(
        rates: &Option<Vec<Rate>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match rates {
            Some(rates) => rates.serialize(to),
            None => WORD.serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<Rate>>, D::Error> {
        match Value::deserialize(from)? {
            Value::String(word) if word == WORD => Ok(None),
            list @ Value::Array(_) if list != Value::Array(Vec::new()) => {
                Vec::deserialize(list).map(Some).map_err(D::Error::custom)
            }
            other => Err(D::Error::custom(format!(
                "rates is {other}: give a list such as [\"2/s\", \"60/min\"], or {WORD:?} for limits.rates of the \
                 configuration"
            ))),
        }
    }
}

/// So many of the window are told to whoever names no number.
const USUAL: usize = 100;
/// More of it than this nobody is told at once.
const MOST: usize = 500;

impl Command {
    /// The first requests of the window.
    pub fn window() -> Self {
        Self::Window { first: None, run: None, from: None, find: None, batch: None }
    }

    /// What it is published with to the control exchange: those that change the gate are told from those that ask.
    pub fn routing_key(&self) -> &'static str {
        match self {
            Self::Status => "ask.status",
            Self::Window { .. } => "ask.window",
            Self::Obeyed { .. } => "ask.obeyed",
            Self::Load { .. } => "ask.load",
            Self::Lease { .. } => "ask.lease",
            Self::Pause => "gate.pause",
            Self::Resume => "gate.resume",
            Self::Rate { .. } => "gate.rate",
            Self::Order { .. } => "gate.order",
        }
    }

    /// Requests of the window that are asked for.
    pub fn most(first: Option<usize>) -> usize {
        first.unwrap_or(USUAL).min(MOST)
    }
}

/// A command, and who gives it. Reading one refuses fields that the command does not have: a word that is not understood
/// may be the one that matters.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct IssuedCommand {
    #[serde(flatten)]
    pub command: Command,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl<'de> Deserialize<'de> for IssuedCommand {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut given = Map::deserialize(from)?;
        let by = given.remove("by").ok_or_else(|| D::Error::missing_field("by"))?;
        let by = String::deserialize(by).map_err(|e| D::Error::custom(format!("by: {e}")))?;
        let reason = given.remove("reason").unwrap_or_default();
        let reason =
            Option::deserialize(reason).map_err(|e| D::Error::custom(format!("reason: {e}")))?;
        let command: Command =
            serde_json::from_value(given.clone().into()).map_err(D::Error::custom)?;
        // A command writes all the fields that it has.
        let known = serde_json::to_value(&command).map_err(D::Error::custom)?;
        if let Some(unknown) = given.keys().find(|key| known.get(key).is_none()) {
            return Err(D::Error::custom(format!("this command has no field `{unknown}`")));
        }
        Ok(Self { command, by, reason })
    }
}

impl IssuedCommand {
    /// With texts that stay on one line, wherever they are shown; an empty reason is none.
    ///
    /// # Errors
    /// Nobody gives it.
    pub fn tidy(self) -> Result<Self, String> {
        let by = one_line(&self.by);
        if by.is_empty() {
            return Err("`by` is empty: the audit must say who gives the command".to_owned());
        }
        let reason = self.reason.map(|reason| one_line(&reason)).filter(|text| !text.is_empty());
        Ok(Self { by, reason, ..self })
    }
}

/// Line ends and other control characters become spaces: a text of an operator must not pass for a line of ours.
pub fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.replace(breaks, " ").trim().to_owned()
}

/// What the worker says to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Answer {
    /// Whether it was done.
    pub done: bool,
    /// For people.
    pub said: String,
    /// How the worker is after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    /// The requests that come next, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Vec<Upcoming>>,
    /// What an order has done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obeyed: Option<Obeyed>,
    /// What is held, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// The calls that are lent, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Seconds until it is worth asking again, where nothing is lent just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_in: Option<f64>,
}

impl Answer {
    pub fn done(said: impl Into<String>) -> Self {
        Self {
            done: true,
            said: said.into(),
            status: None,
            window: None,
            obeyed: None,
            load: None,
            lease: None,
            again_in: None,
        }
    }

    pub fn refused(why: impl Into<String>) -> Self {
        Self { done: false, ..Self::done(why) }
    }

    /// What an order has done.
    pub fn obeyed(obeyed: Obeyed) -> Self {
        Self { obeyed: Some(obeyed), ..Self::done(words(obeyed)) }
    }
}

/// A command on its way to the worker's loop.
#[derive(Debug)]
pub struct PendingCommand {
    pub issued: IssuedCommand,
    /// Whoever asked may have gone: that is no error.
    pub reply: oneshot::Sender<Answer>,
}

impl PendingCommand {
    pub fn new(issued: IssuedCommand) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Self { issued, reply }, answer)
    }
}

/// What operators have set, as of its latest change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Steering {
    /// When it was last changed; of two the later one holds.
    #[schemars(with = "String")]
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// `None`: `limits.rates` of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Vec<Rate>>,
}

/// A change of the steering, to be written down.
#[derive(Clone, Debug, PartialEq)]
pub struct SteeringChange {
    pub steering: Steering,
    /// For the audit stream.
    pub act: Act,
}

impl Steering {
    /// The steering after a command, and what is written down of it; `None`: the command changes nothing.
    pub fn changed(&self, issued: &IssuedCommand, now: Timestamp) -> Option<SteeringChange> {
        // Later than what it replaces even where this machine's clock is behind.
        let next = self.at.saturating_add(Duration::from_millis(1)).unwrap_or(now);
        let mut steering = Self { at: now.max(next), ..self.clone() };
        let action = match &issued.command {
            Command::Status
            | Command::Order { .. }
            | Command::Obeyed { .. }
            | Command::Window { .. }
            | Command::Load { .. }
            | Command::Lease { .. } => return None,
            Command::Pause => {
                let reason = issued.reason.clone().unwrap_or_else(|| "no reason given".to_owned());
                steering.pause = Some(Pause { by: issued.by.clone(), reason });
                Action::Pause
            }
            Command::Resume => {
                steering.pause = None;
                Action::Resume
            }
            Command::Rate { rates } => {
                steering.rates.clone_from(rates);
                Action::Rate
            }
        };
        let by = By { who: issued.by.clone(), why: issued.reason.clone() };
        let gate = json!({ "before": self, "after": steering });
        let act = Act { gate: Some(gate), ..Act::new(action, &by, now) };
        Some(SteeringChange { steering, act })
    }
}

/// What an order has done to what waits, for people.
fn words(obeyed: Obeyed) -> String {
    let Obeyed { here, in_doubt, parked } = obeyed;
    let here = match here {
        0 => "none of it waits in the worker's window just now".to_owned(),
        1 => "1 request that waits was changed".to_owned(),
        here => format!("{here} requests that wait were changed"),
    };
    let doubt = match in_doubt {
        0 => String::new(),
        some => format!(" ({some} in doubt: looked up first)"),
    };
    let parked = match parked {
        0 => String::new(),
        some => format!("; {some} are parked, and are looked through for it"),
    };
    format!("{here}{doubt}{parked}; what is still in the queue is met by the order when it comes")
}

/// What a command did, for people.
pub fn done(command: &Command) -> String {
    match command {
        Command::Status
        | Command::Window { .. }
        | Command::Order { .. }
        | Command::Obeyed { .. }
        | Command::Load { .. }
        | Command::Lease { .. } => String::new(),
        Command::Pause => "paused: what is in flight ends, nothing new is started".to_owned(),
        Command::Resume => "resumed; whatever an error had shut is asked again now".to_owned(),
        Command::Rate { rates: None } => {
            "the rates are those of the configuration again".to_owned()
        }
        Command::Rate { rates: Some(rates) } => {
            let rates: Vec<_> = rates.iter().map(ToString::to_string).collect();
            format!("the rates are {} now", rates.join(" and "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(command: Command) -> IssuedCommand {
        IssuedCommand { command, by: "anna@ops".into(), reason: Some("maintenance".into()) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_rate_keeps_the_pause_and_a_resume_keeps_the_rate() {
        let paused = Steering::default().changed(&order(Command::Pause), at(10)).unwrap();
        assert_eq!(paused.act.action, Action::Pause);
        assert_eq!(paused.act.why.as_deref(), Some("maintenance"));
        let rates = Some(vec!["5/s".parse().unwrap()]);
        let limited = paused
            .steering
            .changed(&order(Command::Rate { rates: rates.clone() }), at(11))
            .unwrap();
        assert_eq!(
            (&limited.steering.pause, &limited.steering.rates),
            (&paused.steering.pause, &rates)
        );
        let resumed = limited.steering.changed(&order(Command::Resume), at(12)).unwrap();
        assert_eq!((resumed.steering.pause, resumed.steering.rates), (None, rates));
        assert_eq!(resumed.act.gate.unwrap()["before"]["pause"]["by"], "anna@ops");
    }

    #[test]
    fn a_later_change_has_a_later_time_whatever_the_clock_says() {
        let first = Steering::default().changed(&order(Command::Pause), at(100)).unwrap().steering;
        let second = first.changed(&order(Command::Resume), at(40)).unwrap().steering;
        assert!(second.at > first.at, "{second:?}");
        assert_eq!(second.changed(&order(Command::Status), at(101)), None);
    }

    #[test]
    fn an_order_reads_as_any_client_would_write_it() {
        let read = |text: &str| serde_json::from_str::<IssuedCommand>(text);
        let rate = read(r#"{"do":"rate","rates":["5/s","60/min"],"by":"anna"}"#).unwrap();
        assert_eq!(done(&rate.command), "the rates are 5/s and 60/min now");
        assert_eq!(
            read(r#"{"do":"pause","by":"a","reason":"b"}"#).unwrap().command,
            Command::Pause
        );
        for wrong in [
            r#"{"do":"stop","by":"a"}"#,
            r#"{"do":"pause"}"#,
            r#"{"do":"rate","rates":["0/s"],"by":"a"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for command in [
            Command::Status,
            Command::Rate { rates: None },
            Command::Window {
                first: None,
                run: Some(Uuid::nil()),
                from: Some(20),
                find: None,
                batch: None,
            },
            Command::Order {
                of: Target::Request("17".into()),
                change: Change { priority: Some(7), ..Change::default() },
            },
            Command::Obeyed { order: Uuid::nil() },
            Command::Lease { calls: 7 },
            Command::Load { batch: Some("b".into()), run: None },
        ] {
            let issued = order(command);
            assert_eq!(read(&serde_json::to_string(&issued).unwrap()).unwrap(), issued);
        }
    }

    #[test]
    fn what_is_left_out_or_not_understood_lifts_no_limit() {
        let refused =
            |text: &str| serde_json::from_str::<IssuedCommand>(text).unwrap_err().to_string();
        for rates in ["", r#""rates":null,"#, r#""rates":[],"#, r#""rates":"none","#] {
            let error = refused(&format!(r#"{{"do":"rate",{rates}"by":"a"}}"#));
            assert!(error.contains("rates"), "{error}");
        }
        assert!(refused(r#"{"do":"pause","by":"a","until":"noon"}"#).contains("`until`"));
        assert!(refused(r#"{"do":"resume","by":"a","rates":["1/s"]}"#).contains("`rates`"));
        assert!(
            refused(r#"{"do":"rate","rates":["1/s"],"rate":"2/s","by":"a"}"#).contains("`rate`")
        );
    }

    #[test]
    fn the_texts_of_an_order_stay_on_one_line_and_somebody_gives_it() {
        let order = |by: &str, reason: &str| IssuedCommand {
            command: Command::Pause,
            by: by.into(),
            reason: Some(reason.into()),
        };
        let tidy = order(" eve\u{1b}[2J ", "calm\n2026-11-23 INFO resumed\u{2028}").tidy().unwrap();
        assert_eq!(
            (&*tidy.by, tidy.reason.as_deref()),
            ("eve [2J", Some("calm 2026-11-23 INFO resumed"))
        );
        assert_eq!(order("anna", " \t").tidy().unwrap().reason, None);
        assert!(order("\n", "why").tidy().unwrap_err().contains("who"));
    }
}
