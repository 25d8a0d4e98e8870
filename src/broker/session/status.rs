//! How is the broker doing? What `/readyz` and the metrics say of it.

use crate::broker::version::Version;

/// Where the worker stands with its broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// The broker has a resource alarm and takes nothing that is published.
    pub blocked: bool,
    pub server: Option<Version>,
    /// What could not be compared with what it should be, for want of the right to configure.
    pub unchecked: Vec<String>,
    /// Host and port of the broker that is or was connected to.
    pub address: String,
    /// Messages that wait in the queue of requests (those held not counted), as of the last look at it.
    pub requests: Option<u32>,
    /// Messages that wait in the queue of dead letters.
    pub dead_letters: Option<u32>,
    pub others: Others,
    /// As a standby: what is heard in this worker's place is no worker.
    pub foreign: bool,
}

/// Who else consumes the request queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Consumers beside this worker's.
    pub consumers: u32,
    /// Whether this session has been given anything: then this worker is the queue's single active consumer.
    pub receives: bool,
}

/// What a worker is to its queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Connecting,
    /// Connected; another worker is the active one.
    Standby,
    /// The one that consumes.
    Active { session: u32 },
    /// Not connected, and why; a new session is being opened.
    Lost { why: String },
    /// Left for good.
    Left,
}
