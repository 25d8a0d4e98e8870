//! How do other processes of an account keep out of the active worker's way? They ask it for calls; and of those that
//! want some at the same time one has the lock, a queue that goes with its connection.
//!
//! A worker that becomes the active one looks for the lock: whoever has it may have been lent calls by a worker before, or
//! have heard a moment ago that there is none.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind};

use crate::broker::connection::link::SessionLost;
use crate::broker::control::steer::{self, NotAsked};
use crate::broker::convert::{long, short};
use crate::broker::publish::planner::{self, PlannerError};
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::transport::HARD;
use crate::broker::{ANSWER, within};
use crate::message::command::{Command, IssuedCommand, Lease};

/// A worker that is there answers at once; one that is just coming or going is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What may be called now.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// So much, of the active worker's own.
    Lent(Lease),
    /// No worker is active: what the configuration allows, for a call that goes within a second.
    Free,
    /// Nothing now: why, and when to ask again.
    Later(String, Duration),
    /// Nothing: why.
    Never(String),
}

/// A connection that has the lock, or wants it.
#[derive(Debug)]
pub struct Leasing {
    connection: Connection,
    queues: Queues,
    by: String,
    /// Its end would not end the lock, but it is what the lock was asked for on.
    lock: Option<Channel>,
}

impl Leasing {
    /// Connects; `by` is who asks, for the worker's log.
    ///
    /// # Errors
    /// The settings are wrong, or no broker answers.
    pub async fn open(
        settings: &Settings,
        queues: &Queues,
        by: &str,
    ) -> Result<Self, PlannerError> {
        let connection = planner::connection(settings, "sluice check", HARD).await?;
        Ok(Self { connection, queues: queues.clone(), by: by.to_owned(), lock: None })
    }

    /// Takes the lock; `false`: another process has it.
    ///
    /// # Errors
    /// The broker refuses, or was lost.
    pub async fn lock(&mut self) -> Result<bool, PlannerError> {
        let name = self.queues.leasing();
        let open = within(ANSWER, "opening a channel", self.connection.create_channel());
        let channel = open.await.map_err(PlannerError::Refused)?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), long("classic"));
        let declare = channel.queue_declare(short(&name), options, arguments);
        let taken = tokio::time::timeout(ANSWER, declare).await;
        match taken {
            Ok(Ok(_)) => {
                self.lock = Some(channel);
                Ok(true)
            }
            Ok(Err(error)) if is_locked(&error) => Ok(false),
            Ok(Err(error)) => {
                Err(PlannerError::Refused(SessionLost(format!("declaring {name}: {error}"))))
            }
            Err(_) => {
                let why = format!("declaring {name}: the broker did not answer in {ANSWER:?}");
                Err(PlannerError::Refused(SessionLost(why)))
            }
        }
    }

    /// Asks the active worker for so many calls.
    ///
    /// # Errors
    /// The broker refuses, or was lost, or a worker is there and does not answer.
    pub async fn ask(&self, calls: u32) -> Result<Turn, NotAsked> {
        let command = Command::Lease { calls };
        let issued = IssuedCommand { command, by: self.by.clone(), reason: None };
        let asked = steer::exchange_if_heard(&self.connection, &self.queues, &issued);
        let answer = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Err(NotAsked::Nobody { .. })) => return Ok(Turn::Free),
            Ok(answer) => answer?,
            Err(_) => return Err(NotAsked::NoAnswer),
        };
        Ok(match (answer.lease, answer.again_in) {
            (Some(lease), _) => Turn::Lent(lease),
            (None, Some(seconds)) => {
                let wait = Duration::try_from_secs_f64(seconds).unwrap_or(PATIENCE);
                Turn::Later(answer.said, wait)
            }
            (None, None) => Turn::Never(answer.said),
        })
    }

    /// Closes in good order, the lock with it.
    pub async fn close(self) {
        const CLOSE: Duration = Duration::from_secs(2);
        let close = self.connection.close(200, "done".into());
        let _ = within(CLOSE, "closing", close).await;
    }
}

/// Whether somebody has the lock. On a channel of its own, which the answer costs its life.
pub(in crate::broker) async fn is_taken(connection: &Connection, queues: &Queues) -> bool {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let look = async {
        let channel = connection.create_channel().await?;
        channel.queue_declare(short(&queues.leasing()), options, FieldTable::default()).await?;
        channel.close(200, "done".into()).await
    };
    // What nobody knows is not held against anybody.
    matches!(tokio::time::timeout(ANSWER, look).await, Ok(Err(error)) if is_locked(&error))
}

fn is_locked(error: &lapin::Error) -> bool {
    const LOCKED: u16 = 405;
    matches!(error.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == LOCKED)
}

/// Whether a worker consumes the requests, or stands by to.
///
/// # Errors
/// The broker refuses, or does not answer.
pub async fn is_a_worker_there(settings: &Settings, queues: &Queues) -> Result<bool, PlannerError> {
    let connection = planner::connection(settings, "sluice submit", HARD).await?;
    let consumers = planner::consumers(&connection, &queues.requests()).await;
    let _ = within(Duration::from_secs(2), "closing", connection.close(200, "done".into())).await;
    match consumers {
        Err(PlannerError::Missing { .. }) => Ok(false),
        // It takes a right to see who consumes (from RabbitMQ 4.3 on); a worker that is there says so itself.
        Err(error) if error.is_no_right() => {
            let issued = IssuedCommand {
                command: Command::Status,
                by: "sluice submit".to_owned(),
                reason: None,
            };
            match steer::ask(settings, queues, &issued).await {
                Err(NotAsked::Nobody { .. }) => Ok(false),
                Err(NotAsked::Broker(error)) => Err(error),
                Ok(_) | Err(_) => Ok(true),
            }
        }
        consumers => consumers.map(|consumers| consumers > 0),
    }
}
