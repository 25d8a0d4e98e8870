//! `sluice topology apply|check|show|permissions`: the exchanges and queues on the broker, and who may do what with them.

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Failure, World, lane, print, print_json};
use crate::broker::settings::Queues;
use crate::broker::topology::{self, Comparison, Object, Rights, Role, TopicRights, TopologyError};

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
    /// Print the rights that each role needs on the broker, as commands or for import
    #[command(after_help = PERMISSIONS)]
    Permissions(Permissions),
}

const PERMISSIONS: &str = "\
Each user exists already: rabbitmqctl add_user. Asks no broker.
Examples: sluice topology permissions -c lane.toml
          sluice topology permissions --role planner --user ada -c lane.toml | sh
          sluice topology permissions --json -c lane.toml > rights.json";

#[derive(Debug, clap::Args)]
struct Permissions {
    #[command(flatten)]
    lane: lane::Args,
    /// planner, worker, reviewer or operator (default: all)
    #[arg(long, hide_possible_values = true)]
    role: Option<RoleName>,
    /// Who gets them (default: PREFIX-ROLE)
    #[arg(long, value_name = "NAME", requires = "role")]
    user: Option<String>,
    /// As definitions, for `rabbitmqctl import_definitions`
    #[arg(long)]
    json: bool,
    /// As lines of rabbitmq.conf, for the user with which a broker begins
    #[arg(long, requires = "role", conflicts_with_all = ["json", "user"])]
    conf: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RoleName {
    Planner,
    Worker,
    Reviewer,
    Operator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Planner => Self::Planner,
            RoleName::Worker => Self::Worker,
            RoleName::Reviewer => Self::Reviewer,
            RoleName::Operator => Self::Operator,
        }
    }
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
                print_json(&as_json(&report));
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
                print_json(&as_json(&objects));
            } else {
                print(&format!("for RabbitMQ {version}:\n"));
                for object in &objects {
                    print(&format!("{}\n", line(object)));
                }
            }
            Ok(Exit::Done)
        }
        Command::Permissions(wanted) => {
            let config = wanted.lane.load(world, false)?.config;
            print(&permissions(wanted, &config.broker.vhost(), &config.queues)?);
            Ok(Exit::Done)
        }
    }
}

fn permissions(wanted: &Permissions, vhost: &str, queues: &Queues) -> Result<String, Failure> {
    let roles = wanted.role.map_or_else(|| Role::ALL.to_vec(), |role| vec![role.into()]);
    let all: Vec<(String, Role, Rights)> = roles
        .into_iter()
        .map(|role| {
            let user = wanted.user.clone();
            let user = user.unwrap_or_else(|| format!("{}-{}", queues.prefix, role.as_str()));
            (user, role, role.rights(queues))
        })
        .collect();
    if wanted.conf {
        if all.iter().any(|(_, _, rights)| !rights.topics.is_empty()) {
            return Err(Failure::usage(
                "rabbitmq.conf has no place for rights on routing keys, and this role has some: leave out --conf, or use --json",
            ));
        }
        return Ok(all.iter().map(|(_, _, rights)| rights.conf()).collect());
    }
    if wanted.json {
        return Ok(as_json(&definitions(&all, vhost)));
    }
    let lines = all.iter().map(|(user, role, rights)| {
        format!("# {}: {}\n{}", role.as_str(), role.does(), rights.rabbitmqctl(user, vhost))
    });
    Ok(lines.collect())
}

/// In the form of RabbitMQ's definitions.
fn definitions(all: &[(String, Role, Rights)], vhost: &str) -> serde_json::Value {
    let permissions: Vec<_> = all
        .iter()
        .map(|(user, _, Rights { configure, write, read, .. })| {
            json!({ "user": user, "vhost": vhost, "configure": configure, "write": write, "read": read })
        })
        .collect();
    let topics = all.iter().flat_map(|(user, _, rights)| {
        rights.topics.iter().map(move |TopicRights { exchange, write, read }| {
            json!({ "user": user, "vhost": vhost, "exchange": exchange, "write": write, "read": read })
        })
    });
    json!({ "permissions": permissions, "topic_permissions": topics.collect::<Vec<_>>() })
}

fn warn_of(report: &Comparison) {
    report.left_over.iter().for_each(|left_over| eprintln!("{left_over}"));
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

fn as_json<T: serde::Serialize>(value: &T) -> String {
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
