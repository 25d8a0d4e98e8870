//! Whose word is it? Every exchange of ours is a door that only some roles may publish through, and the broker itself writes
//! on each delivery through which one it came, in queues, in streams and after a requeue alike: nobody can forge that. So
//! what a message claims about its own past counts by its door, and no configuration has to name users.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::broker::settings::Queues;
use crate::message::headers;

/// The door through which a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Door {
    /// `{p}.worker`: the worker alone writes there.
    Worker,
    /// `{p}.review`: reviewers, and the worker whose console is one.
    Review,
    /// `{p}.dlx`, where the broker puts what it dead-letters by itself; nobody publishes there.
    Broker,
    /// `{p}.results`: the worker alone.
    Results,
    /// `{p}.batches`: planners.
    Batches,
    /// `{p}.control`: by topic key.
    Control,
    /// Anything else: `{p}.enqueue`, the default exchange, an exchange that somebody has bound.
    Anybody,
}

impl Door {
    pub(in crate::broker) fn of(exchange: &ShortString, queues: &Queues) -> Self {
        let name = exchange.as_str().strip_prefix(queues.prefix.as_str());
        match name.and_then(|name| name.strip_prefix('.')) {
            Some("worker") => Self::Worker,
            Some("review") => Self::Review,
            // The second is how versions before called it: a queue that was declared then still dead-letters there.
            Some("dlx" | "dead-letters") => Self::Broker,
            Some("results") => Self::Results,
            Some("batches") => Self::Batches,
            Some("control") => Self::Control,
            _ => Self::Anybody,
        }
    }

    /// Whether what a request or a dead letter says of its own past is the word of somebody who knows it.
    pub(in crate::broker) fn knows_the_past(self) -> bool {
        matches!(self, Self::Worker | Self::Review)
    }
}

/// What a planner may say in headers of ours. All others are of this product's own, whatever they will be called.
const OF_A_PLANNER: [&str; 8] = [
    headers::BATCH,
    headers::BATCH_RUN,
    headers::ENQUEUED_AT,
    headers::ROW,
    headers::NOT_BEFORE,
    headers::DEADLINE,
    headers::PRIORITY,
    headers::AGAIN,
];

/// Whether a header of this name claims something that only this product can know.
pub(in crate::broker) fn is_a_claim(name: &str) -> bool {
    name.starts_with(headers::PREFIX) && !OF_A_PLANNER.contains(&name)
}

/// The properties without what they claim of their past.
pub(in crate::broker) fn without_claims(properties: BasicProperties) -> BasicProperties {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    let Some(headers) = headers.filter(|all| all.keys().any(|name| is_a_claim(name.as_str())))
    else {
        return properties;
    };
    let kept: BTreeMap<ShortString, AMQPValue> = headers
        .iter()
        .filter(|(name, _)| !is_a_claim(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    properties.with_headers(kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::convert::{long, short};
    use crate::broker::settings::QueueType;

    #[test]
    fn a_door_is_told_by_the_whole_name_of_its_exchange() {
        let queues = Queues {
            prefix: "sluice".into(),
            kind: QueueType::Quorum,
            max_priority: 10,
            declare: true,
            results_retention: "30D".into(),
            audit_retention: "365D".into(),
        };
        let of = |exchange: &str| Door::of(&short(exchange), &queues);
        assert_eq!(of("sluice.worker"), Door::Worker);
        assert_eq!(of("sluice.review"), Door::Review);
        assert_eq!((of("sluice.dlx"), of("sluice.dead-letters")), (Door::Broker, Door::Broker));
        for other in ["", "sluice", "sluice.enqueue", "sluicexworker", "sluice.worker.x", "worker"]
        {
            assert_eq!(of(other), Door::Anybody, "{other}");
        }
        assert_eq!(of("other.worker"), Door::Anybody);
    }

    #[test]
    fn a_planner_says_what_it_wants_and_nothing_of_the_past() {
        let all = [
            headers::BATCH,
            headers::BATCH_RUN,
            headers::ENQUEUED_AT,
            headers::ROW,
            headers::NOT_BEFORE,
            headers::DEADLINE,
            headers::PRIORITY,
            headers::AGAIN,
            headers::TRACEPARENT,
            "planner",
        ];
        let claims = [headers::REPLAY, headers::NEVER_SENT, headers::MOVED, headers::PAST];
        let claims = claims.into_iter().chain(headers::OF_A_DEAD_LETTER);
        let claims = claims.chain([headers::REQUEST_ID, "x-sluice-of-a-later-version"]);
        let table: BTreeMap<_, _> =
            all.into_iter().chain(claims).map(|name| (short(name), long("x"))).collect();
        let properties = BasicProperties::default().with_headers(table.into());
        let kept = without_claims(properties.with_message_id("17".into()));
        let mut names: Vec<&str> =
            kept.headers().as_ref().unwrap().inner().keys().map(ShortString::as_str).collect();
        let mut all = all.to_vec();
        names.sort_unstable();
        all.sort_unstable();
        assert_eq!(names, all);
        assert_eq!(kept.message_id().as_ref().unwrap().as_str(), "17");
    }
}
