//! What do many messages have in common? The properties that a dead letter would need again, and the ids of project,
//! region and batch, are the same for most requests of a plan: they are held once for all of them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};

use crate::broker::convert::{is_brokers_own, kept_headers, long, short, timeless};
use crate::broker::doors::without_claims;
use crate::broker::sizes::heap_bytes;
use crate::broker::transport::Restored;
use crate::core::{Request, Shared, Trace};
use crate::message::headers;
use crate::worker::bodies::{Body, Hold, Spill};

/// As many different ones are looked through for an equal one: the plans that are being delivered at a time are few.
const LATEST: usize = 16;

/// What came lately.
#[derive(Debug, Default)]
pub(in crate::broker) struct PropertyInterner {
    properties: VecDeque<Arc<Rest>>,
    requests: VecDeque<Arc<Shared>>,
}

/// What has to be kept of a message's properties until it is settled.
#[derive(Debug)]
pub(crate) enum Kept {
    Shared(Arc<Rest>),
    /// The header as it came, in the file: too long to be held in memory, or not to be read as it is.
    Aside(Box<Aside>),
}

#[derive(Debug)]
pub(crate) struct Aside {
    pub(in crate::broker) header: Body,
    /// Whether it came from somebody who knows its past: else what it claims of that is left out.
    pub(in crate::broker) knows: bool,
}

#[derive(Debug)]
pub(crate) struct Rest {
    /// Without what is the message's own.
    properties: BasicProperties,
    own: Own,
    /// What they take in memory counts as the bodies do.
    _hold: Hold,
}

/// What each message has for itself and the request can tell as well, to the dead letter: it is not kept twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says of one property that it is there")]
struct Own {
    message_id: bool,
    timestamp: bool,
    enqueued_at: bool,
    row: bool,
    trace: bool,
}

impl PropertyInterner {
    /// Of the properties of a request, what can be published again.
    pub(in crate::broker) fn keep(
        &mut self,
        original: &BasicProperties,
        request: &Request,
        spill: &Spill,
    ) -> Kept {
        let own = Own::of(original, request);
        let is_same = |kept: &&Arc<Rest>| kept.own == own && own.leaves(original, &kept.properties);
        if let Some(rest) = self.properties.iter().find(is_same) {
            return Kept::Shared(Arc::clone(rest));
        }
        let properties = own.rest_of(original);
        let hold = spill.hold(heap_bytes(&properties) as u64);
        let rest = Arc::new(Rest { properties, own, _hold: hold });
        remember(&mut self.properties, &rest);
        Kept::Shared(rest)
    }

    /// Lets a request share what others have too.
    pub(in crate::broker) fn share(&mut self, request: &mut Request) {
        match self.requests.iter().find(|known| **known == request.shared) {
            Some(known) => request.shared = Arc::clone(known),
            None => remember(&mut self.requests, &request.shared),
        }
    }
}

fn remember<T>(latest: &mut VecDeque<Arc<T>>, new: &Arc<T>) {
    if latest.len() == LATEST {
        latest.pop_back();
    }
    latest.push_front(Arc::clone(new));
}

impl Kept {
    /// The properties as they came, but for what must not be published again.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(in crate::broker) async fn restored(&self, request: &Request) -> io::Result<Restored> {
        match self {
            Self::Shared(rest) => Ok(rest.restored(request).into()),
            Self::Aside(aside) => {
                let Restored { properties, unreadable } =
                    Restored::of(&aside.header.read().await?)?;
                let properties = if aside.knows { properties } else { without_claims(properties) };
                Ok(Restored { properties, unreadable })
            }
        }
    }
}

impl Rest {
    fn restored(&self, request: &Request) -> BasicProperties {
        let Self { properties, own, .. } = self;
        let mut properties = properties.clone();
        if own.message_id {
            properties = properties.with_message_id(short(&request.id.get()));
        }
        if let Some(seconds) = seconds(request).filter(|_| own.timestamp) {
            properties = properties.with_timestamp(seconds);
        }
        let mut headers = properties.headers().clone().unwrap_or_default();
        if let Some(text) = enqueued_at(request).filter(|_| own.enqueued_at) {
            headers.insert(short(headers::ENQUEUED_AT), long(&text));
        }
        if let Some(row) = request.row.get().filter(|_| own.row) {
            headers.insert(short(headers::ROW), long(&row.to_string()));
        }
        if let Some(trace) = request.trace().filter(|_| own.trace) {
            headers.insert(short(headers::TRACEPARENT), long(&trace.parent()));
        }
        properties.with_headers(headers)
    }
}

impl Own {
    fn of(original: &BasicProperties, request: &Request) -> Self {
        let says = |name: &str, text: Option<String>| {
            let header = original.headers().as_ref().and_then(|headers| headers.inner().get(name));
            matches!((header, text), (Some(AMQPValue::LongString(said)), Some(text)) if said.as_bytes() == text.as_bytes())
        };
        let id = original.message_id().as_ref();
        Self {
            message_id: id.is_some_and(|id| request.id == *id.as_str()),
            timestamp: original.timestamp().is_some() && *original.timestamp() == seconds(request),
            enqueued_at: says(headers::ENQUEUED_AT, enqueued_at(request)),
            row: says(headers::ROW, request.row.get().map(|row| row.to_string())),
            trace: says(headers::TRACEPARENT, request.trace().as_ref().map(Trace::parent)),
        }
    }

    /// The headers that are not the request's own and may be published again.
    fn others(
        self,
        properties: &BasicProperties,
    ) -> impl Iterator<Item = (&ShortString, &AMQPValue)> {
        properties.headers().iter().flatten().filter(move |(name, _)| match name.as_str() {
            headers::ENQUEUED_AT => !self.enqueued_at,
            headers::ROW => !self.row,
            headers::TRACEPARENT => !self.trace,
            name => !is_brokers_own(name),
        })
    }

