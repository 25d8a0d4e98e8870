//! Which generations of which batches does `sluice watch` follow? What is known of them is collected from the start of the
//! stream on; which are meant is said when all has been read that was there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::Failure;
use super::super::times::local;
use crate::message::generation::{RunPrefix, short};
use crate::message::result::Event;
use crate::report::batches::{BatchPattern, Batches, Generation, Together};
use crate::report::progress::{BatchChange, BatchProgress};

/// What was asked for.
#[derive(Clone, Debug)]
pub(in crate::commands) enum Which {
    /// The latest generation of each batch, or that of one batch which is named.
    Named(BatchPattern, Option<RunPrefix>),
    /// These, and no others.
    These(Vec<Generation>),
}

impl Which {
    fn wants(&self, batch: &str) -> bool {
        match self {
            Self::Named(pattern, _) => pattern.matches(batch),
            Self::These(these) => these.iter().any(|(wanted, _)| wanted == batch),
        }
    }

    /// The batches, whatever their generation.
    pub(super) fn patterns(&self) -> Vec<BatchPattern> {
        match self {
            Self::Named(pattern, _) => vec![pattern.clone()],
            Self::These(these) => {
                these.iter().map(|(batch, _)| BatchPattern::One(batch.clone())).collect()
            }
        }
    }

    /// Whether there is one batch, and no line for all of them together.
    pub(super) fn is_one(&self) -> bool {
        match self {
            Self::Named(pattern, _) => matches!(pattern, BatchPattern::One(_)),
            Self::These(these) => these.len() == 1,
        }
    }

    /// As a person would name it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Named(pattern, _) => pattern.to_string(),
            Self::These(these) => {
                let ids: Vec<&str> = these.iter().map(|(batch, _)| batch.as_str()).collect();
                ids.join(", ")
            }
        }
    }
}

/// What is known of the batches that are followed.
pub(super) struct Watched {
    pub(super) which: Which,
    batches: Batches,
    /// The generation of each batch that is followed, once it is settled which.
    chosen: BTreeMap<String, Option<Uuid>>,
    is_settled: bool,
}

impl Watched {
    pub(super) fn new(which: Which) -> Self {
        Self { which, batches: Batches::default(), chosen: BTreeMap::new(), is_settled: false }
    }

    /// What an event changed of what is followed; other generations are only remembered.
    pub(super) fn take(&mut self, event: &Event) -> BatchChange {
        let Some((batch, run)) = event.batch().filter(|(batch, _)| self.which.wants(batch)) else {
            return BatchChange::Nothing;
        };
        // Batches that come later belong to what is followed, where the beginning of their ids was named.
        if self.is_settled && matches!(self.which, Which::Named(_, None)) {
            self.chosen.entry(batch.to_owned()).or_insert(run);
        }
        let is_followed = self.chosen.get(batch) == Some(&run);
        let change = self.batches.take(event);
        if is_followed { change } else { BatchChange::Nothing }
    }

    /// All has been read that was there: says which generations are followed from now on.
    ///
    /// # Errors
    /// The stream knows none such, or several.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        match &self.which {
            Which::These(these) => {
                for (batch, run) in these {
                    if self.batches.get(batch, *run).is_none() {
                        return Err(unknown(batch));
                    }
                    self.chosen.insert(batch.clone(), *run);
                }
            }
            Which::Named(BatchPattern::One(batch), Some(run)) => {
                let all = self.batches.generations(batch);
                let meant: Vec<_> = all.iter().filter(|one| run.matches(one.run)).collect();
                let run = match meant.as_slice() {
                    [one] => one.run,
                    _ if all.is_empty() => return Err(unknown(batch)),
                    [] => return Err(no_such(batch, run, &all)),
                    [..] => return Err(several(batch, run, &all)),
                };
                self.chosen.insert(batch.clone(), run);
            }
            Which::Named(..) => {
                for batch in self.batches.ids() {
                    if let Some(latest) = self.batches.latest(batch) {
                        self.chosen.insert(batch.to_owned(), latest.run);
                    }
                }
            }
        }
        self.is_settled = true;
        if self.chosen.is_empty() { Err(unknown(&self.which.shown())) } else { Ok(()) }
    }

    /// What is followed, in the order of the ids.
    pub(super) fn followed(&self) -> Vec<&BatchProgress> {
        let get = |(batch, run): (&String, &Option<Uuid>)| self.batches.get(batch, *run);
        self.chosen.iter().filter_map(get).collect()
    }

    /// How many generations there are of a batch.
    pub(super) fn generations(&self, batch: &str) -> usize {
        self.batches.generations(batch).len()
    }

    pub(super) fn together(&self) -> Together {
        Together::of(self.followed())
    }

    /// When a batch that is followed was announced anew, under another generation; that is not followed.
    pub(super) fn announced_anew(
        &self,
        event: &Event,
    ) -> Option<(String, Option<Uuid>, Timestamp)> {
        let Event::Opened(opened) = event else { return None };
        let (batch, run) = (&opened.data.batch, opened.data.batch_run);
        let other = *self.chosen.get(batch)? != run;
        other.then(|| (batch.clone(), run, opened.time))
    }
}

fn unknown(batch: &str) -> Failure {
    let advice =
        "`sluice watch` lists those it knows; is queues.prefix the one that it was enqueued with?";
    Failure::usage(format!("the results stream knows no batch {batch}: {advice}"))
}

fn listed(all: &[&BatchProgress]) -> String {
    let one = |one: &&BatchProgress| {
        let begun = one.begun_at().map(|at| format!(" of {}", local(at)));
        let run = one.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
        format!("{run}{}", begun.unwrap_or_default())
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn no_such(batch: &str, run: &RunPrefix, all: &[&BatchProgress]) -> Failure {
    let those = listed(all);
    Failure::usage(format!("batch {batch} has no generation {run}; give --run one of: {those}"))
}

fn several(batch: &str, run: &RunPrefix, all: &[&BatchProgress]) -> Failure {
    let meant: Vec<_> = all.iter().copied().filter(|one| run.matches(one.run)).collect();
    let those = listed(&meant);
    Failure::usage(format!(
        "--run {run} may be any of several generations of batch {batch}: write more of it: {those}"
    ))
}

/// ` (generation 019ab0d0-1c2d)`, where the batch has several.
pub(super) fn generation(watched: &Watched, one: &BatchProgress) -> String {
    if watched.generations(&one.batch) > 1 {
        format!(" (generation {})", short(one.run))
    } else {
        String::new()
    }
}
