//! How does a command run that moves many dead letters? It says which ones and asks; then a bar shows how far it is. The
//! first Ctrl-C lets what is in hand end, a second one does not.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use serde_json::json;

use super::super::signals::Signals;
use super::super::{Exit, Failure, World, print, print_json, progress_bar};
use super::{Desk, failure, letters, say_left};
use crate::broker::dead_letters::{Attend, Found, MoveProgress, ReviewError};
use crate::report::text::one_line;
use crate::review::groups;

/// So many dead letters are named one by one.
const NAMED: usize = 10;

/// What a command that moves dead letters is told about asking.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Yes {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Yes {
    /// Nobody can be asked where there is no terminal, so this comes before anything else.
    ///
    /// # Errors
    /// There is nobody to ask.
    pub(super) fn can_be_asked(self, world: &World) -> Result<(), Failure> {
        if self.yes || world.stdin_is_terminal {
            return Ok(());
        }
        Err(Failure::usage("there is no terminal to ask at: give --yes; nothing was done"))
    }

    /// Always asks.
    pub(super) fn ask() -> Self {
        Self { yes: false }
    }

    pub(super) fn is_given(self) -> bool {
        self.yes
    }

    /// Whether the answer is yes.
    pub(super) fn confirmed(self, question: &str) -> bool {
        if self.yes {
            return true;
        }
        eprint!("{question} [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        let yes = read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
        if !yes {
            eprintln!("nothing was done");
        }
        yes
    }
}

/// The dead letters that are meant: by cause, and by name where they are few.
pub(super) fn describe(selected: &[&Found]) {
    for group in groups(selected.iter().map(|found| &found.letter)) {
        eprintln!("{:>7}  {}  {}", group.count, group.cause.id, one_line(&group.cause.in_a_line()));
    }
    if selected.len() <= NAMED {
        for found in selected {
            let (id, name) = (found.letter.id, one_line(&found.letter.name));
            eprintln!("         {id}  {name}");
        }
    }
}

/// Shows how far an order is, and stops it when it is told to.
#[derive(Clone, Debug)]
pub(super) struct Attendant {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Attend for Attendant {
    fn progress(&mut self, progress: MoveProgress) -> bool {
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
) -> Result<MoveProgress, Failure>
where
    F: Future<Output = Result<MoveProgress, ReviewError>>,
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
pub(super) fn report(done: &str, progress: MoveProgress, as_json: bool) -> Exit {
    let MoveProgress { moved, of, left } = progress;
    let stopped = moved < of;
    if as_json {
        let line = json!({ "done": done, "moved": moved, "of": of, "not_looked_at": left });
        print_json(&format!("{line}\n"));
    } else if stopped {
        print(&format!("{done} {moved} of {}; the others are as they were\n", letters(of)));
    } else {
        print(&format!("{done} {}\n", letters(moved)));
    }
    say_left(left);
    if stopped { Exit::NotAllWell } else { Exit::Done }
}
