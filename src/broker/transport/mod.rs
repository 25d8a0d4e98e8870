//! What lies between the socket and the client library? A transport of ours: it finds an address that answers, judges the
//! certificate, reads the server's greeting as it passes, and lets nothing through that the library cannot bear.
//!
//! What one message carries must not cost the process (the library reads tables by recursion), the session (it ends the
//! connection over a text that is not UTF-8) or the memory (it gathers bodies of any length). So each frame is checked
//! ([`filter`]: [`methods`], [`header`], [`table`]) before the library reads it. What is replaced is remembered by channel
//! and delivery tag, not by a mark in the message, which anybody could publish.

mod aside;
mod filter;
mod header;
mod kit;
mod methods;
mod reach;
mod stream;
mod table;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Connection, ConnectionProperties, Error};

pub(crate) use aside::{Beyond, HARD};
pub use filter::{Filtered, filtered};

use crate::broker::version::Version;
use crate::worker::bodies::{Body, Spill};
use filter::{DeliveryKey, Filter, Note};
use kit::Kit;
use stream::Stream;

/// The longest frame, unless the url says otherwise: what RabbitMQ proposes.
pub(crate) const FRAME: u32 = 128 * 1024;

/// The longest frame that a url may ask for: the client library keeps 64 of them for each connection.
pub(crate) const LONGEST_FRAME: u32 = 1024 * 1024;

/// The longest body that is gathered where so long a body may be sent: what is longer is invalid for its length alone.
pub(crate) fn gathered(max_body: usize) -> u64 {
    (max_body as u64).min(HARD)
}

/// What a delivery had that the client library was not given.
#[derive(Debug)]
pub(crate) struct Original {
    /// What the library could not have read, in words.
    pub(crate) flaw: Option<String>,
    /// What tells this message from others, where its id cannot be read: the same at each delivery.
    pub(crate) identity: Option<[u8; 32]>,
    /// The payload of its header as it came, where another one was given.
    pub(crate) header: Option<io::Result<Body>>,
    /// Its body, where that was too long to be gathered.
    pub(crate) beyond: Option<Beyond>,
}

/// The properties of a message, read back from its header.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) properties: BasicProperties,
    /// All of them as they came, where some of them cannot be read.
    pub(crate) unreadable: Option<Bytes>,
}

impl Restored {
    /// # Errors
    /// This is no header, which none is that was kept.
    pub(crate) fn of(header: &Bytes) -> io::Result<Self> {
        let replaced = header::check(header, |_| true).map_err(io::Error::other)?;
        let readable = replaced.filter(|replaced| replaced.flaw.is_some());
        let properties = header::read(readable.as_ref().map_or(header, |it| &it.payload))?;
        Ok(Self { properties, unreadable: readable.map(|_| header::properties(header)) })
    }
}

impl From<BasicProperties> for Restored {
    fn from(properties: BasicProperties) -> Self {
        Self { properties, unreadable: None }
    }
}

/// What is known of a connection beside what the client library knows.
#[derive(Debug, Default)]
pub(crate) struct Wire(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    version: Option<Version>,
    wanted: Option<(u16, Spill)>,
    /// How many bodies are on their way to the file.
    under_way: usize,
    originals: HashMap<DeliveryKey, Original>,
}

impl Wire {
    /// From now on what is replaced on this channel is kept.
    pub(crate) fn keep(&self, channel: u16, spill: &Spill) {
        self.state().wanted = Some((channel, spill.clone()));
    }

    /// What this delivery had that the client library was not given.
    pub(crate) fn take(&self, channel: u16, tag: u64) -> Option<Original> {
        let mut state = self.state();
        if state.originals.is_empty() { None } else { state.originals.remove(&(channel, tag)) }
    }

    /// The version that the server has told.
    pub(crate) fn version(&self) -> Option<Version> {
        self.state().version
    }

    /// Whether a long body is on its way, and nothing else for so long.
    pub(crate) fn is_receiving(&self) -> bool {
        self.state().under_way > 0
    }

    fn receives(&self, under_way: usize) {
        self.state().under_way = under_way;
    }

    fn is_told(&self, version: Version) {
        self.state().version = Some(version);
    }

    fn wants(&self, channel: u16) -> Option<Spill> {
        let state = self.state();
        state
            .wanted
            .as_ref()
            .filter(|(wanted, _)| *wanted == channel)
            .map(|(_, spill)| spill.clone())
    }

    /// Where nothing is kept nothing needs room.
    fn has_room(&self, bytes: usize) -> bool {
        let state = self.state();
        state.wanted.as_ref().is_none_or(|(_, spill)| spill.has_room_beside(bytes as u64))
    }

    fn remember(&self, note: Note, beyond: Option<Beyond>) {
        let Note { place, flaw, identity, original } = note;
        let Some((place, spill)) = place.and_then(|place| Some((place, self.wants(place.0)?)))
        else {
            if let Some(flaw) = flaw {
                tracing::warn!(flaw, "a message was given without what cannot be read of it");
            }
            return;
        };
        // The file is written outside of the lock.
        let header = original.map(|original| spill.keep_aside(&original));
        self.state().originals.insert(place, Original { flaw, identity, header, beyond });
    }

    /// What is kept is whole after a panic: each change is one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a broker is connected to.
pub(super) struct Way<'a> {
    /// A name, or an address.
    pub(super) host: &'a str,
    /// None: not encrypted.
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// The longest body that is gathered.
    pub(super) gathered: u64,
}

/// Opens a connection.
///
/// # Errors
/// As the client library tells them, which goes on with what was reached.
pub(super) async fn open(
    uri: AMQPUri,
    properties: ConnectionProperties,
    way: Way<'_>,
) -> lapin::Result<(Connection, Arc<Wire>)> {
    let runtime = async_rs::Runtime::new(Kit(async_rs::Tokio::current()));
    let socket = reach::reach(way.host, uri.authority.port, way.tls).await?;
    let wire = Arc::new(Wire::default());
    let room = Arc::clone(&wire);
    let has_room = Box::new(move |bytes| room.has_room(bytes));
    let filter = Filter::new(uri.query.frame_max.unwrap_or(FRAME), way.gathered, has_room);
    let stream = Stream::new(socket, filter, Arc::clone(&wire));
    let once = Mutex::new(Some(stream));
    let connect = async move |_: AMQPUri, _: async_rs::Runtime<Kit>| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        let used = || Error::from(io::Error::from(io::ErrorKind::NotConnected));
        stream.map(AsyncTcpStream::Plain).ok_or_else(used)
    };
    let connection = Connection::connector(uri, runtime, connect, properties).await?;
    Ok((connection, wire))
}
