//! The configuration of one account: its sections, their checks, and what the core needs of it.
//!
//! Every section is a struct that derives `Deserialize` and `Debug` and stands with the module it configures
//! ([`crate::api`], [`crate::broker`], ...). The embedded `config/sluice.toml` holds every default, so the structs have
//! none: a key without a default is an `Option`. Unknown keys are found by the reader, so no `deny_unknown_fields`.
//! How values are written: [`crate::config::values`].

mod check;
mod core;
mod reference;
pub mod sections;
pub(crate) mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use crate::config::tree::{self, Origin, Table};
use crate::config::{Problem, Problems, read, show};
pub use reference::reference;

/// The embedded default, comments and all.
pub const DEFAULT: &str = include_str!("../../config/sluice.toml");

/// Variables of the environment that start so, and have a `__` after it, are keys.
const ENV_PREFIX: &str = "SLUICE_";

/// The keys that SIGHUP reads again; all others hold until a restart.
pub const HOT: [&str; 5] =
    ["limits.rates", "limits.max_in_flight", "limits.max_running", "schedule.windows", "log.level"];

/// One lane's configuration.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub broker: crate::broker::settings::Broker,
    pub queues: crate::broker::settings::Queues,
    pub contract: sections::Contract,
    pub window: sections::Window,
    pub limits: sections::Limits,
    pub schedule: sections::Schedule,
    pub retry: sections::Retry,
    pub halt: sections::Halt,
    pub api: crate::api::settings::ApiSettings,
    pub http: sections::Http,
    pub log: crate::observe::log::Log,
}

/// What a configuration is made from. The environment is handed in: the library never asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub file: Option<&'a Path>,
    pub env: &'a BTreeMap<String, String>,
    /// `--override limits.rates=5/s`: dotted key and value.
    pub overrides: &'a [(String, String)],
    /// Whether the API is going to be called: then it needs a credential. Planners only need the broker.
    pub needs_api: bool,
}

/// A configuration that holds.
pub struct Loaded {
    pub config: Config,
    /// What is allowed but hardly meant.
    pub warnings: Vec<Problem>,
    tree: Table,
    learned: read::Learned,
}

/// Not derived: the tree holds secrets as they were written.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// The effective configuration as TOML, secrets masked, each value that is not the default's with its origin.
    pub fn show(&self) -> String {
        show::show(&self.tree, &self.learned)
    }

    /// The keys whose values are not those of `other`, as dotted paths.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (here, there) = (show::values(&self.tree), show::values(&other.tree));
        let keys: BTreeSet<_> = here.keys().chain(there.keys()).collect();
        keys.into_iter().filter(|key| here.get(*key) != there.get(*key)).cloned().collect()
    }

    /// Every key there is, as dotted paths.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.learned.keys.iter().map(String::as_str)
    }
}

/// The variable that overrides a key: `limits.rates` is `SLUICE_LIMITS__RATES`.
pub fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Reads a lane's configuration: the embedded default, then the file, then the environment, then overrides.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(given: &Given<'_>) -> Result<Loaded, Problems> {
    let Some(path) = given.file else { return load_text(None, given) };
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => load_text(Some((&name, &text)), given),
        Err(e) => Err(Problems::new(vec![Problem::of_file(
            &name,
            format!(
                "cannot read the configuration: {e}; name an existing file with -c, or write one with: sluice config \
                 show --default > sluice.toml"
            ),
        )])),
    }
}

/// Like [`load`], with the name and the text of the file that `given` would name.
pub fn load_text(file: Option<(&str, &str)>, given: &Given<'_>) -> Result<Loaded, Problems> {
    let defaults = tree::parse(DEFAULT, None).map_err(Problems::new)?;
    let mut tree = defaults.clone();
    if let Some((name, text)) = file {
        tree::overlay(&mut tree, tree::parse(text, Some(name)).map_err(Problems::new)?);
    }
    tree::overlay(&mut tree, environment(given.env));
    tree::overlay(&mut tree, flags(given.overrides));
    let (config, learned, mut problems) = read::read::<Config>(tree.clone(), &defaults);
    let Some(config) = config else { return Err(Problems::new(problems)) };
    let warnings = check::check(&config, &tree, given.needs_api, &mut problems);
    if problems.is_empty() {
        Ok(Loaded { config, warnings, tree, learned })
    } else {
        Err(Problems::new(problems))
    }
}

fn environment(env: &BTreeMap<String, String>) -> Table {
    let mut table = Table::new();
    for (name, value) in env {
        let Some(path) = name.strip_prefix(ENV_PREFIX).filter(|path| path.contains("__")) else {
            continue;
        };
        let path = path.to_lowercase();
        let path: Vec<&str> = path.split("__").collect();
        tree::set(&mut table, &path, value, &Origin::Env(name.as_str().into()));
    }
    table
}

fn flags(overrides: &[(String, String)]) -> Table {
    let mut table = Table::new();
    for (key, value) in overrides {
        let path: Vec<&str> = key.split('.').collect();
        tree::set(&mut table, &path, value, &Origin::Flag(format!("--override {key}").into()));
    }
    table
}