    fn timestamp(self, properties: &BasicProperties) -> Option<u64> {
        properties.timestamp().filter(|_| !self.timestamp)
    }

    fn rest_of(self, original: &BasicProperties) -> BasicProperties {
        let others = self.others(original).map(|(name, value)| (name.clone(), value.clone()));
        let others: BTreeMap<_, _> = others.collect();
        let headers = kept_headers(&BasicProperties::default().with_headers(others.into()));
        let mut rest = timeless(original).with_headers(headers.into());
        if let Some(seconds) = self.timestamp(original) {
            rest = rest.with_timestamp(seconds);
        }
        // Not for dead letters, but a request that is published anew keeps them.
        if let Some(id) = original.message_id().as_ref().filter(|_| !self.message_id) {
            rest = rest.with_message_id(id.clone());
        }
        if let Some(expiration) = original.expiration() {
            rest = rest.with_expiration(expiration.clone());
        }
        rest
    }

    /// Whether `kept` is what would be left of `original`.
    fn leaves(self, original: &BasicProperties, kept: &BasicProperties) -> bool {
        kept.content_type() == original.content_type()
            && kept.content_encoding() == original.content_encoding()
            && kept.correlation_id() == original.correlation_id()
            && kept.reply_to() == original.reply_to()
            && kept.kind() == original.kind()
            && kept.app_id() == original.app_id()
            && *kept.timestamp() == self.timestamp(original)
            && kept.expiration() == original.expiration()
            && kept.message_id().as_ref()
                == original.message_id().as_ref().filter(|_| !self.message_id)
            && kept.headers().iter().flatten().eq(self.others(original))
    }
}

fn seconds(request: &Request) -> Option<u64> {
    request.enqueued_at.get().and_then(|at| u64::try_from(at.as_second()).ok())
}

/// As `sluice enqueue` writes it.
fn enqueued_at(request: &Request) -> Option<String> {
    request.enqueued_at.get().map(|at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::broker::convert::{message, republished};
    use crate::contract::Rules;
    use crate::message::intake;
    use bytes::Bytes;
    use lapin::types::FieldTable;

    /// A message as `sluice enqueue` makes it, with further headers.
    fn original(row: u64, others: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(short(headers::BATCH), long("wave-1"));
        headers.insert(short(headers::ENQUEUED_AT), long("2026-11-23T12:00:00.123Z"));
        headers.insert(short(headers::ROW), long(&row.to_string()));
        for (name, value) in others {
            headers.insert(short(name), value.clone());
        }
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(short(&format!("id-{row}")))
            .with_priority(4)
            .with_timestamp(1_795_435_200)
            .with_headers(headers)
    }

    fn request(properties: &BasicProperties) -> Request {
        let mut request =
            intake::read(&message(properties, Bytes::from_static(b"{}")), &Rules::default())
                .request;
        request.shared = Arc::new(Shared { project_id: "p".into(), ..(*request.shared).clone() });
        request
    }

    /// What a dead letter would carry.
    fn published(
        properties: &BasicProperties,
    ) -> (BasicProperties, BTreeMap<ShortString, AMQPValue>) {
        (republished(properties), kept_headers(properties))
    }

    #[test]
    fn what_is_kept_is_what_a_dead_letter_carried_before() {
        let strange = [
            ("theirs", long("x")),
            ("x-death", long("the broker's own")),
            (headers::PRIORITY, AMQPValue::LongInt(7)),
        ];
        let mut odd = original(2, &[]);
        odd = odd.with_timestamp(5).with_correlation_id("c".into());
        let typed = original(3, &[(headers::ROW, AMQPValue::LongInt(3))]);
        let zoned = original(4, &[(headers::ENQUEUED_AT, long("2026-11-23T20:00:00+08:00"))]);
        let bare = BasicProperties::default();
        for properties in [original(1, &[]), original(1, &strange), odd, typed, zoned, bare] {
            let mut common = PropertyInterner::default();
            let request = request(&properties);
            let restored = common
                .keep(&properties, &request, &Spill::new(0))
                .restored(&request)
                .now_or_never()
                .unwrap()
                .unwrap()
                .properties;
            assert_eq!(published(&restored), published(&properties), "{properties:?}");
        }
    }

    #[test]
    fn requests_of_a_plan_share_what_they_have_in_common() {
        let (mut common, spill) = (PropertyInterner::default(), Spill::new(0));
        let mut kept = Vec::new();
        for row in 0..100 {
            let properties = original(row, &[]);
            let mut request = request(&properties);
            common.share(&mut request);
            let Kept::Shared(rest) = common.keep(&properties, &request, &spill) else { panic!() };
            kept.push((rest, request));
        }
        let (first, others) = kept.split_first().unwrap();
        for (properties, request) in others {
            assert!(Arc::ptr_eq(&first.0, properties));
            assert!(Arc::ptr_eq(&first.1.shared, &request.shared));
            assert_eq!(request.batch(), Some("wave-1"));
        }
        assert_eq!(common.properties.len(), 1);
    }

    #[test]
    fn what_differs_each_time_is_not_remembered_for_ever() {
        let mut common = PropertyInterner::default();
        for number in 0..1_000 {
            let properties = original(1, &[("theirs", AMQPValue::LongInt(number))]);
            let mut request = request(&properties);
            let project_id = number.to_string().into();
            request.shared = Arc::new(Shared { project_id, ..Shared::default() });
            common.share(&mut request);
            common.keep(&properties, &request, &Spill::new(0));
        }
        assert_eq!((common.properties.len(), common.requests.len()), (LATEST, LATEST));
    }
}
