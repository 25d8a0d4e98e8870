//! `sluice config check|show`: is a configuration right, and what holds?

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Exit, Failure, World, lane, lanes, print, print_json};
use crate::config::Problem;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report all problems at once, with line and column
    #[command(after_help = "\
Several files are checked as the lanes of one `sluice run`, which must not share queues.
Example: sluice config check -c lane.toml")]
    Check(Check),
    /// Print what holds and where it comes from, secrets masked
    #[command(after_help = "\
Every key can be overridden: SLUICE_LIMITS__RATES=\"5/s\" or -o limits.rates=5/s
Example: sluice config show -c lane.toml | grep SLUICE_")]
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    lanes: lanes::Args,
    /// Problems and warnings as JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    lane: lane::Args,
    /// The commented default file, to start from
    #[arg(long, conflicts_with_all = ["config", "overrides"])]
    default: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    match &args.command {
        Command::Check(check) if check.json => return Ok(report(&check.lanes, world)),
        Command::Check(check) => {
            let lanes = check.lanes.load(world)?;
            for warning in lanes.iter().flat_map(|(_, loaded)| &loaded.warnings) {
                eprintln!("warning: {warning}");
            }
            let valid =
                if lanes.len() == 1 { "the configuration is" } else { "the configurations are" };
            eprintln!("{valid} valid");
        }
        Command::Show(show) if show.default => print(crate::lane::DEFAULT),
        // What is shown may still lack a credential: `check` says so.
        Command::Show(show) => print(&show.lane.load(world, false)?.show()),
    }
    Ok(Exit::Done)
}

/// The same for other programs: `{valid, lanes: [{file, problems, warnings}], problems}`; the last are those between lanes.
fn report(lanes: &lanes::Args, world: &World) -> Exit {
    let tell = |problems: &[Problem]| problems.iter().map(Problem::to_json).collect::<Vec<_>>();
    let each = lanes.each(world);
    let mut valid = each.iter().all(|(_, read)| read.is_ok());
    let told = each.iter().map(|(file, read)| {
        let (problems, warnings) = match read {
            Ok(loaded) => (Vec::new(), tell(&loaded.warnings)),
            Err(problems) => (tell(problems.all()), Vec::new()),
        };
        json!({ "file": file, "problems": problems, "warnings": warnings })
    });
    let told: Vec<Value> = told.collect();
    let mut between = Vec::new();
    if valid && let Err(failure) = lanes.load(world) {
        valid = false;
        between.push(failure.message);
    }
    let report = json!({ "valid": valid, "lanes": told, "problems": between });
    print_json(&format!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default()));
    if valid { Exit::Done } else { Exit::Usage }
}
