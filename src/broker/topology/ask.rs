//! Is one object on the broker what it should be? Asked on scratch channels: every refusal closes the channel that it
//! comes on.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ErrorKind, ExchangeKind};

use super::objects::{Argument, DEAD_LETTER_EXCHANGE, Object, Routes};
use super::{Comparison, Mismatch};
use crate::broker::connection::link::SessionLost;
use crate::broker::convert::short;
use crate::broker::settings::Queues;
use crate::broker::{ANSWER, within};

/// Arguments whose values are the operator's business: they may be changed by policy, or cannot be compared.
const TOLERATED: [&str; 5] = [
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    TIMEOUT,
    "x-consumer-disconnected-timeout",
    "x-queue-leader-locator",
];

const TIMEOUT: &str = "x-consumer-timeout";

/// The broker's answer to one question on a channel of its own.
enum Answer {
    Yes,
    /// 404
    Missing,
    /// 403: this user may not ask.
    Forbidden,
    /// 406, with the broker's words.
    Different(String),
}

pub(super) async fn exists(connection: &Connection, object: &Object) -> Result<bool, SessionLost> {
    let answer = ask(connection, object, &BTreeMap::<String, Argument>::new(), true).await?;
    Ok(!matches!(answer, Answer::Missing))
}

/// Declares one object. Of what is different the broker names one argument at a time, so what it has is taken over
/// and asked again, until it agrees and everything is known.
pub(super) async fn put(
    connection: &Connection,
    object: &Object,
    queues: &Queues,
    report: &mut Comparison,
) -> Result<(), SessionLost> {
    let should = match object {
        Object::Queue { arguments, .. } => arguments.clone(),
        Object::Exchange { .. } | Object::Binding { .. } => BTreeMap::new(),
    };
    let mut asked: BTreeMap<String, Argument> =
        should.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    for _ in 0..12 {
        let words = match ask(connection, object, &asked, false).await? {
            Answer::Yes => return Ok(()),
            Answer::Forbidden => {
                report.unchecked.push(object.to_string());
                return Ok(());
            }
            Answer::Missing => {
                return Err(SessionLost(format!("{object}: something that it needs is missing")));
            }
            Answer::Different(words) => words,
        };
        let Some(difference) = Difference::read(&words) else {
            report.mismatches.push(Mismatch {
                object: object.to_string(),
                argument: "declaration".into(),
                is: words,
                should: "accepted".into(),
            });
            return Ok(());
        };
        let argument = difference.argument.as_str();
        let is_requests =
            matches!(object, Object::Queue { name, .. } if *name == queues.requests());
        if argument == TIMEOUT && is_requests {
            report.consumer_timeout =
                difference.is.as_deref().and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        }
        let is_old_way = argument == DEAD_LETTER_EXCHANGE
            && difference.is.as_deref() == Some(queues.dead_letters().as_str());
        if is_old_way {
            let (old, new) = (queues.dead_letters(), queues.dlx());
            report.left_over.push(format!(
                "{object}: dead-letters through the exchange {old}, as a version before declared it; that works as it did, so \
                 leave that exchange (queues that are declared anew use {new})"
            ));
        } else if !TOLERATED.contains(&argument) {
            report.mismatches.push(Mismatch {
                object: object.to_string(),
                argument: argument.into(),
                is: difference.is.clone().unwrap_or_else(|| "absent".into()),
                should: should
                    .get(argument)
                    .map_or_else(|| difference.asked.clone(), ToString::to_string),
            });
        }
        // What is no argument of a queue (durable, an exchange's type) cannot be taken over: enough is known.
        if !argument.starts_with("x-") {
            return Ok(());
        }
        match difference.is {
            Some(value) => asked.insert(argument.into(), like(&value, asked.get(argument))),
            None => asked.remove(argument),
        };
    }
    Ok(())
}

/// The broker writes values as text; numbers and flags are told by their looks, as those of our own arguments are.
fn like(value: &str, asked: Option<&Argument>) -> Argument {
    match (value.parse(), value.parse()) {
        (Ok(number), _) if !matches!(asked, Some(Argument::Text(_))) => Argument::Number(number),
        (_, Ok(flag)) => Argument::Flag(flag),
        _ => Argument::Text(value.into()),
    }
}

