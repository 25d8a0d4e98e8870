//! `sluice plan draft`: which plan do the account's source servers make?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ipnet::IpNet;

use crate::api::inventory::Inventory;
use crate::api::survey::{self, Standing};
use crate::api::{SourceFilter, SourceServer};
use crate::commands::share::Share;
use crate::commands::{Exit, Failure, World, account, lane, output, plan_file, runtime};
use crate::plan::{self, Drafted, Format, Known, Options, Written};
use crate::report::new_file::NewFile;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the account's list within the rate, and changes nothing there. A server that cannot be
migrated now is in the plan with the reason in x-sluice-skip, which leaves it out until then.
Examples: sluice plan draft plan.xlsx -c lane.toml
          sluice plan draft web.csv -c lane.toml --name 'web-*' --ready --set region_id=r1")]
pub(super) struct Args {
    /// Where to write it: .xlsx, .csv or .jsonl; `-`: stdout
    file: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Of all of them (default: by block for Windows, else by file)
    #[arg(long = "type", value_enum, value_name = "file|block", hide_possible_values = true)]
    task_type: Option<TaskType>,
    /// What rows share: a .json or .toml file with fields of a request
    #[arg(long, value_name = "FILE")]
    defaults: Option<PathBuf>,
    /// Put into every row
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// xlsx, csv or jsonl (default: by the file's ending)
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// Replace the file
    #[arg(long)]
    overwrite: bool,
    /// So much of limits.rates, such as 10%, and ask no worker for calls
    #[arg(long, value_name = "PERCENT")]
    share: Option<Share>,
    #[command(flatten)]
    lane: lane::Args,
}

/// Which source servers the plan has.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Filter {
    /// Only names like this, such as 'web-*'; several: any of them
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    name: Vec<glob::Pattern>,
    /// Only addresses of this network, such as 10.20.0.0/16
    #[arg(long, value_name = "CIDR", value_parser = network)]
    ip: Vec<IpNet>,
    /// Only linux, or only windows
    #[arg(long, value_enum, hide_possible_values = true, value_name = "linux|windows")]
    os: Option<Os>,
    /// Only those whose agent is connected
    #[arg(long)]
    connected: bool,
    /// Only those for which a task can be created now
    #[arg(long)]
    ready: bool,
    /// Only those of this migration project, by its id
    #[arg(long, value_name = "ID")]
    migration_project: Option<String>,
    /// Only those of this enterprise project, by its id
    #[arg(long, value_name = "ID")]
    enterprise_project: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TaskType {
    File,
    Block,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Os {
    Linux,
    Windows,
}

fn glob(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(text).map_err(|error| {
        format!(
            "`{text}` is no pattern of names: {}; write one such as web-* or db-0[1-4]",
            error.msg
        )
    })
}

fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| one())
        .map_err(|_| format!("`{text}` is no network: write it as 10.20.0.0/16, or one address"))
}

impl Filter {
    fn takes(&self, server: &SourceServer) -> bool {
        let same = glob::MatchOptions { case_sensitive: false, ..glob::MatchOptions::new() };
        let name = |pattern: &glob::Pattern| pattern.matches_with(&server.name, same);
        let address = server.ip.parse::<std::net::IpAddr>();
        let within = |net: &IpNet| address.as_ref().is_ok_and(|address| net.contains(address));
        let os = |os: Os| {
            server.os_type.eq_ignore_ascii_case(match os {
                Os::Linux => "LINUX",
                Os::Windows => "WINDOWS",
            })
        };
        (self.name.is_empty() || self.name.iter().any(name))
            && (self.ip.is_empty() || self.ip.iter().any(within))
            && self.os.is_none_or(os)
            && (!self.connected || server.connected != Some(false))
            && (!self.ready || survey::standing(server.clone()).standing == Standing::Free)
    }

    /// What the API tells apart, and its rows do not.
    fn of_list(&self) -> SourceFilter {
        SourceFilter {
            migration_project: self.migration_project.clone(),
            enterprise_project: self.enterprise_project.clone(),
        }
    }
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let format = args.format()?;
    let stdout = args.file == Path::new("-");
    // Before the API is asked for anything.
    let file = (!stdout).then(|| NewFile::create(&args.file, args.overwrite)).transpose();
    let file = file.map_err(Failure::usage)?;
    let config = args.lane.load(world, true)?.config;
    let options = Options {
        rules: config.contract.rules(),
        defaults: args.defaults.clone(),
        set: args.set.clone(),
        ..Options::default()
    };
    plan::can_share(&options).map_err(plan_file::failure)?;
    let wanted = |server: &SourceServer| args.filter.takes(server);
    let asked = account::Asked { filter: args.filter.of_list(), wanted: &wanted, whole: &|_| true };
    let found = runtime()?.block_on(account::ask(&asked, &config, args.share, world))?;
    if found.servers.is_empty() {
        eprintln!("nothing is written: {}", nothing(&found));
        return Ok(Exit::NotAllWell);
    }
    let (count, gone, unread) = (found.count, found.gone, found.unread);
    let known: Vec<Known> = found.servers.into_iter().map(account::known).collect();
    let task_type = args.task_type.map(|task_type| match task_type {
        TaskType::File => "MIGRATE_FILE",
        TaskType::Block => "MIGRATE_BLOCK",
    });
    let drafted =
        plan::drafted(known, &options, task_type, format).map_err(|error| match error {
            plan::DraftError::Shared(error) => plan_file::failure(error),
            plan::DraftError::Book(_) => Failure::usage(error),
        })?;
    match file {
        None => output::write(&drafted.bytes),
        Some(mut file) => {
            file.write_all(&drafted.bytes).map_err(|error| {
                Failure::usage(format!("cannot write {}: {error}", args.file.display()))
            })?;
            file.keep().map_err(Failure::usage)?;
        }
    }
    eprint!("{}", args.said(&drafted, count, found.calls, &gone, unread));
    Ok(Exit::Done)
}

/// Why no server is left.
fn nothing(found: &Inventory) -> String {
    match found.count {
        0 => "the account has no source servers that are asked for; an agent registers one"
            .to_owned(),
        count => format!("none of the account's {count} source servers is one that is asked for"),
    }
}

impl Args {
    fn format(&self) -> Result<Written, Failure> {
        let format = self.format.map_or_else(|| plan::format_of(&self.file), Ok);
        account::written(format.map_err(plan_file::failure)?)
    }

    fn said(
        &self,
        drafted: &Drafted,
        count: u32,
        calls: u32,
        gone: &[String],
        unread: u32,
    ) -> String {
        let Drafted { rows, skipped, open, .. } = drafted;
        let shown = self.file.display();
        let mut text =
            format!("{shown}: {rows} of the account's {count} source servers, in {calls} calls\n");
        if *skipped > 0 {
            let _ = writeln!(
                text,
                "  {skipped} of them are left out for now: x-sluice-skip says why, and is to be taken away"
            );
        }
        for (field, rows) in open {
            let _ = writeln!(
                text,
                "  to be filled in: {field} ({rows} rows), or with --set {field}=..."
            );
        }
        if !gone.is_empty() {
            let _ = writeln!(text, "  gone while it was read: {}", gone.join(", "));
        }
        if unread > 0 {
            let _ =
                writeln!(text, "  {unread} rows of the API's list cannot be read, and are missing");
        }
        let _ = writeln!(text, "next: sluice check {shown}{}", self.lane.shown());
        text
    }
}
