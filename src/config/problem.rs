//! What is wrong with a configuration, and where? All problems are reported at once.

use std::fmt;

use super::tree::Origin;

/// One thing that is wrong: the place, the key, what was found and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    origin: Origin,
    key: Option<String>,
    message: String,
}

impl Problem {
    pub(crate) fn new(origin: Origin, key: Option<String>, message: String) -> Self {
        Self { origin, key, message }
    }

    /// A problem of a whole file: it cannot be read.
    pub(crate) fn of_file(name: &str, message: impl fmt::Display) -> Self {
        Self { origin: Origin::Env(name.into()), key: None, message: message.to_string() }
    }

    /// The line in the file, from 1.
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Origin::File { line, .. } => Some(line),
            _ => None,
        }
    }

    /// The dotted path of the key, where one key is to blame.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The place, in words and numbers, the key and what is wrong, for other programs.
    pub fn to_json(&self) -> serde_json::Value {
        let (place, column) = match &self.origin {
            Origin::Default => (None, None),
            Origin::File { column, .. } => (Some(self.origin.to_string()), Some(*column)),
            Origin::Env(_) | Origin::Flag(_) => (Some(self.origin.to_string()), None),
        };
        serde_json::json!({
            "place": place, "line": self.line(), "column": column, "key": self.key,
            "message": self.message,
        })
    }

    fn order(&self) -> (u8, usize, usize) {
        match self.origin {
            Origin::File { line, column, .. } => (0, line, column),
            Origin::Env(_) => (1, 0, 0),
            Origin::Flag(_) => (2, 0, 0),
            Origin::Default => (3, 0, 0),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::order);
        Self(problems)
    }

    pub fn all(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let end = if i + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{problem}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