async fn ask(
    connection: &Connection,
    object: &Object,
    arguments: &BTreeMap<impl AsRef<str>, Argument>,
    passive: bool,
) -> Result<Answer, SessionLost> {
    let channel = within(ANSWER, "opening a channel", connection.create_channel()).await?;
    let arguments: FieldTable = arguments
        .iter()
        .map(|(name, value)| (short(name.as_ref()), value.to_amqp()))
        .collect::<BTreeMap<_, _>>()
        .into();
    let asked = async {
        match object {
            Object::Exchange { name, routes } => {
                let kind = match routes {
                    Routes::Topic => ExchangeKind::Topic,
                    Routes::Direct => ExchangeKind::Direct,
                    Routes::Fanout => ExchangeKind::Fanout,
                };
                let options =
                    ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
                channel.exchange_declare(short(name), kind, options, arguments).await
            }
            Object::Queue { name, .. } => {
                let options = QueueDeclareOptions { durable: true, passive, ..Default::default() };
                channel.queue_declare(short(name), options, arguments).await.map(drop)
            }
            Object::Binding { .. } if passive => Ok(()),
            Object::Binding { exchange, queue, key } => {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(short(queue), short(exchange), short(key), options, arguments)
                    .await
            }
        }
    };
    let error = match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(())) => {
            let _ = within(ANSWER, "closing a channel", channel.close(200, "asked".into())).await;
            return Ok(Answer::Yes);
        }
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(SessionLost(format!("{object}: the broker did not answer in {ANSWER:?}")));
        }
    };
    match error.kind() {
        ErrorKind::ProtocolError(refused) => match refused.get_id() {
            404 => Ok(Answer::Missing),
            403 => Ok(Answer::Forbidden),
            406 => Ok(Answer::Different(refused.get_message().to_string())),
            _ => Err(SessionLost(format!("{object}: {error}"))),
        },
        _ => Err(SessionLost(format!("{object}: {error}"))),
    }
}

/// What a 406 says: `inequivalent arg 'x-max-age' for queue 'q' in vhost '/': received the value '30D' of type
/// 'longstr' but current is the value '12D' of type 'longstr'`.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    argument: String,
    asked: String,
    is: Option<String>,
}

impl Difference {
    fn read(words: &str) -> Option<Self> {
        let argument = words.split_once("inequivalent arg ")?.1;
        let (received, current) =
            argument.split_once(": received ")?.1.split_once(" but current is ")?;
        let value = |text: &str| quoted(text).filter(|_| !text.starts_with("none"));
        Some(Self {
            argument: quoted(argument)?,
            asked: value(received).unwrap_or_else(|| "absent".into()),
            is: value(current),
        })
    }
}

/// What stands in the first pair of quotes. Texts longer than 255 bytes are cut off, so the last one may be missing.
fn quoted(text: &str) -> Option<String> {
    let inside = text.split_once('\'')?.1;
    Some(inside.split('\'').next().unwrap_or(inside).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_as_the_broker_writes_it() {
        let read = |words: &str| Difference::read(words).map(|d| (d.argument, d.asked, d.is));
        let of = |a: &str, b: &str, c: Option<&str>| {
            Some((a.to_owned(), b.to_owned(), c.map(str::to_owned)))
        };
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'x-max-age' for queue 'q' in vhost '/': received the value '31D' of type 'longstr' but current is the value '30D' of type 'longstr'"
            ),
            of("x-max-age", "31D", Some("30D"))
        );
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received the value '-1' of type 'signedint' but current is none"
            ),
            of("x-delivery-limit", "-1", None)
        );
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"
            ),
            of("durable", "true", Some("false"))
        );
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current is the value '10' of type 'signedint'"
            ),
            of("x-max-priority", "absent", Some("10"))
        );
        assert_eq!(read("PRECONDITION_FAILED - invalid arg 'x' for queue"), None);
    }
}
