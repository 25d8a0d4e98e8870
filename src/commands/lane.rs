//! Which configuration does a command use? The arguments that all of them share.

use std::path::{Path, PathBuf};

use super::{Failure, World};
use crate::config::Problems;
use crate::lane::{self, Given, Loaded};

/// The configuration of one lane.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Configuration (default: `SLUICE_CONFIG`, ./sluice.toml, built-in)
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// One key, above file and environment: limits.rates=5/s
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) overrides: Vec<(String, String)>,
}

impl Args {
    /// `needs_api`: the command calls the API, so a credential must be configured.
    ///
    /// # Errors
    /// All problems of the configuration.
    pub(super) fn load(&self, world: &World, needs_api: bool) -> Result<Loaded, Failure> {
        let from_env = world.env.get("SLUICE_CONFIG").filter(|path| !path.is_empty());
        let file = self.config.as_deref().or(from_env.map(Path::new)).or_else(here);
        load(file, &self.overrides, world, needs_api)
    }
}

/// What a planner keeps beside the plans. A worker takes its configuration from nowhere but where it is told.
pub(super) const HERE: &str = "./sluice.toml";

/// The file of this directory, if there is one; says so, for it decides which broker and which account are meant.
pub(super) fn here<'a>() -> Option<&'a Path> {
    let here = Path::new(HERE);
    here.is_file().then(|| {
        eprintln!("configuration: {HERE}");
        here
    })
}

impl Args {
    /// What a command that is shown to be copied must say to use the same file.
    pub(super) fn shown(&self) -> String {
        let Some(file) = &self.config else { return String::new() };
        let file = file.display().to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        if file.chars().all(plain) {
            format!(" -c {file}")
        } else {
            format!(" -c '{}'", file.replace('\'', r"'\''"))
        }
    }
}

/// # Errors
/// All problems of the configuration.
pub(super) fn load(
    file: Option<&Path>,
    overrides: &[(String, String)],
    world: &World,
    needs_api: bool,
) -> Result<Loaded, Failure> {
    read(file, overrides, world, needs_api).map_err(|problems| {
        let count = problems.all().len();
        let what = if count == 1 { "problem" } else { "problems" };
        Failure::usage(format!("the configuration has {count} {what}:\n{problems}"))
    })
}

/// # Errors
/// All problems of the configuration, one by one.
pub(super) fn read(
    file: Option<&Path>,
    overrides: &[(String, String)],
    world: &World,
    needs_api: bool,
) -> Result<Loaded, Problems> {
    lane::load(&Given { file, env: &world.env, overrides, needs_api })
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{text}` is not KEY=VALUE, such as limits.rates=5/s");
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    if key.is_empty() { Err(wrong()) } else { Ok((key.trim().to_owned(), value.to_owned())) }
}
