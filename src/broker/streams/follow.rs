//! What does the results stream say, from some point on, whatever becomes of the connection? For `sluice watch`.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::broker::doors::Door;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::reader::StreamMessage;
use crate::broker::{PlannerError, ReadFrom, Reader, SessionLost};
use crate::message::result::Event;
use crate::report::batches::BatchPattern;

/// No event of ours is longer: a result lists a hundred violations at most.
pub(super) const LONGEST: u64 = 1 << 20;
/// Between two tries to reach a broker that went away.
const PAUSE: Duration = Duration::from_secs(1);
/// Whoever reads is asked at least so often whether it has something else to do: a picture to draw, say.
const TURN: Duration = Duration::from_millis(250);
/// What is known to be there does not come for so long: it is asked for again.
const STALLED: Duration = Duration::from_secs(15);
/// The clocks of planners and brokers may differ.
const SLACK: SignedDuration = SignedDuration::from_mins(5);

/// Reads the results of a prefix. A connection that is lost is opened again where it was.
#[derive(Debug)]
pub struct Results {
    settings: Settings,
    queues: Queues,
    from: ReadFrom,
    reader: Option<Reader>,
    /// What is about other batches is not read into; empty: all is.
    only: Vec<BatchPattern>,
    /// When something came last.
    heard: Instant,
}

impl Results {
    /// # Errors
    /// The broker is unreachable, or has no results stream.
    pub async fn open(
        settings: &Settings,
        queues: &Queues,
        from: ReadFrom,
    ) -> Result<Self, PlannerError> {
        let reader = Reader::open(settings, &queues.results_log(), from, LONGEST).await?;
        Ok(Self {
            settings: settings.clone(),
            queues: queues.clone(),
            from,
            reader: Some(reader),
            only: Vec::new(),
            heard: Instant::now(),
        })
    }

    /// Passes over what is about other batches: told by its routing key, unread.
    #[must_use]
    pub fn only(self, batches: Vec<BatchPattern>) -> Self {
        Self { only: batches, ..self }
    }

    /// Whether the connection stands, and all has been read that was in the stream when it was opened.
    pub fn is_caught_up(&self) -> bool {
        self.reader.as_ref().is_some_and(Reader::is_caught_up)
    }

    /// The next event; `None`, at least four times a second, while there is none. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        let turn = Instant::now() + TURN;
        loop {
            let Some(reader) = &mut self.reader else {
                self.open_again().await;
                return None;
            };
            let was_behind = !reader.is_caught_up();
            let read = reader.next(TURN).await;
            let Ok(Some(message)) = read else {
                self.nothing(read.err());
                return None;
            };
            self.from = ReadFrom::Offset(message.offset + 1);
            self.heard = Instant::now();
            if is_about(&self.only, message.key.as_str()) {
                // What is no event of ours is passed over.
                return event(&message, &self.queues);
            }
            // Whoever reads has something to do at the end of what there was, and now and then.
            if (was_behind && self.is_caught_up()) || Instant::now() >= turn {
                return None;
            }
        }
    }

    /// Nothing came: the connection was lost, or what is known to be there does not come.
    fn nothing(&mut self, lost: Option<SessionLost>) {
        let caught_up = self.reader.as_ref().is_some_and(Reader::is_caught_up);
        let why = match lost {
            Some(why) => why,
            None if caught_up || self.heard.elapsed() < STALLED => return,
            None => {
                // The stream holds a message of this time, and yet the broker found no chunk of it: by its clock, there
                // is none.
                if let ReadFrom::Time(_) = self.from {
                    self.from = ReadFrom::First;
                }
                SessionLost(format!("it did not go on for {STALLED:?}"))
            }
        };
        tracing::warn!(%why, "the results stream was lost; opening it again");
        self.reader = None;
    }

    async fn open_again(&mut self) {
        match Reader::open(&self.settings, &self.queues.results_log(), self.from, LONGEST).await {
            Ok(reader) => {
                self.reader = Some(reader);
                self.heard = Instant::now();
            }
            Err(why) => {
                tracing::debug!(%why, "not yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    pub async fn close(self) {
        if let Some(reader) = self.reader {
            reader.close().await;
        }
    }
}

/// The event of a message. A result is one only if it came through the exchange of results, to which the worker alone writes;
/// a batch may be announced there, too. What is no event of ours is passed over.
pub(super) fn event(message: &StreamMessage, queues: &Queues) -> Option<Event> {
    let offset = message.offset;
    let event = Event::read(&message.body)
        .inspect_err(|error| tracing::debug!(offset, %error, "passed over"))
        .ok()?;
    let is_believed = match Door::of(&message.exchange, queues) {
        Door::Results => true,
        Door::Batches => !matches!(event, Event::Result(_)),
        _ => false,
    };
    if !is_believed {
        let exchange = message.exchange.as_str();
        tracing::debug!(offset, exchange, "passed over: it came through another exchange");
    }
    is_believed.then_some(event)
}

/// Whether a message with this routing key (`<outcome>.<batch>`, `batch.<batch>`) may be about one of these batches. A key
/// without a batch says nothing.
fn is_about(only: &[BatchPattern], key: &str) -> bool {
    let batch = key.rsplit_once('.').map(|(_, batch)| batch);
    only.is_empty() || batch.is_none_or(|batch| only.iter().any(|one| one.matches(batch)))
}

/// Where in the stream a batch can begin at the earliest: ids made by `sluice enqueue` hold the time.
pub fn beginning(batch: &str) -> ReadFrom {
    let made = batch.parse::<Uuid>().ok().and_then(|id| id.get_timestamp());
    let at = made
        .and_then(|made| i64::try_from(made.to_unix().0).ok())
        .and_then(|s| Timestamp::from_second(s).ok());
    at.and_then(|at| at.checked_sub(SLACK).ok()).map_or(ReadFrom::First, ReadFrom::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_other_batches_is_told_by_its_key() {
        let only: Vec<BatchPattern> = vec!["a".parse().unwrap(), "w-*".parse().unwrap()];
        for key in ["created.a", "batch.a", "rejected.w-1", "task.MIGRATING.w-2", "nonsense"] {
            assert!(is_about(&only, key), "{key}");
        }
        for key in ["created.b", "created.-", "batch.aa", "rejected.v-1"] {
            assert!(!is_about(&only, key), "{key}");
            assert!(is_about(&[], key), "{key}");
        }
    }

    #[test]
    fn a_batch_id_with_a_time_saves_reading_all_that_was_before() {
        let id = "019ab0d0-0000-7000-8000-000000000000";
        let ReadFrom::Time(at) = beginning(id) else { panic!("no time in {id}") };
        assert_eq!(at.strftime("%Y-%m").to_string(), "2025-11");
        for id in ["nightly-7", "", "9a01cb97-3eec-440e-8000-04016a8d7502"] {
            assert_eq!(beginning(id), ReadFrom::First, "{id}");
        }
    }
}
