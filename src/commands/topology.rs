//! `sluice topology apply|check|show`: the exchanges and queues on the broker.

use clap::Subcommand;

use super::{Exit, Failure, World, lane, print, print_json};
use crate::broker::topology::{self, Comparison, Object, TopologyError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Declare what is missing; what is there must be the same
    #[command(after_help = "Example: sluice topology apply -c lane.toml")]
    Apply(lane::Args),
    /// Compare what is there with what should be; declares nothing
    #[command(after_help = "Ends with 1 if something is missing or different.
Example: sluice topology check -c lane.toml --json")]
    Check(Check),
    /// Print what should be there, for this broker's version
    #[command(after_help = "Example: sluice topology show -c lane.toml --json")]
    Show(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    lane: lane::Args,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let runtime = super::runtime()?;
    match &args.command {
        Command::Apply(lane) => {
            let config = lane.load(world, false)?.config;
            let applied = runtime.block_on(topology::apply(&config.broker, &config.queues));
            warn_of(&applied.map_err(failure)?);
            eprintln!("{}: everything is there", config.queues.requests());
            Ok(Exit::Done)
        }
        Command::Check(check) => {
            let config = check.lane.load(world, false)?.config;
            let found = runtime.block_on(topology::check(&config.broker, &config.queues));
            let report = found.map_err(failure)?;
            if check.json {
                print_json(&json(&report));
            } else {
                report.mismatches.iter().for_each(|mismatch| print(&format!("{mismatch}\n")));
            }
            warn_of(&report);
            Ok(if report.mismatches.is_empty() { Exit::Done } else { Exit::NotAllWell })
        }
        Command::Show(show) => {
            let config = show.lane.load(world, false)?.config;
            let shown = runtime.block_on(topology::show(&config.broker, &config.queues));
            let (version, objects) = shown.map_err(failure)?;
            if show.json {
                print_json(&json(&objects));
            } else {
                print(&format!("for RabbitMQ {version}:\n"));
                for object in &objects {
                    print(&format!("{}\n", line(object)));
                }
            }
            Ok(Exit::Done)
        }
    }
}

fn warn_of(report: &Comparison) {
    for object in &report.unchecked {
        eprintln!(
            "{object}: it is there, but this user may not compare its arguments; a user with the right to configure can"
        );
    }
}

pub(super) fn failure(error: TopologyError) -> Failure {
    match error {
        TopologyError::Unreachable(why) => Failure::unreachable(format!(
            "the broker is unreachable: {why}; check that it runs, and broker.url, which stands in the file of -c or SLUICE_CONFIG"
        )),
        TopologyError::Mismatch(_) | TopologyError::Settings(_) | TopologyError::LogIn(_) => {
            Failure::usage(error)
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

fn line(object: &Object) -> String {
    match object {
        Object::Exchange { name, routes } => {
            format!("exchange {name} ({})", format!("{routes:?}").to_lowercase())
        }
        Object::Queue { name, arguments } => {
            let arguments: Vec<_> =
                arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("queue {name} {}", arguments.join(" "))
        }
        Object::Binding { exchange, queue, key } => {
            format!("binding {exchange} -> {queue} key {key:?}")
        }
    }
}
