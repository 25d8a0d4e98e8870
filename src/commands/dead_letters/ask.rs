//! Does the person really want it? What moves letters says first what it will do.

use std::io::Write as _;

use super::super::{Failure, World};
use crate::broker::dead_letters::Found;
use crate::report::text::one_line;
use crate::review::groups;

/// So many letters are named one by one.
const NAMED: usize = 10;

/// What a command that moves letters is told about asking.
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

/// The letters that are meant: by cause, and by name where they are few.
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
