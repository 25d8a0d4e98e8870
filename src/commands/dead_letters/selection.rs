//! Which dead letters does a command mean? The conditions that all of them share.

use jiff::Timestamp;

use super::super::Failure;
use super::super::times::past;
use crate::broker::dead_letters::{Found, Snapshot};
use crate::message::generation::RunPrefix;
use crate::review::Filter;

/// All conditions that are given must hold.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct Selection {
    /// Dead letters, by id (its first 8 characters will do) or message id
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<String>,
    /// Of this cause: its id, an outcome, or an error code
    #[arg(long)]
    cause: Option<String>,
    #[arg(long, help = "Of this batch")]
    batch: Option<String>,
    /// Of this generation of it: its UUID, or the beginning; - is none
    #[arg(long, value_name = "UUID")]
    batch_run: Option<RunPrefix>,
    /// Of this source server
    #[arg(long, value_name = "ID")]
    source_server: Option<String>,
    /// With this text in the task's name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Of this region
    #[arg(long, value_name = "ID")]
    region: Option<String>,
    /// Of this project
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Failed then or later: '2026-01-31 12:00', ...T12:00Z, or 2h (ago)
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Timestamp>,
    /// Failed before
    #[arg(long, value_name = "TIME", value_parser = past)]
    until: Option<Timestamp>,
    /// With this text in the body
    #[arg(long)]
    text: Option<String>,
}

/// The conditions of a command that moves dead letters: some must be given.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct Chosen {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// All that there are
    #[arg(long)]
    all: bool,
}

impl Selection {
    pub(super) fn filter(&self) -> Filter {
        Filter {
            ids: self.ids.clone(),
            cause: self.cause.clone(),
            batch: self.batch.clone(),
            batch_run: self.batch_run.as_ref().map(ToString::to_string),
            source_server: self.source_server.clone(),
            name: self.name.clone(),
            region: self.region.clone(),
            project: self.project.clone(),
            from: self.since,
            to: self.until,
            text: self.text.clone(),
        }
    }

    /// The dead letters that are meant. Every id that is named must be there.
    pub(super) fn of<'a>(
        &self,
        snapshot: &'a Snapshot,
        filter: &'a Filter,
    ) -> Result<Vec<&'a Found>, Failure> {
        let is_there = |id: &&String| !named(snapshot, id).is_empty();
        let missing: Vec<&str> =
            self.ids.iter().filter(|id| !is_there(id)).map(String::as_str).collect();
        if missing.is_empty() {
            Ok(snapshot.select(filter).collect())
        } else {
            Err(no_such(&missing))
        }
    }
}

/// The one dead letter of that name.
pub(super) fn one<'a>(snapshot: &'a Snapshot, id: &str) -> Result<&'a Found, Failure> {
    match named(snapshot, id).as_slice() {
        [] => Err(no_such(&[id])),
        [one] => Ok(one),
        several => {
            let ids: Vec<_> = several.iter().map(|found| found.letter.id.to_string()).collect();
            Err(Failure::usage(format!("{id} may be any of {}: write more of it", ids.join(", "))))
        }
    }
}

fn named<'a>(snapshot: &'a Snapshot, id: &str) -> Vec<&'a Found> {
    let filter = Filter::ids([id]);
    let filter = filter.ready();
    snapshot.letters.iter().filter(|found| filter.matches(&found.letter, || None)).collect()
}

fn no_such(ids: &[&str]) -> Failure {
    Failure::usage(format!(
        "no dead letter has the id {} (8 characters at least); `sluice dead-letters audit` says what was done to it",
        ids.join(", ")
    ))
}

impl Chosen {
    pub(super) fn filter(&self) -> Result<Filter, Failure> {
        let filter = self.selection.filter();
        match (self.all, filter == Filter::default()) {
            (false, true) => Err(Failure::usage(
                "say which dead letters: ids, conditions such as --cause, or --all; nothing was done",
            )),
            (true, false) => Err(Failure::usage(
                "--all and a condition contradict each other: leave one out; nothing was done",
            )),
            _ => Ok(filter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_letters_must_be_told_which() {
        let some = |all, cause: Option<&str>| Chosen {
            all,
            selection: Selection { cause: cause.map(str::to_owned), ..Selection::default() },
        };
        assert!(some(false, None).filter().is_err());
        assert!(some(true, Some("x")).filter().is_err());
        assert_eq!(some(true, None).filter().unwrap(), Filter::default());
        assert!(some(false, Some("x")).filter().is_ok());
    }
}
