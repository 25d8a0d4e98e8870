//! Which lanes does a process run? One for each configuration file, and no two that would share queues.

use std::path::{Path, PathBuf};

use super::{Failure, World, lane};
use crate::config::Problems;
use crate::lane::{Config, Loaded};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Configuration file of a lane (or `SLUICE_CONFIG`); several: lanes
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One key, above file and environment: limits.rates=5/s
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE", value_parser = lane::key_value)]
    overrides: Vec<(String, String)>,
}

impl Args {
    /// The files that are named; one that is none is the built-in default.
    fn files<'a>(&'a self, world: &'a World) -> Vec<Option<&'a Path>> {
        let from_env = world.env.get("SLUICE_CONFIG").filter(|path| !path.is_empty());
        match (&self.config[..], from_env) {
            ([], file) => vec![file.map(Path::new)],
            (files, _) => files.iter().map(|file| Some(file.as_path())).collect(),
        }
    }

    /// Each file by itself, with its problems one by one: for other programs.
    pub(super) fn each(&self, world: &World) -> Vec<(Option<PathBuf>, Result<Loaded, Problems>)> {
        let read = |file| lane::read(file, &self.overrides, world, true);
        let files = self.files(world).into_iter();
        files.map(|file| (file.map(Path::to_path_buf), read(file))).collect()
    }

    /// The lanes with their names, at least one.
    ///
    /// # Errors
    /// All problems of all configurations; or two lanes that cannot run beside each other.
    pub(super) fn load(&self, world: &World) -> Result<Vec<(String, Loaded)>, Failure> {
        let from_env = world.env.get("SLUICE_CONFIG").filter(|path| !path.is_empty());
        if self.config.is_empty() && from_env.is_none() && Path::new(lane::HERE).is_file() {
            eprintln!(
                "warning: {0} is not used here: a worker's configuration is named, with -c {0} or SLUICE_CONFIG",
                lane::HERE
            );
        }
        let files = self.files(world);
        let mut lanes: Vec<(String, Loaded)> = Vec::new();
        let mut failures = Vec::new();
        for file in &files {
            match lane::load(*file, &self.overrides, world, true) {
                Ok(loaded) => lanes.push((name(*file, &loaded.config.queues.prefix), loaded)),
                Err(failure) => failures.push(failure.message),
            }
        }
        if !failures.is_empty() {
            return Err(Failure::usage(failures.join("\n")));
        }
        let file = |i: usize| files[i].unwrap_or(Path::new("the default")).display();
        for (i, (name, loaded)) in lanes.iter().enumerate() {
            for (j, (other, earlier)) in lanes[..i].iter().enumerate() {
                if other == name {
                    let advice = "lanes are named after their files; rename one of them";
                    return Err(Failure::usage(format!("two lanes are named {name}: {advice}")));
                }
                if let Some(broker) = shared_queues(&earlier.config, &loaded.config) {
                    return Err(Failure::usage(format!(
                        "{} and {} are two lanes with the same queues.prefix, `{}`, on the same broker, {broker}: requests \
                         of one account would go to the other; give each file a queues.prefix of its own",
                        file(j),
                        file(i),
                        loaded.config.queues.prefix
                    )));
                }
            }
        }
        Ok(lanes)
    }
}

/// The file's name tells accounts apart, but for the name that every account's file may have on a machine of its own, and
/// where there is no file: then the prefix of the queues does.
fn name(file: Option<&Path>, prefix: &str) -> String {
    let stem = file.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| stem != "sluice").unwrap_or_else(|| prefix.to_owned())
}

/// The broker on which two lanes would use the same queues: `host:port/vhost`.
fn shared_queues(one: &Config, other: &Config) -> Option<String> {
    if one.queues.prefix != other.queues.prefix {
        return None;
    }
    let places = other.broker.places();
    one.broker.places().into_iter().find(|place| places.contains(place))
}
