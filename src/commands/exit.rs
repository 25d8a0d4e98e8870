//! How did a command end? The exit codes that scripts rely on.

use std::fmt;
use std::process::ExitCode;

use crate::report::text::terminal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// It ran, but some requests did not end well.
    NotAllWell = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The plan is invalid; nothing was sent.
    InvalidPlan = 3,
    /// Broker or API unreachable.
    Unreachable = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What stopped a command: for people, with what to do.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }

    pub fn invalid_plan(message: impl fmt::Display) -> Self {
        Self { exit: Exit::InvalidPlan, message: message.to_string() }
    }

    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Unreachable, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&terminal(&self.message))
    }
}

impl std::error::Error for Failure {}
