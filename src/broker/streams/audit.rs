//! How do acts get into the audit stream, and out of it?

use crate::broker::convert::Outgoing;
use crate::broker::convert::{properties, short};
use crate::broker::doors::Door;
use crate::broker::publish::orders;
use crate::broker::publish::planner::PlannerError;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::reader::{ReadFrom, Reader, StreamMessage};
use crate::broker::transport::HARD;
use crate::message::audit::{Act, AuditEntry, By, UnreadableAct};

/// The message that puts an act into the stream, through the exchange of whoever acts.
pub(crate) fn message(act: &Act, door: &str, queues: &Queues) -> Outgoing {
    let kind = format!("sluice.audit.{}", act.action.as_str());
    Outgoing {
        exchange: short(door),
        key: short(&queues.audit()),
        // An act is a plain struct of texts, numbers and JSON: nothing of it can fail to be written.
        body: serde_json::to_vec(act).unwrap_or_default().into(),
        properties: properties(&act.id.to_string(), &kind, act.at)
            .with_content_type("application/json".into()),
    }
}

/// The same of an act that keeps a message which goes when this is confirmed: it was read back as whoever looks for it
/// will, and is the same.
///
/// # Errors
/// It could not be undone: what is wrong with it.
pub(crate) fn message_that_reads_back(
    act: &Act,
    door: &str,
    queues: &Queues,
) -> Result<Outgoing, String> {
    let message = message(act, door, queues);
    let name = || act.letter.map(|id| id.to_string()).unwrap_or_default();
    let wrong = |what: &str| {
        format!(
            "the audit cannot keep dead letter {} so that it comes back ({what}); it stays where it is: export it, and report this",
            name()
        )
    };
    if u64::try_from(message.body.len()).is_ok_and(|bytes| bytes > HARD) {
        return Err(wrong("the act is larger than any that is read"));
    }
    match serde_json::from_slice::<Act>(&message.body) {
        Ok(read) if read == *act => Ok(message),
        Ok(_) => Err(wrong("it is read as another one")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

/// All that stands in the audit so far, oldest first.
#[derive(Debug)]
pub(crate) struct Acts {
    reader: Reader,
    queues: Queues,
}

impl Acts {
    pub(crate) async fn open(settings: &Settings, queues: &Queues) -> Result<Self, PlannerError> {
        let reader = Reader::open(settings, &queues.audit(), ReadFrom::First, HARD).await?;
        Ok(Self { reader, queues: queues.clone() })
    }

    /// The next act, or what cannot be read as one; `None` after the last that was there when the reading began.
    pub(crate) async fn next(&mut self) -> Result<Option<AuditEntry>, PlannerError> {
        let next = self.reader.next_to_the_end().await.map_err(PlannerError::Unreachable)?;
        Ok(next.map(|message| entry(&message, &self.queues)))
    }

    pub(crate) async fn close(self) {
        self.reader.close().await;
    }
}

/// The act of a message, if whoever published it may say so: the worker and reviewers all, and whoever may order about
/// requests that wait nothing but such an order.
fn entry(message: &StreamMessage, queues: &Queues) -> AuditEntry {
    let unreadable = |why: String| {
        let (offset, bytes) = (message.offset, message.body.len());
        AuditEntry::Unreadable(UnreadableAct { offset, bytes, why })
    };
    match Door::of(&message.exchange, queues) {
        Door::Worker | Door::Review => match serde_json::from_slice(&message.body) {
            Ok(act) => AuditEntry::Act(Box::new(act)),
            Err(_) if message.body.is_empty() => {
                unreadable("it is empty, or larger than any act".to_owned())
            }
            Err(error) => unreadable(error.to_string()),
        },
        Door::Control => match order(message) {
            Some(act) => AuditEntry::Act(Box::new(act)),
            None => unreadable(format!("what came by {} is no order", queues.control())),
        },
        _ => unreadable(format!(
            "it was put there by somebody else, through the exchange {:?}",
            message.exchange.as_str()
        )),
    }
}

/// What came by the exchange of commands is an order, by the routing key that its publisher has the right to, and nothing else.
pub(in crate::broker) fn order(message: &StreamMessage) -> Option<Act> {
    let act = serde_json::from_slice::<Act>(&message.body).ok()?;
    let is_order = act.order.is_some() && message.key.as_str() == orders::key(&act);
    let Act { id, at, action, who, why, order, deed, .. } = act;
    let bare = Act::new(action, &By { who, why }, at);
    is_order.then_some(Act { id, order, deed, ..bare })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::audit::{Action, By};
    use crate::message::parcel::Parcel;

    fn queues() -> Queues {
        Queues {
            prefix: "sluice".into(),
            kind: crate::broker::settings::QueueType::Quorum,
            max_priority: 10,
            declare: true,
            results_retention: "30D".into(),
            audit_retention: "365D".into(),
        }
    }

    #[test]
    fn an_act_that_would_not_come_back_is_not_begun() {
        let by = By { who: "me".into(), why: None };
        let act = |depth: usize| {
            let value =
                (0..depth).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
            let headers = [("x".to_owned(), value)].into();
            Act {
                before: Some(Parcel { headers, ..Parcel::default() }),
                ..Act::new(Action::Discard, &by, jiff::Timestamp::UNIX_EPOCH)
            }
        };
        assert!(message_that_reads_back(&act(50), "sluice.review", &queues()).is_ok());
        let why = message_that_reads_back(&act(200), "sluice.review", &queues()).unwrap_err();
        assert!(why.contains("recursion limit") && why.contains("stays where it is"), "{why}");
    }

    #[test]
    fn what_is_no_act_has_its_place_its_size_and_what_is_wrong() {
        let read = |exchange: &str, body: &[u8]| {
            let (exchange, key) = (short(exchange), short(""));
            entry(&StreamMessage { offset: 17, exchange, key, body: body.to_vec() }, &queues())
        };
        let told = |exchange, body| match read(exchange, body) {
            AuditEntry::Act(act) => panic!("{act:?}"),
            AuditEntry::Unreadable(found) => found,
        };
        let found = told("sluice.review", b"{\"id\":1}");
        assert_eq!((found.offset, found.bytes), (17, 8));
        assert!(found.to_string().contains("offset 17") && found.to_string().contains("8 bytes"));
        assert!(told("sluice.worker", b"").why.contains("larger than any act"));

        let by = By { who: "me".into(), why: None };
        let act = Act::new(Action::Discard, &by, jiff::Timestamp::UNIX_EPOCH);
        let body = serde_json::to_vec(&act).unwrap();
        assert!(matches!(read("sluice.review", &body), AuditEntry::Act(_)));
        assert!(told("", &body).why.contains("put there by somebody else"));
        assert!(told("sluice.control", &body).why.contains("no order"));
    }
}
