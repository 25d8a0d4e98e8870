//! Which broker, and which names on it? `[broker]` and `[queues]` of the configuration; what each key means is said in
//! `config/sluice.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::values::{self, Secret, SecretUrl, SecretUrls};

#[derive(Clone, Debug, Deserialize)]
pub struct Broker {
    /// One url or several, tried in turn.
    pub url: Option<SecretUrls>,
    pub url_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl Broker {
    /// The urls to try, read from `url_file` (one a line) where that is given.
    ///
    /// # Errors
    /// Says which file cannot be read.
    pub fn urls(&self) -> Result<SecretUrls, String> {
        match (&self.url_file, &self.url) {
            (Some(file), _) => Ok(SecretUrls::new(Secret::from_file(file)?.expose().lines())),
            (None, Some(urls)) => Ok(urls.clone()),
            (None, None) => Err("no url: set broker.url or broker.url_file".to_owned()),
        }
    }

    /// The same with one url only: whose turn it is. Where a session is, all that belongs to it is.
    ///
    /// # Errors
    /// Says which file cannot be read.
    pub(crate) fn only(&self, turn: usize) -> Result<Self, String> {
        let urls = self.urls()?;
        let urls: Vec<_> = urls.iter().collect();
        let url = urls.get(turn % urls.len().max(1)).map(|url| url.expose());
        Ok(Self { url: Some(SecretUrls::new(url)), url_file: None, ..self.clone() })
    }

    /// Where the queues are, as `host:port/vhost`; what cannot be read is left out. `localhost` and 127.0.0.1 are one.
    pub fn places(&self) -> Vec<String> {
        let place = |url: &SecretUrl| {
            let uri = url.expose().parse::<lapin::uri::AMQPUri>().ok()?;
            let host = uri.authority.host.to_lowercase();
            let host = if host == "127.0.0.1" { "localhost" } else { &host };
            Some(format!("{host}:{}/{}", uri.authority.port, uri.vhost))
        };
        self.urls().map(|urls| urls.iter().filter_map(place).collect()).unwrap_or_default()
    }
}

impl Broker {
    /// The virtual host of the first url; the default one where none can be read.
    pub fn vhost(&self) -> String {
        let first = self.urls().ok().and_then(|urls| {
            let uri = urls.iter().next()?.expose().parse::<lapin::uri::AMQPUri>().ok()?;
            Some(uri.vhost)
        });
        first.unwrap_or_else(|| "/".to_owned())
    }
}

/// How the queues of requests and of dead letters are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    Quorum,
    Classic,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Queues {
    pub prefix: String,
    #[serde(rename = "type")]
    pub kind: QueueType,
    pub max_priority: u8,
    pub declare: bool,
    /// RabbitMQ's own units, such as `30D`.
    pub results_retention: String,
    pub audit_retention: String,
}

impl QueueType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

impl Broker {
    /// The client's certificate and its key, see [`values::certificate_pair`].
    pub(crate) fn certificate(&self) -> Result<Option<(&Path, &Path)>, (&'static str, String)> {
        let (cert, key) = (self.cert_file.as_deref(), self.key_file.as_deref());
        values::certificate_pair("broker", cert, key)
    }
}

/// The names of everything on the broker.
impl Queues {
    pub fn requests(&self) -> String {
        format!("{}.requests", self.prefix)
    }

    /// The exchange in front of it, for planners.
    pub fn enqueue(&self) -> String {
        format!("{}.enqueue", self.prefix)
    }

    /// The exchange on which batches announce themselves: planners write there, and no result can come through it.
    pub fn batches(&self) -> String {
        format!("{}.batches", self.prefix)
    }

    /// The exchange through which the worker alone writes to the other queues, by their names.
    pub fn worker(&self) -> String {
        format!("{}.worker", self.prefix)
    }

    /// The exchange through which reviewers write: replays, dead letters that are put back, and acts.
    pub fn review(&self) -> String {
        format!("{}.review", self.prefix)
    }

    /// The exchange through which the worker answers commands.
    pub fn answers(&self) -> String {
        format!("{}.answers", self.prefix)
    }

    /// The exchange through which the broker itself dead-letters.
    pub fn dlx(&self) -> String {
        format!("{}.dlx", self.prefix)
    }

    /// What waits for a time or a planner's word beyond half of the window.
    pub fn parked(&self) -> String {
        format!("{}.parked", self.prefix)
    }

    /// The exchange of results.
    pub fn results(&self) -> String {
        format!("{}.results", self.prefix)
    }

    /// The stream of results.
    pub fn results_log(&self) -> String {
        format!("{}.results.log", self.prefix)
    }

    /// The queue of dead letters.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    pub fn audit(&self) -> String {
        format!("{}.audit", self.prefix)
    }

    pub fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    /// The stream of orders about requests that wait.
    pub fn orders(&self) -> String {
        format!("{}.orders", self.prefix)
    }

    /// What operators have set last: a queue of one message.
    pub fn gate(&self) -> String {
        format!("{}.gate", self.prefix)
    }

    /// Tells who reviews the dead letters.
    pub fn reviewing(&self) -> String {
        format!("{}.reviewing", self.prefix)
    }

    /// Says who reviews the dead letters: a queue of one message, gone after an hour.
    pub fn reviewer(&self) -> String {
        format!("{}.reviewer", self.prefix)
    }

    /// The lock of those that call the API beside the worker: it goes with its connection.
    pub fn leasing(&self) -> String {
        format!("{}.leasing", self.prefix)
    }

    /// Tells which worker is the active one.
    pub fn active(&self) -> String {
        format!("{}.active", self.prefix)
    }
}

/// Whether this is an AMQP url that can be connected to.
pub fn is_amqp_url(text: &str) -> bool {
    text.parse::<lapin::uri::AMQPUri>().is_ok()
}
