//! What was asked, and what is answered? One call to the API as values, without any socket.

use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::contract::{Invalid, Reading};

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `POST /v3/tasks`
    Create,
    /// `GET /v3/tasks`
    List,
    /// `GET`, `DELETE /v3/tasks/{id}`, `POST /v3/tasks/{id}/action`
    Task,
    /// `GET /v3/sources`
    Sources,
    /// `GET /v3/sources/{id}`
    Source,
    /// `POST /v3/auth/tokens`: IAM, which has another endpoint and no part in the quota
    Token,
    /// Anything else
    Other,
}

impl Kind {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["v3", "tasks"]) => Self::Create,
            ("GET", ["v3", "tasks"]) => Self::List,
            ("GET" | "DELETE", ["v3", "tasks", _]) | ("POST", ["v3", "tasks", _, "action"]) => {
                Self::Task
            }
            ("GET", ["v3", "sources"]) => Self::Sources,
            ("GET", ["v3", "sources", _]) => Self::Source,
            ("POST", ["v3", "auth", "tokens"]) => Self::Token,
            _ => Self::Other,
        }
    }
}

/// A call whose body has been read.
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) path: String,
    /// The third part of the path, decoded.
    pub(super) id: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The body as the contract reads it; of a create only.
    pub(super) reading: Option<Result<Reading, Box<Invalid>>>,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The value of a query parameter; empty ones count as absent, as with the real gateway.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty())
    }

    /// The part of the path after `/v3/tasks/` or `/v3/sources/`.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The source server that the call is about, as far as it says.
    pub(super) fn source(&self) -> Option<&str> {
        match self.kind {
            Kind::Create => match self.reading.as_ref()? {
                Ok(reading) => Some(&reading.view.source_server_id),
                Err(invalid) => invalid.source_server_id.as_deref(),
            },
            Kind::List => self.parameter("source_server_id"),
            Kind::Source => Some(self.id()),
            _ => None,
        }
    }

    /// The body's name and priority.
    pub(super) fn name_and_priority(&self) -> (Option<&str>, Option<u16>) {
        match &self.reading {
            Some(Ok(reading)) => (Some(&reading.view.name), Some(reading.view.priority)),
            Some(Err(invalid)) => (invalid.name.as_deref(), invalid.priority),
            None => (None, None),
        }
    }
}

/// What is answered, before any fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// For log and statistics: the error code, and the task that was made.
    pub(super) error_code: Option<String>,
    pub(super) task_id: Option<String>,
}

impl Answer {
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, body: body.to_string(), ..Self::default() }
    }

    pub(super) fn ok(body: &serde_json::Value) -> Self {
        Self::json(200, body)
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}
