//! How does an order on many letters run? With a bar; the first Ctrl-C lets what is in hand end, a second one does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use serde_json::json;

use super::super::signals::Signals;
use super::super::{Exit, Failure, World, print, progress_bar};
use super::{Desk, failure, letters, say_left};
use crate::broker::dead_letters::{Attend, Progress, ReviewError};

/// Shows how far an order is, and stops it when it is told to.
#[derive(Clone, Debug)]
pub(super) struct Attendant {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Attend for Attendant {
    fn progress(&mut self, progress: Progress) -> bool {
        self.bar.set_length(progress.of as u64);
        self.bar.set_position(progress.moved as u64);
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Runs it to its end, or to the first Ctrl-C.
pub(super) fn run<F>(
    desk: &Desk,
    world: &World,
    what: &str,
    work: impl FnOnce(Attendant) -> F,
) -> Result<Progress, Failure>
where
    F: Future<Output = Result<Progress, ReviewError>>,
{
    let bar = progress_bar(world, 0, what);
    let attendant = Attendant { bar: bar.clone(), stop: Arc::default() };
    let stop = Arc::clone(&attendant.stop);
    let result = desk.runtime.block_on(async {
        let listening = Signals::listen();
        let mut signals =
            listening.map_err(|e| Failure::usage(format!("cannot listen to signals: {e}")))?;
        let work = work(attendant);
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return result.map_err(|error| failure(&error)),
            _ = signals.next() => {}
        }
        stop.store(true, Ordering::Relaxed);
        bar.suspend(|| eprintln!("sluice: what is in hand ends; once more stops at once"));
        tokio::select! {
            result = &mut work => result.map_err(|error| failure(&error)),
            never = signals.give_up() => never,
        }
    });
    bar.finish_and_clear();
    result
}

/// Says what has moved. `done` is the past of what was to be done.
pub(super) fn report(done: &str, progress: Progress, as_json: bool) -> Exit {
    let Progress { moved, of, left } = progress;
    let stopped = moved < of;
    if as_json {
        let line = json!({ "done": done, "moved": moved, "of": of, "not_looked_at": left });
        print(&format!("{line}\n"));
    } else if stopped {
        print(&format!("{done} {moved} of {}; the others are as they were\n", letters(of)));
    } else {
        print(&format!("{done} {}\n", letters(moved)));
    }
    say_left(left);
    if stopped { Exit::NotAllWell } else { Exit::Done }
}
